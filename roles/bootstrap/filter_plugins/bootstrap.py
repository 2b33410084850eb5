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
        to be noted down when they are.
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
    return {"write": write, "remove": remove, "fresh": fresh, "note": note}


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
            "bootstrap_overridden": overridden,
            "bootstrap_reason": reason,
        }
