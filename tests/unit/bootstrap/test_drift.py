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
