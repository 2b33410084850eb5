"""What the filters of the role bootstrap make of a host and its settings."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROLE = Path(__file__).resolve().parents[3] / "roles/bootstrap"
SPEC = importlib.util.spec_from_file_location("bootstrap_filters", ROLE / "filter_plugins/bootstrap.py")
assert SPEC is not None
assert SPEC.loader is not None
FILTERS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(FILTERS)

FILE = {"path": "/etc/one", "part": "access", "content": "text\n"}


def found(content: str = "text\n", **more: str) -> dict[str, str]:
    """A file as the probe tells of it."""
    same = {"kind": "file", "mode": "0644", "owner": "root", "group": "root"}
    return {**same, "sha256": hashlib.sha256(content.encode()).hexdigest(), **more}


def host(
    one: dict[str, str] | None, applied: dict[str, str] | None = None, keys: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A host with one file."""
    return {"paths": {"/etc/one": one}, "listings": {FILTERS.KEYS: list(keys)}, "applied": applied or {}}


def drift(told: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = FILTERS.drift([FILE], told)
    return answer


def test_nothing_is_written_where_nothing_differs() -> None:
    note = drift(host(found()))["note"]
    told = drift(host(found(), note))
    assert (told["write"], told["remove"], told["fresh"]) == ([], [], ["access"])


@pytest.mark.parametrize(
    "one",
    [
        None,
        found("other\n"),
        found(mode="0666"),
        found(owner="deploy"),
        found(group="deploy"),
        found(kind="link"),
    ],
    ids=["missing", "content", "mode", "owner", "group", "link"],
)
def test_whatever_differs_is_written_and_put_into_force(one: dict[str, str] | None) -> None:
    note = drift(host(found()))["note"]
    told = drift(host(one, note))
    assert told["write"] == [{**FILE, "mode": "0644"}]
    assert told["fresh"] == []


def test_what_was_written_but_never_put_into_force_is_not_done() -> None:
    # The run broke off in between: the files are right, the note is old.
    assert drift(host(found(), {"access": "old"}))["fresh"] == []
    assert drift(host(found()))["fresh"] == []


def test_a_key_file_that_nobody_wants_is_removed() -> None:
    note = drift(host(found()))["note"]
    told = drift(host(found(), note, keys=("stranger",)))
    assert told["remove"] == [f"{FILTERS.KEYS}/stranger"]
    assert told["fresh"] == []


def test_each_key_stands_behind_its_options() -> None:
    (file,) = FILTERS.key_files(
        [
            {
                "name": "deploy",
                "authorized_keys": ["ssh-ed25519 A a", "ssh-ed25519 B b"],
                "key_options": "restrict",
            }
        ]
    )
    assert file["path"] == "/etc/ssh/authorized_keys.d/deploy"
    assert file["content"].splitlines()[1:] == ["restrict ssh-ed25519 A a", "restrict ssh-ed25519 B b"]


def test_a_user_without_keys_has_an_empty_file() -> None:
    (file,) = FILTERS.key_files([{"name": "anna"}])
    assert [line for line in file["content"].splitlines() if not line.startswith("#")] == []


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (
            {"msg": "failed to validate", "stderr": "sshd: line 3: Bad option\nterminating"},
            "sshd: line 3: Bad option",
        ),
        ({"msg": "first.\nsecond"}, "first"),
        ({}, "it failed without a message"),
    ],
)
def test_a_reason_is_one_line(result: dict[str, str], line: str) -> None:
    assert FILTERS.reason(result) == line


def test_what_another_file_overrides_is_told() -> None:
    meant = {"passwordauthentication": ["no"], "permitrootlogin": ["prohibit-password", "without-password"]}
    in_force = {"passwordauthentication": "yes", "permitrootlogin": "without-password"}
    assert FILTERS.overridden(meant, in_force) == ["passwordauthentication"]
    assert FILTERS.overridden(meant, {**in_force, "passwordauthentication": "no"}) == []


def test_a_user_is_there_unless_he_has_to_be_absent() -> None:
    users = [{"name": "anna"}, {"name": "bert", "state": "absent"}, {"name": "carl", "state": "present"}]
    assert FILTERS.absent(users) == ["bert"]
    assert [user["name"] for user in FILTERS.present(users)] == ["anna", "carl"]


@pytest.mark.parametrize(
    ("on", "active", "told", "mended"),
    [
        (True, True, {"enabled": True, "active": True}, False),
        (True, True, {"enabled": True, "active": False}, True),
        (True, True, {"enabled": False, "active": True}, True),
        (True, False, {"enabled": True, "active": False}, False),
        (True, False, {"enabled": False, "active": False}, True),
        (True, False, None, True),
        (False, True, {"enabled": False, "active": False}, False),
    ],
)
def test_a_unit_is_mended_where_it_does_not_run_as_it_has_to(
    *, on: bool, active: bool, told: dict[str, bool] | None, mended: bool
) -> None:
    unit = {"name": "one.service", "switch": "one", "active": active}
    here = {"units": {"one.service": told}, "container": True}
    assert FILTERS.units_to_mend([unit], here, {"one": on}) == ([unit] if mended else [])


@pytest.mark.parametrize("container", [True, False])
def test_a_unit_that_cannot_run_in_a_container_is_left_alone_there(*, container: bool) -> None:
    unit = {"name": "clock.service", "switch": "always", "active": True, "contained": False}
    here = {"units": {}, "container": container}
    assert FILTERS.units_to_mend([unit], here, {"always": True}) == ([] if container else [unit])


ZONE = "/usr/share/zoneinfo/Etc/UTC"
FOLDER = {"kind": "directory", "mode": "0750", "owner": "deploy", "group": "deploy"}
HOST: dict[str, Any] = {
    "packages": {"nftables": True},
    "accounts": {"deploy": {"locked": True, "shell": "/bin/bash", "home": "/home/deploy"}, "gone": None},
    "paths": {
        "/opt/app": FOLDER,
        "/etc/localtime": {"kind": "link", "target": ZONE},
        "/etc/key": {"kind": "file"},
    },
    "units": {"one.service": {"enabled": True, "active": True}},
    "sysctls": {"net.a": "1"},
    "login_defs": {"UMASK": "027", "ROUNDS": "5"},
    "ssh": {"in_force": {"permitrootlogin": "no"}},
    "firewall": "loaded",
    "hostname": "web-1",
    "container": False,
    "unproved": False,
    "dpkg_interrupted": False,
}
MEANT: dict[str, Any] = {
    "users": ["deploy", "root"],
    "absent": ["gone"],
    "directories": ["/opt/app"],
    "owner": "deploy",
    "units": [{"name": "one.service", "switch": "always", "active": True}],
    "switches": {"always": True, "firewall": True},
    "login_defs": {"ROUNDS": 5},
    "hostname": "web-1",
    "timezone": "Etc/UTC",
    "sysctls": [{"key": "net.a", "value": 1}],
    "ssh": {"permitrootlogin": ["no"]},
    "there": {"host key": "/etc/key"},
    "supported": True,
}


def to_mend(host: dict[str, Any] | None = None, meant: dict[str, Any] | None = None) -> dict[str, Any]:
    told: dict[str, Any] = FILTERS.to_mend({**HOST, **(host or {})}, **{**MEANT, **(meant or {})})
    return told


def test_a_host_as_it_should_be_needs_nothing() -> None:
    assert not any(to_mend().values())
    assert not any(
        to_mend({"firewall": "missing"}, {"switches": {"always": True, "firewall": False}}).values()
    )
    assert not any(to_mend(meant={"hostname": ""}).values())


ACCOUNT = HOST["accounts"]["deploy"]


@pytest.mark.parametrize(
    ("host", "kind", "word"),
    [
        ({"packages": {"nftables": False}}, "packages", "nftables"),
        ({"accounts": {"deploy": None}}, "users", "deploy"),
        ({"accounts": {"deploy": {**ACCOUNT, "locked": False}}}, "users", "deploy"),
        ({"accounts": {"deploy": {**ACCOUNT, "shell": "/bin/sh"}}}, "users", "deploy"),
        ({"accounts": {"deploy": ACCOUNT, "gone": ACCOUNT}}, "absent", "gone"),
        ({"paths": {**HOST["paths"], "/opt/app": None}}, "directories", "/opt/app"),
        ({"paths": {**HOST["paths"], "/opt/app": {**FOLDER, "mode": "0777"}}}, "directories", "/opt/app"),
        ({"paths": {**HOST["paths"], "/opt/app": {**FOLDER, "group": "root"}}}, "directories", "/opt/app"),
        ({"units": {"one.service": None}}, "units", "one.service"),
        ({"login_defs": {}}, "login_defs", "ROUNDS"),
        ({"login_defs": {"ROUNDS": "6"}}, "login_defs", "ROUNDS"),
        ({"unproved": True}, "rest", "undo"),
        ({"dpkg_interrupted": True}, "rest", "dpkg"),
        ({"firewall": "changed"}, "rest", "firewall"),
        ({"ssh": {"in_force": {"permitrootlogin": "yes"}}}, "rest", "SSH"),
        ({"sysctls": {"net.a": "0"}}, "rest", "sysctl"),
        ({"hostname": "other"}, "rest", "hostname"),
        ({"paths": {**HOST["paths"], "/etc/localtime": None}}, "rest", "timezone"),
        ({"paths": {**HOST["paths"], "/etc/localtime": {"kind": "file"}}}, "rest", "timezone"),
        ({"paths": {**HOST["paths"], "/etc/key": None}}, "rest", "host key"),
    ],
)
def test_whatever_else_differs_is_told(host: dict[str, Any], kind: str, word: str) -> None:
    told = to_mend(host)
    assert told["words"] == [word]
    assert [key for key, value in told.items() if value and key != "words"] == [kind]


def test_a_system_that_the_role_is_not_made_for_is_something_to_do() -> None:
    assert to_mend(meant={"supported": False})["words"] == ["system"]


def test_a_setting_of_the_user_s_replaces_the_role_s_and_an_empty_one_takes_it_out() -> None:
    ours = [{"key": key, "value": "1", "why": "why"} for key in ("a", "b", "c")]
    wanted = FILTERS.sysctls(ours, {"a": 2, "b": "", "d": 0})
    assert [(setting["key"], setting["value"]) for setting in wanted] == [("c", "1"), ("a", 2), ("d", 0)]


def test_only_what_the_kernel_has_is_set_and_in_a_container_only_its_own_network() -> None:
    wanted = [{"key": key, "value": "1"} for key in ("kernel.a", "net.b", "net.c")]
    told = {"kernel.a": "1", "net.b": "0", "net.c": None}
    everywhere = FILTERS.sysctls_here(wanted, told, contained=False)
    assert [setting["key"] for setting in everywhere] == ["kernel.a", "net.b"]
    assert [setting["key"] for setting in FILTERS.sysctls_here(wanted, told, contained=True)] == ["net.b"]


@pytest.mark.parametrize(("value", "same"), [("1", True), (1, True), ("0", False)])
def test_a_kernel_setting_is_in_force_where_the_value_is_the_same(value: str | int, *, same: bool) -> None:
    assert FILTERS.sysctls_in_force([{"key": "net.b", "value": value}], {"net.b": "1"}) is same


def test_there_is_something_to_do_until_all_is_the_same_and_in_force() -> None:
    note = drift(host(found()))["note"]
    assert not drift(host(found(), note))["any"]
    assert drift(host(found()))["any"]
    assert drift(host(found("other\n"), note))["any"]
    assert drift(host(found(), note, keys=("gone",)))["any"]
