"""Waiting for another release, on a real file with a real owner: another process."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from slipway import cli, found, hold
from slipway.errors import ReleaseError
from slipway.host import RealFiles
from slipway.lock import Busy, Lock
from slipway.process import WAIT_SLICE, Caller, enter, follow, lock_of

from tests.unit.engine.memory import Memory, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipway.site import Site

ENGINE = str(Path(__file__).parents[3] / "roles/app_deploy/module_utils")
ANN = {"release": "sha-aaaaaaa", "actor": "ann", "since": "noon", "run_url": "https://x/1"}


@contextmanager
def owner(path: str) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the lock."""
    script = (
        f"import sys; sys.path.insert(0, {ENGINE!r})\nfrom slipway.lock import Lock\n"
        f"Lock({path!r}).take({ANN!r})\nprint('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most owners here hold the lock for good, in whatever stage."""
    monkeypatch.setattr("slipway.lock.PATIENCE_IDLE", 0.05)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An application whose files are real ones."""
    return replace(Memory().site, directory=str(tmp_path), files=RealFiles())


def test_the_loser_says_who_holds_it_how_far_that_is_and_what_to_do(site: Site) -> None:
    with owner(f"{site.directory}/lock"):
        site.journal.write("7-sha-aaaaaaa", "begin")
        site.journal.write("7-sha-aaaaaaa", "stage", stage="gate")
        with pytest.raises(Busy) as caught:
            enter(site, Caller("sha-bbbbbbb"))
    assert str(caught.value) == (
        "another release is running: sha-aaaaaaa by ann since noon, in stage gate (https://x/1); try again when it "
        "has ended, or wait for it with -e wait=300 (app_deploy_wait, seconds)"
    )


def test_a_release_that_has_ended_is_in_no_stage(site: Site) -> None:
    site.journal.write("6-sha-aaaaaaa", "stage", stage="retire")
    site.journal.write("6-sha-aaaaaaa", "end", outcome="live")
    with owner(f"{site.directory}/lock"), pytest.raises(Busy, match=r"since noon \(https://x/1\)"):
        enter(site, Caller("sha-bbbbbbb"))


@pytest.mark.parametrize(("events", "waits"), [([], True), (["stage", "end"], True), (["stage"], False)])
def test_an_owner_at_no_release_may_take_its_time(
    site: Site, monkeypatch: pytest.MonkeyPatch, events: list[str], *, waits: bool
) -> None:
    """It has written its last word, which a busy disk keeps it at, or not yet its first."""
    monkeypatch.setattr("slipway.lock.PATIENCE", 0.05)
    monkeypatch.setattr("slipway.lock.PATIENCE_IDLE", 30)
    for event in events:
        site.journal.write("6-sha-aaaaaaa", event, stage="retire", outcome="live")
    with owner(f"{site.directory}/lock") as process:
        threading.Timer(0.5, process.kill).start()
        if waits:
            assert isinstance(enter(site, Caller("sha-bbbbbbb")), Lock)
        else:
            with pytest.raises(Busy):
                enter(site, Caller("sha-bbbbbbb"))


def test_an_owner_without_a_note_is_an_owner(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with owner(str(path)):
        path.write_text("")
        with pytest.raises(Busy, match="its owner has not said who it is"):
            Lock(str(path)).take({})


def test_waiting_ends_soon_after_the_owner_dies(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with owner(path) as process:
        process.kill()
        began = time.monotonic()
        Lock(path).take({"release": "next"}, 60)
    assert time.monotonic() - began < 10
    assert json.loads(Path(path).read_text()) == {"release": "next"}


def test_who_asks_is_told_at_once_then_every_so_often_and_at_last_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.lock.PATIENCE", 0.05)
    taken: list[float] = []
    take = Lock.take

    def note(self: Lock, holder: dict[str, str], wait: float = 0) -> None:
        taken.append(wait)
        take(self, holder, 0)

    monkeypatch.setattr(Lock, "take", note)
    wanted = Caller("sha-bbbbbbb", wait=25)
    with owner(f"{site.directory}/lock"):
        assert enter(site, wanted) == (
            "waiting for another release (up to 25 s): sha-aaaaaaa by ann since noon (https://x/1)"
        )
        assert str(enter(site, replace(wanted, waited=2.0))).startswith(
            "waiting for another release (2 of 25 s): sha-aaa"
        )
        assert str(enter(site, replace(wanted, waited=12.0))).startswith(
            "waiting for another release (12 of 25 s)"
        )
        with pytest.raises(Busy, match=r"since noon \(https://x/1\); waited 25 s for it; try again when"):
            enter(site, replace(wanted, waited=22.0))
    assert taken == [0, WAIT_SLICE, WAIT_SLICE, 3.0]


@pytest.mark.parametrize(("events", "ended"), [(["commit"], False), (["commit", "serves"], True)])
def test_whoever_goes_back_is_not_kept_until_the_version_that_was_left_has_ended(
    site: Site, events: list[str], *, ended: bool
) -> None:
    for event in events:
        site.journal.write("8-sha-aaaaaaa", event, live="8-sha-aaaaaaa")
    with owner(f"{site.directory}/lock"):
        answer = follow(site, "8-sha-aaaaaaa", 0, 0)
    assert answer["ended"] is ended
    if ended:
        assert (answer["result"]["outcome"], answer["result"]["live"]) == ("live", "8-sha-aaaaaaa")


@pytest.mark.parametrize(("events", "waits"), [([], False), (["commit"], True), (["commit", "serves"], True)])
def test_a_release_that_only_tidies_up_is_waited_for_unasked(
    site: Site, monkeypatch: pytest.MonkeyPatch, events: list[str], *, waits: bool
) -> None:
    monkeypatch.setattr("slipway.lock.PATIENCE", 0.05)
    site.journal.write("8-sha-aaaaaaa", "begin")
    site.journal.write("8-sha-aaaaaaa", "stage", stage="drain")
    site.keep_request("8-sha-aaaaaaa", request("sha-aaaaaaa", limits={"drain": 40}))
    for event in events:
        site.journal.write("8-sha-aaaaaaa", event)
    wanted = Caller("sha-bbbbbbb")
    with owner(f"{site.directory}/lock"):
        if not waits:
            with pytest.raises(Busy):
                enter(site, wanted)
            return
        assert enter(site, wanted) == (
            "waiting for another release, which serves and lets the version before it end its requests (up to 100 s): "
            "sha-aaaaaaa by ann since noon, in stage drain (https://x/1)"
        )
        with pytest.raises(Busy, match="waited 100 s for it"):
            enter(site, replace(wanted, waited=100.0))
    assert isinstance(enter(site, replace(wanted, waited=5.0)), Lock)


@pytest.mark.parametrize(("events", "asked"), [([], False), (["commit"], True)])
def test_a_rollback_asks_a_release_that_only_tidies_up_to_hurry(
    site: Site, monkeypatch: pytest.MonkeyPatch, events: list[str], *, asked: bool
) -> None:
    monkeypatch.setattr("slipway.lock.PATIENCE", 0.05)
    site.journal.write("8-sha-aaaaaaa", "begin")
    site.keep_request("8-sha-aaaaaaa", request("sha-aaaaaaa"))
    for event in events:
        site.journal.write("8-sha-aaaaaaa", event)
    hurry = site.hurry_file("8-sha-aaaaaaa")
    with owner(f"{site.directory}/lock"), suppress(Busy):
        enter(site, Caller("sha-bbbbbbb"))
    assert site.files.read(hurry) is None  # a deploy has time
    with owner(f"{site.directory}/lock"), suppress(Busy):
        enter(site, Caller("rollback", hurry=True))
    assert (site.files.read(hurry) is not None) is asked


def test_who_waited_gets_the_lock_when_it_is_free(site: Site) -> None:
    wanted = Caller("sha-bbbbbbb", wait=60, actor="bob")
    with owner(f"{site.directory}/lock"):
        assert isinstance(enter(site, wanted), str)
    lock = enter(site, replace(wanted, waited=1.0))
    assert isinstance(lock, Lock)
    assert lock_of(site).held()
    assert cli.status(site)["holder"].startswith("sha-bbbbbbb by bob since T")
    lock.free()
    assert cli.status(site)["holder"] == ""


def test_a_hold_that_comes_while_waiting_counts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Lock.take

    def place(self: Lock, holder: dict[str, str], wait: float = 0) -> None:
        take(self, holder, wait)
        hold.place(site, "the disk is being changed", "ann")

    monkeypatch.setattr(Lock, "take", place)
    with pytest.raises(ReleaseError, match="the disk is being changed"):
        enter(site, Caller("sha-bbbbbbb", wait=60, waited=1.0))
    assert not lock_of(site).held()


@pytest.fixture
def served(site: Site) -> Site:
    """A site on which a release is live."""
    wanted = request()
    facts = {"app": "shop", "tag": wanted.tag, "sha": "a" * 40, **found.facts(wanted, "blue")}
    site.journal.write("1-sha-aaaaaaa", "begin", **facts)
    site.journal.write("1-sha-aaaaaaa", "end", outcome="live")
    site.keep_request("1-sha-aaaaaaa", wanted)
    return site


@pytest.mark.parametrize(
    "words",
    [
        ["rollback"],
        ["deploy", "sha-bbbbbbb"],
        ["rollback", "--queue", "2"],
        ["deploy", "sha-b", "--queue", "2"],
    ],
)
def test_every_way_to_a_release_is_by_the_same_door(
    served: Site, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("slipway.lock.PATIENCE", 0.05)
    monkeypatch.setattr(sys, "argv", ["slipway", "--directory", served.directory, *words])
    with owner(f"{served.directory}/lock"):
        assert cli.main() == 1
    told = capsys.readouterr().err
    assert "another release is running: sha-aaaaaaa by ann since noon" in told
    assert ("waiting for another release (up to 2 s)" in told) is ("--queue" in words)
    hold.place(served, "a move", "ann")
    assert cli.main() == 1
    assert capsys.readouterr().err.startswith("slipway: releases are held back: “a move”")


def test_a_program_that_waits_is_told_and_asks_again(
    served: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("slipway.lock.PATIENCE", 0.05)
    monkeypatch.setattr("pkgutil.get_data", lambda *_: b"this one")
    monkeypatch.setattr("sys.stdin", io.StringIO('{"wait": 60}'))
    engine = ["--directory", served.directory, "--engine", "this one"]
    monkeypatch.setattr(sys, "argv", ["slipway", *engine, "rollback", "--request", "--waited", "0.0"])
    with owner(f"{served.directory}/lock"):
        assert cli.main() == 0
    assert json.loads(capsys.readouterr().out)["waiting"].startswith(
        "waiting for another release (up to 60 s)"
    )
