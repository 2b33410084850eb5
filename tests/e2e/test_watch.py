"""A version that passes its gate and then does badly in real traffic: all of it goes back to the old one at once."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from datetime import datetime
from typing import TYPE_CHECKING

from lab.load import LoadProcess
from tests.e2e.bad import build_bad

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.server import Server

BAD = "sha-e2e0bad"
WATCH = json.dumps({"app_deploy_limits": {"watch": 10, "drain": 6}})
# Seconds from the moment when the watch has seen it to the bad version's last answer.
BACK_WITHIN = 5.0


class Clock(threading.Thread):
    """Notes when the bad version answered last."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.last, self.end = f"{url}/health", 0.0, threading.Event()

    def run(self) -> None:
        while not self.end.wait(0.05):
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=5) as answer:
                if str(answer.headers["X-Slipway-Release"]).endswith(BAD):
                    self.last = time.time()


def test_traffic_goes_back_within_seconds(server: Server, tmp_path: Path) -> None:
    before = server.status()["live"]
    build_bad(BAD, 10, tmp_path)
    clock = Clock(server.url)
    clock.start()
    with LoadProcess(server.url, rate=100) as load:
        done = server.deploy(BAD, "-e", WATCH)
        report = load.stop()
    clock.end.set()

    assert done.returncode != 0, done.stdout
    assert "does worse than the one before" in done.stdout
    assert "were answered with 5xx" in done.stdout
    assert f"(release {before['release']} still serves)" in done.stdout
    assert server.status()["live"]["release"] == before["release"]
    # Whatever was lost was lost by the bad version itself: the old one answered everything that came to it.
    assert set(report.failed_by_kind) <= {"status"}, report.summary()

    release = server.status()["releases"][-1]
    assert (release["tag"], release["outcome"], release["stage"]) == (BAD, "failed", "watch")
    assert "5xx" in release["bad"]
    events = [event for event in server.events() if event["release"] == release["release"]]
    seen = next(event for event in events if "bad" in event)
    # The server's clock is this machine's.
    assert clock.last > 0
    assert clock.last - datetime.fromisoformat(seen["time"]).timestamp() <= BACK_WITHIN

    with LoadProcess(server.url, rate=50) as load:
        report = load.stop()
    assert report.failed == 0, report.summary()
    assert set(report.releases) == {before["release"]}
