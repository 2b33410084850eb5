"""Going back, for real: by playbook and on the server itself, under load, with the registry down."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lab import play, registry
from lab.load import LoadProcess
from tests.e2e.server import APP, LIMITS, NAME, ONE, TWO, Server

if TYPE_CHECKING:
    import subprocess


def rollback(*arguments: str) -> subprocess.CompletedProcess[str]:
    return play.run("rollback.yml", *arguments, hosts=[NAME])


def live(server: Server) -> dict[str, str]:
    found: dict[str, str] = server.status()["live"]
    return found


def test_the_version_before_serves_again_without_the_registry(server: Server) -> None:
    server.deploy(ONE)
    assert server.deploy(TWO).returncode == 0
    before = live(server)["release"]
    registry.stop()
    try:
        with LoadProcess(server.url, rate=50) as load:
            done = rollback()
            report = load.stop()
    finally:
        registry.start()
    assert done.returncode == 0, done.stdout
    assert report.failed == 0, report.summary()
    assert not report.unexpected, report.summary()
    now = live(server)
    assert (now["tag"], now["previous"]) == (ONE, before)
    assert set(report.releases) == {before, now["release"]}


@pytest.mark.usefixtures("server")
def test_what_was_left_is_not_gone_back_to() -> None:
    """The one before was TWO, which was just left; whatever is found instead, it is not TWO."""
    done = rollback("--check")
    if done.returncode == 0:
        assert TWO not in done.stdout.partition("go back from")[2]
    else:
        assert "each was left for a better one" in done.stdout


def test_a_chosen_one_and_check_mode(server: Server) -> None:
    snapshot = server.snapshot()
    done = rollback("--check", "-e", f"to={TWO}")
    assert done.returncode == 0, done.stdout
    assert f"all traffic would go back from {live(server)['release']} to" in done.stdout
    assert server.snapshot() == snapshot
    assert rollback("-e", f"to={TWO}").returncode == 0
    assert live(server)["tag"] == TWO


def test_one_that_never_served_is_refused_in_one_line(server: Server) -> None:
    before = live(server)["release"]
    done = rollback("-e", "to=sha-0000000")
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if "[ERROR]" in line]
    assert "'sha-0000000' never served here; on this host:" in line
    assert live(server)["release"] == before


def test_on_the_server_itself(server: Server) -> None:
    """When neither GitHub nor a laptop is at hand: the same engine, the same journal."""
    slipway = f"{APP}/bin/slipway"
    told = server.must(f"{slipway} rollback --to {ONE}")
    assert "gate" in told
    assert told.splitlines()[-1] == f"{live(server)['release']} serves"
    assert live(server)["tag"] == ONE
    answer = json.loads(server.must(f"{slipway} rollback --to {TWO} --json"))
    assert answer["result"]["outcome"] == "live"

    # A private registry wants the person who deploys to be known, as with any docker pull.
    refused = server.vps.ssh(f"{slipway} deploy {ONE}", user="deploy", timeout=120)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: the registry ghcr.io refuses") or "refuses" in refused.stdout
    found = registry.load()
    login = f"docker login ghcr.io --username {found.user} --password-stdin"
    assert server.vps.ssh(login, user="deploy", stdin=found.password.encode()).returncode == 0
    try:
        told = server.must(f"{slipway} deploy {ONE}")
    finally:
        server.must("docker logout ghcr.io")
    assert told.splitlines()[-1] == f"{live(server)['release']} serves"
    assert live(server)["tag"] == ONE


def test_a_playbook_run_finds_nothing_to_do_after_it(server: Server) -> None:
    done = server.deploy(ONE, "-e", LIMITS)
    assert done.returncode == 0, done.stdout
    assert "changed=0 " in done.stdout
