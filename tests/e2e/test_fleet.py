"""Two servers behind one database: one after the other, and never left with different versions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import lab
from lab import play, state
from lab.build import build
from lab.load import LoadProcess
from pipeline import report
from tests.e2e.server import APP, ONE, TWO

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("fleet-one", "fleet-two")
THREE = "sha-e2e0003"
# The first server's database is published, and both use it.
SHARED = """
services:
  postgres:
    ports: ["5432:5432"]
  app: {environment: {POSTGRES_HOST: "${DATABASE_HOST:?}"}}
  worker: {environment: {POSTGRES_HOST: "${DATABASE_HOST:?}"}}
"""
ALEMBIC = ["alembic", "-c", "app/alembic.ini"]


class Fleet:
    """The servers, and what the tests do with them."""

    def __init__(self, folder: Path, servers: dict[str, lab.Vps]) -> None:
        """Write the settings that they share."""
        self.folder, self.servers = folder, servers
        compose = folder / "shared.yml"
        compose.write_text(SHARED)
        settings = {
            "app_deploy_compose_files": [str(state.ROOT / "docker-compose.prod.yml"), str(compose)],
            "app_deploy_env": {"DATABASE_HOST": servers["fleet-one"].address},
            # Published or not, it is closed to everybody else.
            "bootstrap_firewall_rules": [f"ip saddr {servers['fleet-two'].address} tcp dport 5432 accept"],
            "app_deploy_migrate_on": "first",
            # What is at hand on the second server is not the database.
            "app_deploy_migrations": {
                "service": "app",
                "path": "/srv/app/migrations",
                "check": [*ALEMBIC, "current", "--check-heads"],
                "command": [*ALEMBIC, "upgrade", "head"],
            },
            # Nothing here is about what happens after the switch.
            "app_deploy_limits": {"watch": 0.5, "drain": 1, "gate": 5},
        }
        self.settings = ("-e", json.dumps(settings))

    def play(self, playbook: str, *arguments: str, **second: object) -> subprocess.CompletedProcess[str]:
        """Run a playbook; `second` are settings of the second server alone."""
        own = self.folder / "own.yml"
        own.write_text(json.dumps({"app": {"hosts": {"fleet-two": second}}}))
        extra = {"SLIPWAY_REPORT": str(self.folder / "report.json")}
        return play.run(playbook, "-i", str(own), *self.settings, *arguments, hosts=NAMES, extra=extra)

    def status(self, name: str) -> dict[str, Any]:
        """Ask a server's own command what serves."""
        done = self.servers[name].ssh(f"{APP}/bin/slipway status --json", user="deploy")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def tags(self) -> list[str]:
        """Which versions serve."""
        return [self.status(name)["live"]["tag"] for name in NAMES]

    def kinds(self) -> dict[str, str]:
        """Tell how the report says that it ended on each server."""
        told = report.load(str(self.folder / "report.json"))
        return {outcome.host: outcome.kind for outcome in report.outcomes(told)}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two servers without any release."""
    lab.up()
    try:
        servers = {name: lab.vps.up(name, fresh=True) for name in NAMES}
        for tag in (ONE, TWO, THREE):
            build(tag)
        found = Fleet(tmp_path_factory.mktemp("fleet"), servers)
        done = found.play("site.yml")
        assert done.returncode == 0, done.stdout
        yield found
    finally:
        for name in NAMES:
            lab.vps.down(name)


def test_the_first_server_alone_migrates_the_database_that_they_share(fleet: Fleet) -> None:
    done = fleet.play("deploy.yml", "-e", f"tag={ONE}")
    assert done.returncode == 0, done.stdout
    one, two = ([stage["stage"] for stage in fleet.status(name)["live"]["stages"]] for name in NAMES)
    assert "migrate" in one
    assert "migrate" not in two
    assert "backup" not in two
    assert fleet.tags() == [ONE, ONE]


def test_one_after_the_other(fleet: Fleet) -> None:
    done = fleet.play("deploy.yml", "-e", f"tag={TWO}")
    assert done.returncode == 0, done.stdout
    one, two = (fleet.status(name)["live"] for name in NAMES)
    assert one["tag"] == two["tag"] == TWO
    assert one["ended"] < two["began"]
    for name, live in zip(NAMES, (one, two), strict=True):
        assert f"    {name}: {live['release']} serves\n" in done.stdout


def test_a_version_that_fails_on_the_second_goes_from_the_first_as_well(fleet: Fleet) -> None:
    services = [
        {"name": "app", "kind": "web", "port": 8000, "health_path": "/nope"},
        {"name": "worker", "kind": "singleton"},
    ]
    with LoadProcess(f"http://127.0.0.1:{fleet.servers['fleet-one'].http_port}", rate=20) as load:
        done = fleet.play("deploy.yml", "-e", f"tag={THREE}", app_deploy_services=services)
        told = load.stop()
    assert done.returncode != 0
    assert told.failed == 0, told.summary()
    assert fleet.tags() == [TWO, TWO]
    assert any(release.endswith(THREE) for release in told.releases)
    assert "/nope answers 404" in [line for line in done.stdout.splitlines() if "[ERROR]" in line][-1]
    assert fleet.kinds() == {"fleet-one": "put-back", "fleet-two": "failed"}


def test_a_second_server_that_cannot_be_reached_takes_the_first_back(fleet: Fleet) -> None:
    done = fleet.play("deploy.yml", "-e", f"tag={THREE}", ansible_port=1)
    assert done.returncode != 0
    assert fleet.tags() == [TWO, TWO]
    assert "fleet-two: what serves is not known: the server cannot be reached" in done.stdout
    assert fleet.kinds() == {"fleet-one": "put-back", "fleet-two": "unreachable"}


def test_a_plain_run_brings_both_to_it_and_a_rollback_back(fleet: Fleet) -> None:
    done = fleet.play("deploy.yml", "-e", f"tag={THREE}")
    assert done.returncode == 0, done.stdout
    assert fleet.tags() == [THREE, THREE]
    done = fleet.play("rollback.yml")
    assert done.returncode == 0, done.stdout
    assert fleet.tags() == [TWO, TWO]
    assert fleet.kinds() == {"fleet-one": "live", "fleet-two": "live"}
