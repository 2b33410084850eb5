"""The canary: a share of the traffic first, which decides whether the rest follows."""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING

from lab.load import LoadProcess
from tests.e2e.bad import build_bad
from tests.e2e.server import ONE, TWO

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.server import Server

BAD = "sha-e2e0ca9"
SHARE, SECONDS = 0.2, 12
SETTINGS = json.dumps(
    {
        "app_deploy_canary": {"share": SHARE, "seconds": SECONDS},
        "app_deploy_limits": {"watch": 2, "drain": 6},
    }
)
RATE = 100


class Probe(threading.Thread):
    """Asks at uneven times, among the load, and notes which version answered while a canary ran."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.end = f"{url}/health", threading.Event()
        self.marked: Counter[tuple[str, str]] = Counter()  # canary, release
        self.failed = 0

    def run(self) -> None:
        rng = random.Random(4)  # noqa: S311 - no secret
        while not self.end.wait(rng.uniform(0.005, 0.035)):
            self.ask()

    def ask(self) -> None:
        """Ask once."""
        try:
            with urllib.request.urlopen(self.url, timeout=5) as answer:
                headers = answer.headers
        except OSError:
            self.failed += 1
        else:
            told = headers.get("X-Slipway-Canary", ""), headers.get("X-Slipway-Release", "")
            self.marked[told] += 1


def test_a_good_version_gets_its_share_and_then_everything(server: Server) -> None:
    before = server.status()["live"]
    tag = TWO if before["tag"] == ONE else ONE
    probe = Probe(server.url)
    probe.start()
    with LoadProcess(server.url, rate=RATE) as load:
        done = server.deploy(tag, "-e", SETTINGS)
        report = load.stop()
    probe.end.set()
    probe.join()

    assert done.returncode == 0, done.stdout
    print(report.summary(), probe.marked)
    assert (report.failed, report.failed_by_kind, probe.failed) == (0, {}, 0)
    live = server.status()["live"]
    assert (live["tag"], live["previous"]) == (tag, before["release"])
    stages = [item["stage"] for item in live["stages"]]
    assert stages[stages.index("gate") :] == ["gate", "canary", "switch", "watch", "drain", "retire"]
    assert "too few to judge" not in done.stdout

    # While it ran every answer said so, and which version it came from; before and after, none did.
    assert {canary for canary, _ in probe.marked} == {"", live["release"]}
    assert {release for _, release in probe.marked} == {before["release"], live["release"]}
    new, old = (probe.marked[live["release"], item["release"]] for item in (live, before))
    # The proxy deals requests out exactly, and the probe draws some of them: four times the standard deviation.
    whole = new + old
    assert whole > 200
    spread = 4 * (SHARE * (1 - SHARE) / whole) ** 0.5
    assert SHARE - spread < new / whole < SHARE + spread, probe.marked

    assert server.deploy(before["tag"]).returncode == 0


def test_a_bad_version_harms_no_more_than_its_share_and_goes(server: Server, tmp_path: Path) -> None:
    before = server.status()["live"]
    worker = server.must("docker ps --no-trunc --quiet --filter name=project-manager-worker")
    build_bad(BAD, 3, tmp_path)
    with LoadProcess(server.url, rate=RATE) as load:
        began = time.monotonic()
        done = server.deploy(BAD, "-e", SETTINGS)
        took = time.monotonic() - began
        report = load.stop()

    assert done.returncode != 0, done.stdout
    assert "in its canary (20% of the requests) the new version does worse than the one before" in done.stdout
    assert f"(release {before['release']} still serves)" in done.stdout
    status = server.status()
    assert status["live"]["release"] == before["release"]
    release = status["releases"][-1]
    assert (release["tag"], release["outcome"], release["stage"]) == (BAD, "failed", "canary")
    assert "5xx" in release["bad"]
    # The singleton has been left alone.
    assert server.must("docker ps --no-trunc --quiet --filter name=project-manager-worker") == worker

    print(report.summary(), report.releases, f"{took:.1f} s")
    bad = report.releases[release["release"]]
    # Withdrawn as soon as there was enough to judge by, long before the canary's end.
    assert bad.last - bad.first < SECONDS / 2
    # It had its share and no more: twenty per cent of what came meanwhile, and half as much again for uneven dealing.
    assert bad.answers <= 1.5 * SHARE * RATE * (bad.last - bad.first) + 10
    # What was lost was lost by the bad version itself: the old one answered all that came to it.
    assert set(report.failed_by_kind) <= {"status"}, report.summary()
    assert 0 < report.failed <= bad.answers / 2

    with LoadProcess(server.url, rate=50) as load:
        report = load.stop()
    assert report.failed == 0, report.summary()
    assert set(report.releases) == {before["release"]}
