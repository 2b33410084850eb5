"""Filters of the role docker: what a host answered."""

from __future__ import annotations

import json
import re
from typing import Any

# What the names of /etc/os-release are to people.
SYSTEMS = {"debian": "Debian", "ubuntu": "Ubuntu"}
# By which package a source is known.
SOURCES = {"docker-ce": "docker", "docker.io": "distribution"}
# How many look.yml asks for.
ANSWERS = 9


def found(stdout: str) -> dict[str, Any]:
    """Return what look.yml was told.

    Args:
        stdout: nine answers in its order, with a line ``--`` between them; what is not there answered nothing.

    Returns:
        ``installed``, the packages; ``source``, where the engine comes from: docker, distribution or none; ``info``, what the
        engine tells; ``system``: ``id``, ``name`` with the version, and ``codename``; ``seen``, what is compared with the
        settings.
    """
    # What a login greets with comes before, whatever it is.
    answers = [answer.strip() for answer in f"\n{stdout}\n".split("\n--\n")][-ANSWERS:]
    packages, files, daemon, repository, unit, group, info, age, release = answers
    installed = [line.split()[-1] for line in packages.splitlines() if line.startswith("installed ")]
    source = next((SOURCES[name] for name in SOURCES if name in installed), "none")
    return {
        "installed": installed,
        "source": source,
        "info": info,
        "system": system(release),
        "seen": {
            "source": source,
            "files": files.splitlines(),
            "daemon": daemon,
            "repository": repository if source == "docker" else "",
            "unit": unit.split(),
            # In the order of Jinja's sort, which is that of the other side.
            "users": sorted(filter(None, group.split(":")[-1].split(",")), key=str.lower),
            "compose": engine(info)["compose"] >= 2,
            "stale": age == "stale",
        },
    }


def system(release: str) -> dict[str, str]:
    """Return what /etc/os-release says."""
    pairs = (line.split("=", 1) for line in release.splitlines() if "=" in line)
    told = {key: value.strip("\"'") for key, value in pairs}
    name = SYSTEMS.get(told.get("ID", ""), told.get("NAME", "an unknown system"))
    return {
        "id": told.get("ID", ""),
        "name": f"{name} {told.get('VERSION_ID', '')}".strip(),
        "codename": told.get("VERSION_CODENAME", ""),
    }


def engine(info: str) -> dict[str, Any]:
    """Return what `docker info` tells as JSON.

    Returns:
        ``version`` of the engine, empty where it is not there or is down; ``plugins``, the version of each that starts;
        ``compose``, the main version of Compose, 0 where it does not start.
    """
    told = json.loads(info or "{}")
    listed = (told.get("ClientInfo") or {}).get("Plugins") or []
    # A broken one has no version.
    plugins = {plugin["Name"]: plugin["Version"] for plugin in listed if plugin.get("Version")}
    compose = re.match(r"v?([0-9]+)", plugins.get("compose", ""))
    return {
        "version": told.get("ServerVersion") or "",
        "plugins": plugins,
        "compose": int(compose[1]) if compose else 0,
    }


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"docker_found": found, "docker_engine": engine}
