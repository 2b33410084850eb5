"""Ten releases back and forth under load: nobody notices."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from lab import play
from lab.load import LoadProcess
from tests.e2e.server import DRAIN, ONE, TWO

if TYPE_CHECKING:
    from tests.e2e.server import Server

RELEASES = 10
RATE = 200


def test_ten_releases_lose_no_request_and_no_write(server: Server) -> None:
    """Requests of every kind, at 200/s, by clients that never retry."""
    before = server.status()["live"]["release"]
    with LoadProcess(server.url, rate=RATE) as load:
        for number in range(RELEASES):
            done = server.deploy((TWO, ONE)[number % 2])
            assert done.returncode == 0, done.stdout
        report = load.stop()

    print(report.summary())
    assert report.sent > RELEASES * RATE
    assert (report.failed, report.failed_by_kind, report.unexpected) == (0, {}, {})
    assert {name for name, item in report.classes.items() if item.ok} == {
        "keepalive",
        "fresh",
        "write",
        "slow",
    }

    # Every release served: the load saw the old one and the ten new ones, and no other answer.
    events = server.events()
    ids = [event["release"] for event in events if event["event"] == "commit"][-RELEASES:]
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
    switches = [datetime.fromisoformat(time).timestamp() for time in watches[-RELEASES:]]
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
