"""Releases held back by a person."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from slipway import cli, console, hold, process
from slipway.errors import ReleaseError
from slipway.host import RealFiles

from tests.unit.engine.memory import DIRECTORY, Memory, request

if TYPE_CHECKING:
    from pathlib import Path

FILE = f"{DIRECTORY}/hold.json"


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_a_release_is_refused_with_the_reason_who_since_when_and_the_way_out(memory: Memory) -> None:
    assert hold.place(memory.site, "moving the database until 18:00", "ann")[0]
    with pytest.raises(ReleaseError) as caught:
        process.enter(memory.site, process.Caller("sha-aaaaaaa"))
    assert str(caught.value) == (
        "releases are held back: “moving the database until 18:00” (by ann since T000000.000); to lift it: "
        "ansible-playbook hold.yml -e hold=, or on the server `slipway hold --lift`"
    )
    assert memory.docker.calls == []


def test_it_is_kept_in_a_file_that_everyone_who_gets_there_can_read(memory: Memory) -> None:
    hold.place(memory.site, "a", "ann")
    assert memory.files.modes[FILE] == 0o644
    assert json.loads(memory.files.files[FILE]) == {"reason": "a", "actor": "ann", "since": "T000000.000"}


def test_once_more_is_no_change_and_another_reason_or_person_is_one(memory: Memory) -> None:
    assert hold.place(memory.site, "a", "ann")[0]
    memory.clock.sleep(60)
    assert hold.place(memory.site, "a", "ann") == (False, hold.Hold("a", "ann", "T000000.000"))
    assert hold.place(memory.site, "b", "ann") == (True, hold.Hold("b", "ann", "T000060.000"))
    assert hold.place(memory.site, "b", "bob")[0]


def test_lifting_it_lets_releases_go_on_and_twice_is_no_change(memory: Memory) -> None:
    placed = hold.place(memory.site, "a", "ann")[1]
    assert hold.lift(memory.site) == placed
    assert hold.lift(memory.site) is None
    hold.refuse(memory.site)


@pytest.mark.parametrize("text", ["", "garbage", "[]", "{}", '{"reason": "a"}'])
def test_a_file_that_says_nothing_holds_back_as_well(memory: Memory, text: str) -> None:
    memory.files.files[FILE] = text
    with pytest.raises(ReleaseError, match=r"no reason that can be read in /opt/shop/hold\.json"):
        hold.refuse(memory.site)
    assert hold.lift(memory.site) is not None
    hold.refuse(memory.site)


@pytest.mark.parametrize(
    "reason",
    ["$(id) `id` $HOME", "'; rm -rf / #", "{{ 7 * 7 }}", "--lift", "数据库维护", "x" * 200, "a\u00a0b"],
)
def test_any_line_of_text_is_a_reason(memory: Memory, reason: str) -> None:
    hold.place(memory.site, reason, "ann")
    with pytest.raises(ReleaseError) as caught:
        hold.refuse(memory.site)
    assert " ".join(reason.split()) in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("", "hold has no reason"),
        ("  ", "hold has no reason"),
        ("a\nb", "line breaks or control characters"),
        ("a\u2028b", "line breaks or control characters"),
        ("a\x1b[31m", "line breaks or control characters"),
        ("a\x00", "line breaks or control characters"),
        ("\udcff", "line breaks or control characters"),
        ("x" * 201, "has 201 characters, 200 are allowed"),
    ],
)
def test_anything_else_is_refused_in_one_line(memory: Memory, reason: str, message: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        hold.place(memory.site, reason, "ann")
    assert message in str(caught.value)
    assert "slipway hold --lift" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert FILE not in memory.files.files


def test_who_may_not_write_is_told_so(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(memory.files, "write", refuse)
    with pytest.raises(
        ReleaseError, match=r"cannot write /opt/shop/hold\.json \(Permission denied\): be root or"
    ):
        hold.place(memory.site, "a", "ann")
    memory.files.files[FILE] = "{}"
    monkeypatch.setattr(memory.files, "remove_tree", refuse)
    with pytest.raises(ReleaseError, match=r"cannot write /opt/shop/hold\.json"):
        hold.lift(memory.site)


def test_status_and_check_tell_it(memory: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    site = memory.site
    assert cli.status(site)["hold"] is None
    hold.place(site, "a move", "ann")
    answer = cli.status(site)
    assert answer["hold"] == {"reason": "a move", "actor": "ann", "since": "T000000.000"}
    console.status(answer)
    assert (
        "releases are held back: “a move” (by ann since T000000.000); to lift it: " in capsys.readouterr().out
    )
    assert cli.check(site, request())["notes"][0].startswith("releases are held back: “a move”")


def run(monkeypatch: pytest.MonkeyPatch, place: Path, *words: str) -> int:
    """Call the command as a person does."""
    monkeypatch.setattr(sys, "argv", ["slipway", "--directory", str(place), "hold", *words])
    return cli.main()


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "hold.json"
    assert run(monkeypatch, tmp_path, "--check", "a move") == 0
    assert not file.exists()
    assert run(monkeypatch, tmp_path, "--actor", "ann", "--json", "--", "--lift") == 0
    assert json.loads(file.read_text())["reason"] == "--lift"
    capsys.readouterr()
    assert run(monkeypatch, tmp_path, "--check", "--lift") == 0
    assert file.exists()
    assert capsys.readouterr().out.startswith(
        "releases may go on; they were held back: “--lift” (by ann since"
    )
    assert run(monkeypatch, tmp_path, "--lift") == 0
    assert not file.exists()
    capsys.readouterr()
    assert run(monkeypatch, tmp_path, "--lift", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"changed": False, "told": "releases are not held back"}
    assert run(monkeypatch, tmp_path, "") == 1
    assert capsys.readouterr().err.startswith("slipway: hold has no reason")
    assert run(monkeypatch, tmp_path, "--json", "") == 1
    assert json.loads(capsys.readouterr().out)["error"].startswith("hold has no reason")


def test_a_release_that_runs_is_named_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = replace(Memory().site, directory=str(tmp_path), files=RealFiles())
    lock = process.lock_of(site)
    lock.take({"release": "sha-aaaaaaa", "actor": "ann", "since": "noon"})
    monkeypatch.setattr(sys, "argv", ["slipway", "hold", "a move"])
    told = cli.change_hold(site, cli.arguments().parse_args())["told"]
    assert told.endswith("; the one that runs goes on: sha-aaaaaaa by ann since noon")
