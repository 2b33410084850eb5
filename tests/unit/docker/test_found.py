"""What the filters of the role docker make of a host's answer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROLE = Path(__file__).resolve().parents[3] / "roles/docker"
SPEC = importlib.util.spec_from_file_location("docker_filters", ROLE / "filter_plugins/docker.py")
assert SPEC is not None
assert SPEC.loader is not None
FILTERS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(FILTERS)

INFO = {
    "ClientInfo": {
        "Plugins": [{"Name": "compose", "Version": "v2.26.1-4"}, {"Name": "scan", "Err": "broken"}]
    },
}
ANSWERS = {
    "packages": "installed docker.io 26.1.5+dfsg1-9\nnot-installed docker-ce \ninstalled docker-compose 2.26",
    "files": "directory 755 root:root /etc/docker",
    "daemon": '{\n    "live-restore": true\n}',
    "repository": "Types: deb",
    "unit": "enabled\nactive",
    "group": "docker:x:998:deploy,alice",
    "compose": "own",
    "age": "",
    "release": 'NAME="Debian GNU/Linux"\nVERSION_ID="13"\nVERSION_CODENAME=trixie\nID=debian',
}
BARE = {**dict.fromkeys(ANSWERS, ""), "release": ANSWERS["release"]}


def found(greeting: str = "", **other: str) -> dict[str, Any]:
    """What is made of these answers, in the form in which look.yml gets them."""
    stdout = f"{greeting}\n" + "\n\n--\n".join({**ANSWERS, **other}.values()) + "\n"
    told: dict[str, Any] = FILTERS.found(stdout)
    return told


def test_every_answer_is_found() -> None:
    told = found()
    assert told["installed"] == ["docker.io", "docker-compose"]
    assert (told["source"], told["version"]) == ("distribution", "26.1.5")
    assert told["system"] == {"id": "debian", "name": "Debian 13", "codename": "trixie"}
    assert told["seen"] == {
        "source": "distribution",
        "files": ["directory 755 root:root /etc/docker"],
        "daemon": ANSWERS["daemon"],
        "repository": "",
        "unit": ["enabled", "active"],
        "users": ["alice", "deploy"],
        "compose": True,
        "stale": False,
    }


def test_what_a_login_greets_with_is_no_answer() -> None:
    assert (
        found(greeting="Welcome\ninstalled updates are managed here\n--\ninstalled docker-ce\n--\n--\nBye")
        == found()
    )


def test_what_dpkg_does_not_say_is_no_package() -> None:
    assert found(packages=f"installed updates are managed here\n{ANSWERS['packages']}") == found()


def test_docker_s_own_packages_go_with_its_repository() -> None:
    told = found(packages="installed docker-ce 5:27.0.3-1~debian.13\ninstalled docker.io 26.1.5")
    assert (told["source"], told["version"], told["seen"]["repository"]) == ("docker", "27.0.3", "Types: deb")


def test_a_bare_host_has_nothing() -> None:
    told = found(**BARE)
    assert (told["installed"], told["source"], told["version"]) == ([], "none", "")
    assert told["seen"]["users"] == told["seen"]["unit"] == told["seen"]["files"] == []
    assert not told["seen"]["compose"]


def test_a_group_of_nobody_has_no_member() -> None:
    assert found(group="docker:x:998:")["seen"]["users"] == []


def test_settings_that_are_newer_than_the_engine_are_stale() -> None:
    assert found(age="stale")["seen"]["stale"] is True


@pytest.mark.parametrize(
    ("release", "system"),
    [
        ('ID=ubuntu\nVERSION_ID="24.04"\nVERSION_CODENAME=noble', ("ubuntu", "Ubuntu 24.04", "noble")),
        ('ID="rocky"\nNAME="Rocky Linux"\nVERSION_ID="9.4"', ("rocky", "Rocky Linux 9.4", "")),
        ("", ("", "an unknown system", "")),
    ],
)
def test_a_system_is_named_as_people_do(release: str, system: tuple[str, str, str]) -> None:
    assert tuple(found(release=release)["system"].values()) == system


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("20.10.24+dfsg1-1+deb12u1", "20.10.24"),
        ("5:27.0.3-1~ubuntu.24.04~noble", "27.0.3"),
        ("24.0.7-0ubuntu4", "24.0.7"),
    ],
)
def test_a_distribution_adds_to_the_engine_s_version(version: str, upstream: str) -> None:
    assert found(packages=f"installed docker.io {version}")["version"] == upstream


@pytest.mark.parametrize(
    ("info", "compose"),
    [
        (INFO, 2),
        ({"ClientInfo": {"Plugins": [{"Name": "compose", "Version": "5.0.0"}]}}, 5),
        ({"ClientInfo": {"Plugins": [{"Name": "compose"}]}}, 0),
        ({"ClientInfo": {"Plugins": [{"Name": "compose", "Version": "dev"}]}}, 0),
        ({"ClientInfo": {"Plugins": None}}, 0),
    ],
)
def test_the_engine_tells_which_compose_answers(info: dict[str, Any], compose: int) -> None:
    assert FILTERS.engine(json.dumps(info))["compose"] == compose
    assert found(compose=json.dumps(info))["seen"]["compose"] is (compose >= 2)


def test_an_engine_that_does_not_answer_has_no_compose() -> None:
    assert FILTERS.engine("") == {"plugins": {}, "compose": 0}


DAEMON = ANSWERS["daemon"]
FOLDER = "directory 755 root:root /etc/docker"
FILE = "regular file 644 root:root"
PACKAGES: dict[str, Any] = {
    "own": ["docker-ce", "docker-compose-plugin"],
    "distribution": {"bookworm": [], "trixie": ["docker.io", "docker-compose"]},
}
SETTINGS = {
    **PACKAGES,
    "source": "auto",
    "users": ["deploy", "alice", "deploy"],
    "entries": ["/etc/key", "/etc/sources"],
    "daemon": DAEMON,
    "repository": "",
}
DONE = {"files": f"{FOLDER}\n{FILE} /etc/docker/daemon.json"}
OWN = {
    "packages": "installed docker-ce 5:27.0.3\ninstalled docker-compose-plugin 2.28",
    "files": f"{DONE['files']}\n{FILE} /etc/key\n{FILE} /etc/sources",
}


def differs(settings: dict[str, Any] | None = None, **answers: str) -> bool:
    """Whether a host that answers so differs from these settings."""
    told: bool = FILTERS.differs(found(**{**DONE, **answers}), **{**SETTINGS, **(settings or {})})
    return told


def test_a_host_as_its_settings_say_does_not_differ() -> None:
    assert not differs()
    assert not differs({"source": "distribution"})
    assert not differs({"repository": "Types: deb\n"}, **OWN)
    assert not differs({"repository": "Types: deb\n", "source": "docker"}, **OWN)


@pytest.mark.parametrize(
    "answers",
    [
        BARE,
        {"packages": "installed docker.io 26.1.5"},
        {"files": FOLDER},
        {"files": DONE["files"].replace("644", "666")},
        {"files": f"{DONE['files']}\n{FILE} /etc/apt/sources.list.d/docker.list"},
        {"daemon": ""},
        {"unit": "disabled\nactive"},
        {"unit": "enabled\nfailed"},
        {"group": "docker:x:998:deploy"},
        {"group": "docker:x:998:alice,deploy,eve"},
        {"compose": ""},
        {"compose": json.dumps({"ClientInfo": {"Plugins": [{"Name": "compose", "Version": "1.29"}]}})},
        {"age": "stale"},
        # Docker's own, without what its repository needs; with the repository of somebody else.
        {**OWN, "files": DONE["files"]},
        {**OWN, "repository": "Types: deb\nTrusted: yes"},
    ],
)
def test_whatever_differs_is_seen(answers: dict[str, str]) -> None:
    assert differs({"repository": "Types: deb"}, **answers)


def test_an_engine_from_elsewhere_differs() -> None:
    assert differs({"source": "docker"})
    assert differs({"source": "distribution", "repository": "Types: deb"}, **OWN)


WELL = {
    "users": ["deploy"],
    "registry_mirrors": ["https://mirror.example", "http://hub:5000"],
    "repository_fingerprint": "0123456789ABCDEF0123456789ABCDEF01234567",
    "log_max_size": 10,
    "log_max_files": "3",
    "address_pools": [{"base": "10.200.0.0/16", "size": 24}],
    "upgrade": True,
    "daemon_options": {},
    "registry_logins": [
        {"host": "a", "username": "b", "password": "c"},
        {"host": "d", "state": "absent"},
    ],
}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, ""),
        ({"registry_mirrors": ["hub:5000"]}, "docker_registry_mirrors: hub:5000 is no address of a mirror"),
        ({"registry_mirrors": "https://mirror.example"}, "docker_registry_mirrors is no list"),
        ({"registry_mirrors": [5000]}, "docker_registry_mirrors: 5000 is no address of a mirror"),
        ({"users": "deploy"}, "docker_users is no list"),
        ({"repository_fingerprint": None}, "docker_repository_fingerprint: None is no fingerprint"),
        ({"repository_fingerprint": "9DC8"}, "docker_repository_fingerprint: 9DC8 is no fingerprint"),
        ({"log_max_size": 0}, "docker_log_max_size: 0 is out of range: write 1 to 10000."),
        ({"log_max_files": "101"}, "docker_log_max_files: 101 is out of range: write 1 to 100."),
        (
            {"address_pools": [{"base": "10.0.0.0", "size": 24}]},
            "docker_address_pools: 10.0.0.0 is no network",
        ),
        (
            {"address_pools": [{"base": "10.0.0.0/16", "size": 30}]},
            "docker_address_pools: 10.0.0.0/16 cannot be cut into pieces of /30: write a size of 16 to 29.",
        ),
        ({"daemon_options": {"live-restore": False}}, "docker_upgrade would stop every container"),
        ({"daemon_options": {"live-restore": False}, "upgrade": False}, ""),
        (
            {"registry_logins": [{"host": "ghcr.io", "username": "me"}]},
            "docker_registry_logins: ghcr.io needs",
        ),
        ({"log_max_size": 0, "log_max_files": 0}, "docker_log_max_size"),
    ],
)
def test_settings_that_cannot_be_meant_so_are_told(settings: dict[str, Any], told: str) -> None:
    problem = FILTERS.problem(found(), ["trixie"], **{**WELL, **settings})
    assert problem.startswith(told)
    assert bool(problem) == bool(told)


def test_a_system_that_the_role_is_not_made_for_is_told_first() -> None:
    problem = FILTERS.problem(found(), ["bookworm"], **{**WELL, "log_max_size": 0})
    assert problem.startswith("Debian 13 is not supported: reinstall the server")
