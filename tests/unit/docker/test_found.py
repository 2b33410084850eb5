"""What the filters of the role docker make of a host's answer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment

ROLE = Path(__file__).resolve().parents[3] / "roles/docker"
SPEC = importlib.util.spec_from_file_location("docker_filters", ROLE / "filter_plugins/docker.py")
assert SPEC is not None
assert SPEC.loader is not None
FILTERS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(FILTERS)

INFO = {
    "ServerVersion": "26.1.5",
    "ClientInfo": {
        "Plugins": [{"Name": "compose", "Version": "v2.26.1-4"}, {"Name": "scan", "Err": "broken"}]
    },
}
ANSWERS = {
    "packages": "installed docker.io\nnot-installed docker-ce\ninstalled docker-compose",
    "files": "directory 755 root:root /etc/docker",
    "daemon": '{\n    "live-restore": true\n}',
    "repository": "Types: deb",
    "unit": "enabled\nactive",
    "group": "docker:x:998:deploy,alice",
    "info": json.dumps(INFO),
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
    assert told["source"] == "distribution"
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
    assert found(greeting="Welcome, installed user\n--\ninstalled docker-ce\n--\n--\nBye") == found()


def test_docker_s_own_packages_go_with_its_repository() -> None:
    told = found(packages="installed docker-ce\ninstalled docker.io")
    assert (told["source"], told["seen"]["repository"]) == ("docker", "Types: deb")


def test_a_bare_host_has_nothing() -> None:
    told = found(**BARE)
    assert (told["installed"], told["source"], told["info"]) == ([], "none", "")
    assert told["seen"]["users"] == told["seen"]["unit"] == told["seen"]["files"] == []
    assert not told["seen"]["compose"]


def test_users_are_in_the_order_of_jinja_s_sort() -> None:
    """Or a host would never be as its settings say."""
    names = ["deploy", "Bob", "alice"]
    wanted = Environment(autoescape=True).from_string("{{ names | sort | join(' ') }}").render(names=names)
    assert found(group=f"docker:x:998:{','.join(names)}")["seen"]["users"] == wanted.split()


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
    ("info", "version", "compose"),
    [
        (INFO, "26.1.5", 2),
        ({"ClientInfo": {"Plugins": [{"Name": "compose", "Version": "5.0.0"}]}}, "", 5),
        ({"ServerVersion": "20.10.24", "ClientInfo": {"Plugins": [{"Name": "compose"}]}}, "20.10.24", 0),
        ({"ClientInfo": {"Plugins": [{"Name": "compose", "Version": "dev"}]}}, "", 0),
        ({"ServerVersion": "28.0.1", "ClientInfo": {"Plugins": None}}, "28.0.1", 0),
    ],
)
def test_the_engine_tells_its_version_and_that_of_compose(
    info: dict[str, Any], version: str, compose: int
) -> None:
    told = FILTERS.engine(json.dumps(info))
    assert (told["version"], told["compose"]) == (version, compose)
    assert found(info=json.dumps(info))["seen"]["compose"] is (compose >= 2)


def test_an_engine_that_does_not_answer_has_no_version() -> None:
    assert FILTERS.engine("") == {"version": "", "plugins": {}, "compose": 0}
