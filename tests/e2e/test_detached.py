"""A release belongs to the server: it does not end with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from lab import play
from lab.load import LoadProcess
from tests.e2e.server import APP, LIMITS, NAME, ONE, TWO

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.server import Server

PATIENCE = 60


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    """Wait until something holds, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come within {PATIENCE} s"
        time.sleep(0.1)


def start(*arguments: str, own_session: bool = False) -> subprocess.Popen[str]:
    """Start deploy.yml."""
    return play.start(
        "deploy.yml", *arguments, hosts=[NAME], output=subprocess.DEVNULL, own_session=own_session
    )


def test_a_release_goes_on_when_its_controller_is_killed(server: Server) -> None:
    """ansible-playbook and its SSH connections die in the middle; the release goes live all the same."""
    before = server.status()["live"]
    tag = TWO if before["tag"] == ONE else ONE
    controller = start("-e", LIMITS, "-e", f"tag={tag}", own_session=True)
    wait_for("the release", lambda: server.status()["busy"])
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    server.must("pkill -KILL -u deploy sshd; true", user="root")

    wait_for("the end of the release", lambda: not server.status()["busy"])
    live = server.status()["live"]
    assert live["tag"] == tag
    assert live["release"] != before["release"]

    # Nothing is left to mend: the same release again is nothing to do.
    done = server.deploy(tag)
    assert done.returncode == 0, done.stdout
    assert "changed=0 " in done.stdout


def test_a_second_release_at_the_same_time_is_told_who_is_at_it(server: Server) -> None:
    """The lock names its holder; the first release is not disturbed."""
    before = server.status()["live"]
    tag = TWO if before["tag"] == ONE else ONE
    with start("-e", LIMITS, "-e", f"tag={tag}", "-e", "app_deploy_actor=ann") as first:
        wait_for("the release", lambda: server.status()["busy"])
        second = server.deploy(tag)
        assert second.returncode != 0
        assert f"another release is running: {tag} by ann since" in second.stdout
        assert first.wait(PATIENCE) == 0
    assert server.status()["live"]["tag"] == tag


def test_a_rollback_does_not_wait_until_streams_of_the_version_before_have_ended(server: Server) -> None:
    """The moment in which most rollbacks are wanted: the release serves, and lets the version before it drain."""
    before = server.status()["live"]
    tag = TWO if before["tag"] == ONE else ONE
    with LoadProcess(server.url, rate=20, sse=1, ws=1) as load:
        with start("-e", '{"app_deploy_limits": {"watch": 2, "drain": 600}}', "-e", f"tag={tag}") as first:
            wait_for("the commit", lambda: server.status()["live"]["tag"] == tag)
            done = play.run("rollback.yml", hosts=[NAME])
            assert first.wait(PATIENCE) == 0
        report = load.stop()
    assert done.returncode == 0, done.stdout
    assert server.status()["live"]["tag"] == before["tag"]
    assert server.must(f"grep -c 'a rollback waits, so' {APP}/journal.jsonl").strip() == "1"
    assert report.failed == 0, report.summary()
