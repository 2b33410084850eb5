"""Filters of the role docker: what a host answered, what of it differs from the settings, and settings that cannot be meant so."""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the names of /etc/os-release are to people.
SYSTEMS = {"debian": "Debian", "ubuntu": "Ubuntu"}
# By which package a source is known.
SOURCES = {"docker-ce": "docker", "docker.io": "distribution"}
# How many look.yml asks for.
ANSWERS = 9
MIRROR = re.compile("https?://[^/ ]+")
FINGERPRINT = re.compile("[0-9A-F]{40}$")
NETWORK = re.compile("([0-9]{1,3}[.]){3}[0-9]{1,3}/([89]|[12][0-9])$")


def found(stdout: str) -> dict[str, Any]:
    """Return what look.yml was told.

    Args:
        stdout: nine answers in its order, with a line ``--`` between them; what is not there answered nothing.

    Returns:
        ``installed``, the packages; ``source``, where the engine comes from: docker, distribution or none; ``version`` of the
        engine, empty where there is none; ``system``: ``id``, ``name`` with the version, and ``codename``; ``seen``, what is
        compared with the settings.
    """
    # What a login greets with comes before, whatever it is.
    answers = [answer.strip() for answer in f"\n{stdout}\n".split("\n--\n")][-ANSWERS:]
    packages, files, daemon, repository, unit, group, compose, age, release = answers
    rows = (line.split() for line in packages.splitlines() if line.startswith("installed "))
    installed = {row[1]: row[2] for row in rows if len(row) == 3}
    source = next((SOURCES[name] for name in SOURCES if name in installed), "none")
    return {
        "installed": list(installed),
        "source": source,
        "version": upstream(next((installed[name] for name in SOURCES if name in installed), "")),
        "system": system(release),
        "seen": {
            "source": source,
            "files": files.splitlines(),
            "daemon": daemon,
            "repository": repository if source == "docker" else "",
            "unit": unit.split(),
            "users": sorted(filter(None, group.split(":")[-1].split(","))),
            "compose": compose == "own" or engine(compose)["compose"] >= 2,
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


def upstream(version: str) -> str:
    """Return a package's version without what the distribution adds: 26.1.5 of 26.1.5+dfsg1-9, 27.0.3 of 5:27.0.3-1~debian."""
    numbers = re.match(r"(?:[0-9]+:)?([0-9.]+)", version)
    return numbers[1] if numbers else ""


def engine(info: str) -> dict[str, Any]:
    """Return what `docker info` tells as JSON.

    Returns:
        ``plugins``, the version of each that starts; ``compose``, the main version of Compose, 0 where it does not start.
    """
    told = json.loads(info or "{}")
    listed = (told.get("ClientInfo") or {}).get("Plugins") or []
    # A broken one has no version.
    plugins = {plugin["Name"]: plugin["Version"] for plugin in listed if plugin.get("Version")}
    compose = re.match(r"v?([0-9]+)", plugins.get("compose", ""))
    return {
        "plugins": plugins,
        "compose": int(compose[1]) if compose else 0,
    }


def differs(told: dict[str, Any], **settings: Any) -> bool:  # noqa: ANN401 - settings
    """Return whether a host is not as its settings say.

    Args:
        told: what `found` returns.
        settings: ``source``, where the engine has to come from: docker, distribution, or auto, which takes what is there;
            ``own`` and ``distribution``, the packages of each, the latter by codename; ``daemon`` and ``repository``, the
            contents of their files; ``entries``, the files that the repository needs; ``users``, the group's members.
    """
    source, seen = told["source"], told["seen"]
    if source == "none" or settings["source"] not in ("auto", source):
        return True
    files = ["directory 755 root:root /etc/docker", "regular file 644 root:root /etc/docker/daemon.json"]
    packages, repository = settings["distribution"].get(told["system"]["codename"], []), ""
    if source == "docker":
        files += [f"regular file 644 root:root {path}" for path in settings["entries"]]
        packages, repository = settings["own"], settings["repository"].strip()
    meant = {
        "source": source,
        "files": files,
        "daemon": settings["daemon"],
        "repository": repository,
        "unit": ["enabled", "active"],
        "users": sorted(set(settings["users"])),
        "compose": True,
        "stale": False,
    }
    return any(seen[part] != value for part, value in meant.items()) or not set(packages) <= set(
        told["installed"]
    )


def problem(told: dict[str, Any], codenames: list[str], **settings: Any) -> str:  # noqa: ANN401 - settings
    """Return in one line what is wrong first: a system that the role is not made for, or a rule that no argument spec can express.

    Args:
        told: what `found` returns.
        codenames: of the systems that the role is made for.
        settings: those of the role, without ``docker_``.
    """
    here = told["system"]
    if here["codename"] not in codenames:
        return f"{here['name']} is not supported: reinstall the server with Debian 12 or 13, or Ubuntu 22.04 or 24.04."
    kinds = (list_problems, repository_problems, engine_problems, login_problems)
    line = next(chain.from_iterable(kind(settings) for kind in kinds), "")
    return " ".join(line.split())  # whatever the value is


def list_problems(settings: dict[str, Any]) -> Iterator[str]:
    """Tell which list is a single value: the argument spec takes it for a list, and a template for its letters."""
    for name in ("registry_mirrors", "users"):
        if not isinstance(settings[name], list):
            yield f"docker_{name} is no list: write each value on a line of its own, behind a hyphen."


def repository_problems(settings: dict[str, Any]) -> Iterator[str]:
    """Tell what is wrong with where packages and images come from."""
    for mirror in map(str, settings["registry_mirrors"]):
        if not MIRROR.match(mirror):
            meant = re.sub("^.*://", "", mirror)
            yield (
                f"docker_registry_mirrors: {mirror} is no address of a mirror: write https://{meant} (or http://, in a network "
                "you trust)."
            )
    fingerprint = str(settings["repository_fingerprint"])
    if not FINGERPRINT.match(fingerprint):
        yield (
            f"docker_repository_fingerprint: {fingerprint} is no fingerprint: write its 40 hexadecimal digits without blanks."
        )


def engine_problems(settings: dict[str, Any]) -> Iterator[str]:
    """Tell what is wrong with the engine's settings."""
    for name, highest in (("log_max_size", 10000), ("log_max_files", 100)):
        if not 1 <= int(float(settings[name])) <= highest:
            yield f"docker_{name}: {settings[name]} is out of range: write 1 to {highest}."
    for pool in settings["address_pools"]:
        base, size = str(pool["base"]), pool["size"]
        bits = base.rpartition("/")[2]
        if not NETWORK.match(base):
            yield f"docker_address_pools: {base} is no network: write for example 10.200.0.0/16."
        elif not int(bits) <= int(size) <= 29:
            yield (
                f"docker_address_pools: {base} cannot be cut into pieces of /{size}: write a size of {bits} to 29."
            )
    if settings["upgrade"] and not settings["daemon_options"].get("live-restore", True):
        yield (
            "docker_upgrade would stop every container, because live-restore is off: plan an outage and upgrade by hand."
        )


def login_problems(settings: dict[str, Any]) -> Iterator[str]:
    """Tell which login lacks something."""
    for login in settings["registry_logins"]:
        complete = login.get("username") and login.get("password")
        if login.get("state", "present") == "present" and not complete:
            yield f"docker_registry_logins: {login['host']} needs a username and a password."


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "docker_found": found,
            "docker_engine": engine,
            "docker_differs": differs,
            "docker_problem": problem,
        }
