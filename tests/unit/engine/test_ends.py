"""What is said of a release that ended in a way of its own: cut off, on a full disk, or silent because it was dead."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import pytest
from slipway import proxy
from slipway.errors import ReleaseError
from slipway.host import Answer, RealClock, RealFiles
from slipway.process import follow
from slipway.rollout import Rollout

from tests.unit.engine.memory import Memory, request

if TYPE_CHECKING:
    from pathlib import Path

    from slipway.site import Site

OLD, NEW = "1-sha-aaaaaaa", "2-sha-bbbbbbb"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A server where OLD is live, and NEW has begun its switch; nobody holds the lock."""
    found = replace(Memory().site, directory=str(tmp_path), files=RealFiles(), clock=RealClock())
    found.journal.write(OLD, "begin", tag="sha-aaaaaaa")
    found.journal.write(OLD, "end", outcome="live")
    found.journal.write(NEW, "begin", tag="sha-bbbbbbb")
    found.journal.write(NEW, "stage", stage="switch")
    return found


def serve(site: Site, release: str) -> None:
    site.files.make_directory(site.proxy_directory, 0o755)
    site.switch_proxy(proxy.dump(proxy.render(request(), "green", release), release))


def test_of_a_release_that_was_cut_off_it_is_said_where_and_what_serves(site: Site) -> None:
    told = follow(site, NEW, 0, 1)["result"]
    assert told["error"] == "it was cut off in stage switch; the next release undoes it"
    assert (told["outcome"], told["live"]) == ("unfinished", OLD)
    serve(site, NEW)
    assert follow(site, NEW, 0, 1)["result"]["live"] == NEW


def test_a_release_that_was_cut_off_after_its_commit_is_live(site: Site) -> None:
    site.journal.write(NEW, "commit")
    told = follow(site, NEW, 0, 1)["result"]
    assert (told["outcome"], told["live"]) == ("live", NEW)
    assert "error" not in told


def test_a_release_that_left_no_line_is_told_of_all_the_same(site: Site) -> None:
    told = follow(site, "3-sha-ccccccc", 0, 1)["result"]
    assert told["error"].startswith("it could not write its first line to")
    assert (told["outcome"], told["live"]) == ("unfinished", OLD)


def test_a_full_disk_is_named_with_its_mend() -> None:
    memory = Memory()

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    vars(memory.docker)["pull"] = full
    with pytest.raises(OSError, match="No space"):
        Rollout(memory.site, request("sha-aaaaaaa")).run()
    error = memory.site.journal.releases()[-1].facts["error"]
    assert error == "the disk of /opt/shop is full: free some space on this server, then release again"


def test_one_that_ended_while_it_was_asked_is_not_called_silent() -> None:
    memory = Memory()
    Rollout(memory.site, request("sha-aaaaaaa")).run()
    answers = memory.http.get

    def get(url: str, host: str, timeout: float) -> Answer:
        if "127.0.0.1" in url:
            return answers(url, host, timeout)
        # As from an address that is nobody's any more: no answer until the time is up.
        memory.docker.found["web-green"] = replace(memory.docker.found["web-green"], state="exited")
        memory.clock.sleep(1000)
        raise OSError("timed out")

    vars(memory.http)["get"] = get
    with pytest.raises(ReleaseError, match="does not stay up: it ended with exit code 3"):
        Rollout(memory.site, request("sha-bbbbbbb")).run()


def test_where_docker_has_lost_the_exit_code_none_is_made_up() -> None:
    memory = Memory()
    memory.push("sha-aaaaaaa", exits=True)
    ended = replace(memory.docker.process("web-green"), exit_code=None)
    vars(memory.docker)["process"] = lambda _: ended
    with pytest.raises(ReleaseError, match=r"does not stay up: it ended$"):
        Rollout(memory.site, request("sha-aaaaaaa")).run()


def test_a_disk_that_is_full_after_the_switch_has_room_for_the_way_back() -> None:
    memory = Memory()
    Rollout(memory.site, request("sha-aaaaaaa")).run()
    files = memory.files

    def room() -> None:
        kept = any(f"/releases/{NEW}/" in path for path in files.files)
        if kept and any(item.stage == "watch" for item in memory.site.journal.releases() if item.id == NEW):
            raise OSError(errno.ENOSPC, "No space left on device")

    def write(path: str, text: str, mode: int, scratch: str = "") -> None:
        room()
        type(files).write(files, path, text, mode, scratch)

    def append(path: str, text: str) -> None:
        room()
        type(files).append(files, path, text)

    vars(files).update(write=write, append=append)
    with pytest.raises(OSError, match="No space"):
        Rollout(memory.site, request("sha-bbbbbbb")).run()
    last = memory.site.journal.releases()[-1]
    assert (last.outcome, last.facts["undone"], memory.serving()) == ("failed", True, OLD)
