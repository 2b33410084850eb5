"""Releases in a row under load, each with an image of its own: nobody notices, and nothing is left behind.

Ten of them under 100 requests a second by default; `make test-soak` runs fifty under 200.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from lab import play
from lab.load import LoadProcess
from tests.e2e import growth
from tests.e2e.server import DRAIN, ONE, TWO

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.server import Server

RELEASES = int(os.environ.get("SLIPWAY_RELEASES", "10"))
# Requests a second. 200 take two thirds of the lab's two cores before any release begins, so a slow machine is too slow for it.
RATE = int(os.environ.get("SLIPWAY_RATE", "100"))
# Releases that are kept (app_deploy_limits.retain): after one more, each release removes what the one before it added.
RETAIN = 5


def test_releases_in_a_row_lose_no_request_and_no_write_and_leave_nothing(
    server: Server, tmp_path: Path
) -> None:
    """Requests of every kind, by clients that never retry."""
    assert RELEASES > RETAIN + 1, "SLIPWAY_RELEASES: too few to see whether anything grows"
    tags = [f"sha-{0x50A0000 + number:07x}" for number in range(1, RELEASES + 1)]
    growth.build_each(tags, tmp_path)
    before = server.status()["live"]["release"]
    figures: list[tuple[int, growth.Figures]] = []
    with LoadProcess(server.url, rate=RATE) as load:
        for number, tag in enumerate(tags, 1):
            began = time.monotonic()
            done = server.deploy(tag)
            assert done.returncode == 0, done.stdout
            print(f"release {number} of {RELEASES}: {time.monotonic() - began:.1f} s", flush=True)
            figures.append((number, growth.measure(server)))
        report = load.stop()
    # What the other tests of this folder begin with.
    assert server.deploy(ONE).returncode == 0

    print(report.summary())
    full, final = figures[RETAIN], figures[-1]
    print(growth.table([figures[0], full, figures[(RETAIN + RELEASES) // 2], final]))
    assert growth.grown(full[1], final[1]) == {}
    assert final[1]["kept releases"] == RETAIN
    assert final[1]["engines left"] == final[1]["zombies"] == 0
    assert report.sent > RELEASES * RATE
    assert (report.failed, report.failed_by_kind, report.unexpected) == (0, {}, {})
    assert {name for name, item in report.classes.items() if item.ok} == {
        "keepalive",
        "fresh",
        "write",
        "slow",
    }

    # Every release served: the load saw the old one and the new ones, and no other answer.
    events = server.events()
    ids = [event["release"] for event in events if event["event"] == "commit"][-RELEASES - 1 : -1]
    assert set(report.releases) == {before, *ids}

    # Every acknowledged write is in the database.
    names = server.must(
        "docker exec project-manager-postgres-1 psql -U project_manager -d project_manager -At "
        f"-c \"select name from projects where name like '{report.token_prefix}%'\""
    )
    assert set(report.acknowledged) - set(names.split()) == set()
    assert len(report.acknowledged) > RELEASES

    # No stream was cut before its drain limit, which runs from the switch; each was cut at most once a release.
    watches = [
        event["time"] for event in events if (event["event"], event.get("stage")) == ("stage", "watch")
    ]
    switches = [datetime.fromisoformat(moment).timestamp() for moment in watches[-RELEASES - 1 : -1]]
    assert {stream.name for stream in report.streams} == {"sse-0", "ws-0"}
    for stream in report.streams:
        assert stream.events > 0
        assert len(stream.cuts) <= RELEASES
        for cut in stream.cuts:
            last = max(switch for switch in switches if switch < cut.at)
            assert cut.at - last >= DRAIN, f"{stream.name} was cut {cut.at - last:.1f} s after the switch"
        for one, other in pairwise(stream.cuts):
            assert other.at - one.at > DRAIN


def test_the_live_tag_and_the_same_server_again_change_nothing(server: Server) -> None:
    """site.yml and deploy.yml are idempotent."""

    tag = server.status()["live"]["tag"]
    before = server.snapshot()
    for done in (play.run("site.yml", hosts=[server.vps.name]), server.deploy(tag)):
        assert done.returncode == 0, done.stdout
        assert "changed=0 " in done.stdout, done.stdout
    assert server.snapshot() == before


def test_check_and_diff_say_what_would_happen_and_touch_nothing(server: Server) -> None:
    """--check --diff of another tag."""
    live = server.status()["live"]
    other = TWO if live["tag"] == ONE else ONE
    before, journal = server.snapshot(), server.events()
    done = server.deploy(other, "--check", "--diff", "-e", '{"app_deploy_env": {"LOG_LEVEL": "DEBUG"}}')
    assert done.returncode == 0, done.stdout
    assert f"all traffic would switch from {live['release']} ({live['colour']}) to {other}" in done.stdout
    assert "+env LOG_LEVEL: (set)" in done.stdout
    assert f"-image app: {live['pinned']['app']}" in done.stdout
    assert "DEBUG" not in done.stdout.replace("LOG_LEVEL:-", "")
    assert server.snapshot() == before
    assert server.events() == journal


def test_a_changed_setting_alone_is_a_release(server: Server) -> None:
    """The same tag with another environment rolls out."""
    live = server.status()["live"]
    changed = ("-e", '{"app_deploy_env": {"LOG_LEVEL": "WARNING"}}')
    done = server.deploy(live["tag"], *changed)
    assert done.returncode == 0, done.stdout
    now = server.status()["live"]
    assert now["release"] != live["release"]
    container = f"project-manager-app-{now['colour']}-1"
    assert server.must(f"docker exec {container} printenv LOG_LEVEL").strip() == "WARNING"
    assert server.deploy(live["tag"]).returncode == 0
