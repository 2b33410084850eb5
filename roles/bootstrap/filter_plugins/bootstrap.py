"""Filters of the role bootstrap: what differs between a host and its settings."""

from __future__ import annotations

import hashlib
import json
from itertools import chain
from typing import Any

KEYS = "/etc/ssh/authorized_keys.d"


def key_files(users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one file for each user, with the public keys that open the door, each behind its options."""
    files = []
    for user in users:
        options = user.get("key_options") or ""
        lines = [f"{options} {key}".strip() for key in user.get("authorized_keys", [])]
        content = "".join(f"{line}\n" for line in ["# Written by Ansible (bootstrap).", *lines])
        files.append({"path": f"{KEYS}/{user['name']}", "part": "access", "content": content})
    return files


def drift(wanted: list[dict[str, Any]], host: dict[str, Any]) -> dict[str, Any]:
    """Compare files with a host.

    Args:
        wanted: files, each with ``path``, ``part``, ``content`` and perhaps ``mode`` (default 0644).
        host: what the module bootstrap_probe tells of it.

    Returns:
        ``write``, the files that differ; ``remove``, the paths of key files that nobody wants any more; ``fresh``, the
        parts whose files are the same as at the last time they were put into force; ``note``, a hash for each part,
        to be noted down when they are; ``any``, whether there is anything to do.
    """
    write, hashes = [], {}
    for file in wanted:
        mode = file.get("mode", "0644")
        content = file["content"]
        found = host["paths"].get(file["path"]) or {}
        same = {
            "kind": "file",
            "mode": mode,
            "owner": "root",
            "group": "root",
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
        }
        if {key: found.get(key) for key in same} != same:
            write.append({**file, "mode": mode, "content": content})
        hashes.setdefault(file["part"], []).append([file["path"], mode, same["sha256"]])
    kept = {file["path"] for file in wanted}
    present = [f"{KEYS}/{name}" for name in host["listings"].get(KEYS, [])]
    remove = [path for path in present if path not in kept]
    note = {
        part: hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest() for part, files in hashes.items()
    }
    differs = {file["part"] for file in write} | ({"access"} if remove else set())
    fresh = [
        part for part, value in note.items() if part not in differs and host["applied"].get(part) == value
    ]
    anything = bool(remove) or len(fresh) < len(note)
    return {"write": write, "remove": remove, "fresh": fresh, "note": note, "any": anything}


def absent(users: list[dict[str, Any]]) -> list[str]:
    """Return the names of those who must not be there."""
    return [user["name"] for user in users if user.get("state") == "absent"]


def present(users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those who must be there."""
    return [user for user in users if user.get("state") != "absent"]


def to_mend(host: dict[str, Any], **meant: Any) -> dict[str, list[Any]]:  # noqa: ANN401 - settings
    """Compare a host with all settings but those that are files.

    Args:
        host: what the module bootstrap_probe tells of it.
        meant: ``users`` and ``absent``, names; ``directories``, and ``owner`` of all of them; ``units``, and ``switches``, which
            of them are wanted; ``login_defs``; ``hostname``, empty for any, and ``timezone``; ``sysctls``; ``ssh``, which values
            each setting in force may have; ``there``, files that have to be there, by a word for each; ``supported``, whether
            the role is made for this system.

    Returns:
        What differs, by kind: ``packages``, ``users``, ``absent``, ``directories``, ``units``, ``login_defs``, ``rest``; and
        ``words``, one for each of these. All are empty where the host is as it should be.
    """
    directory = {"kind": "directory", "mode": "0750", "owner": meant["owner"], "group": meant["owner"]}
    zone = (host["paths"]["/etc/localtime"] or {}).get("target")
    rest = {
        "system": not meant["supported"],
        "undo": host["unproved"],
        "dpkg": host["dpkg_interrupted"],
        "firewall": meant["switches"]["firewall"] and host["firewall"] != "loaded",
        "SSH": overridden(meant["ssh"], host["ssh"]["in_force"]),
        "sysctl": not sysctls_in_force(meant["sysctls"], host["sysctls"]),
        "hostname": meant["hostname"] not in ("", host["hostname"]),
        "timezone": zone != f"/usr/share/zoneinfo/{meant['timezone']}",
    }
    differs = {
        "packages": [name for name, there in host["packages"].items() if not there],
        "users": [
            name for name in meant["users"] if name != "root" and not in_order(host["accounts"].get(name))
        ],
        "absent": [name for name in meant["absent"] if host["accounts"].get(name)],
        "directories": [path for path in meant["directories"] if host["paths"][path] != directory],
        "login_defs": [
            key for key, value in meant["login_defs"].items() if host["login_defs"].get(key) != str(value)
        ],
        "rest": [word for word, differs in rest.items() if differs]
        + [word for word, path in meant["there"].items() if host["paths"][path] is None],
    }
    units = units_to_mend(meant["units"], host, meant["switches"])
    words = [*chain.from_iterable(differs.values()), *(unit["name"] for unit in units)]
    return {**differs, "units": units, "words": words}


def in_order(account: dict[str, Any] | None) -> bool:
    """Return whether a user is as the role makes one."""
    return account is not None and account["locked"] and account["shell"] == "/bin/bash"


def units_to_mend(
    units: list[dict[str, Any]], host: dict[str, Any], switches: dict[str, bool]
) -> list[dict[str, Any]]:
    """Return the wanted units that are not enabled, or that are not ``active`` where they have to be."""
    wanted = [
        unit
        for unit in units
        if switches[unit["switch"]] and (unit.get("contained", True) or not host["container"])
    ]
    return [unit for unit in wanted if not runs(host["units"].get(unit["name"]), unit)]


def runs(found: dict[str, bool] | None, unit: dict[str, Any]) -> bool:
    """Return whether a unit is as it has to be."""
    return found is not None and found["enabled"] and (found["active"] or not unit["active"])


def sysctls(ours: list[dict[str, Any]], own: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the kernel settings of the role with the user's own in their place; an empty value takes one out."""
    kept = [setting for setting in ours if setting["key"] not in own]
    given = {key: value for key, value in own.items() if value not in ("", None)}
    return kept + [{"key": key, "value": value, "why": "bootstrap_sysctl"} for key, value in given.items()]


def sysctls_here(
    wanted: list[dict[str, Any]], told: dict[str, Any], *, contained: bool
) -> list[dict[str, Any]]:
    """Return those that this kernel has; in a container those of its own network, because all others are the machine's."""
    there = [setting for setting in wanted if told.get(setting["key"]) is not None]
    return [setting for setting in there if not contained or setting["key"].startswith("net.")]


def sysctls_in_force(here: list[dict[str, Any]], told: dict[str, Any]) -> bool:
    """Return whether the kernel has all of these values."""
    return all(told[setting["key"]] == str(setting["value"]) for setting in here)


def overridden(meant: dict[str, list[str]], in_force: dict[str, str]) -> list[str]:
    """Return the settings that have none of the values that are meant."""
    return [key for key, values in meant.items() if in_force.get(key) not in values]


def reason(result: dict[str, Any]) -> str:
    """Return in one line why a task failed: the first line that its command printed, or else its message."""
    for name in ("stderr", "msg"):
        lines = [line.strip() for line in str(result.get(name) or "").splitlines() if line.strip()]
        if lines:
            return lines[0].rstrip(".")
    return "it failed without a message"


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "bootstrap_key_files": key_files,
            "bootstrap_drift": drift,
            "bootstrap_absent": absent,
            "bootstrap_present": present,
            "bootstrap_to_mend": to_mend,
            "bootstrap_sysctls": sysctls,
            "bootstrap_sysctls_here": sysctls_here,
            "bootstrap_overridden": overridden,
            "bootstrap_reason": reason,
        }
