"""Filters of the role bootstrap: what differs between a host and its settings."""

from __future__ import annotations

import hashlib
import json
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


def units_to_mend(units: list[dict[str, Any]], told: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the wanted units that are not enabled, or that are not ``active`` where they have to be."""
    states = {unit["name"]: told.get(unit["name"]) or {"enabled": False, "active": False} for unit in units}
    return [
        unit
        for unit in units
        if unit["wanted"]
        and not (states[unit["name"]]["enabled"] and (states[unit["name"]]["active"] or not unit["active"]))
    ]


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
            "bootstrap_units_to_mend": units_to_mend,
            "bootstrap_sysctls": sysctls,
            "bootstrap_sysctls_here": sysctls_here,
            "bootstrap_sysctls_in_force": sysctls_in_force,
            "bootstrap_overridden": overridden,
            "bootstrap_reason": reason,
        }
