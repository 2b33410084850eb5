"""A release that migrates: behind a proved dump, never waiting long for a lock, and again after a restored backup."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from lab import play, state
from lab.build import build
from lab.load import LoadProcess
from tests.e2e.server import APP, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TAG = "sha-e2e0004"
MIGRATION = '''"""A note on each project."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add a column."""
    op.add_column("projects", sa.Column("note", sa.Text))
'''
# One more that goes wrong after it has migrated.
FAILING = "sha-e2e0005"
ANOTHER = '''"""A colour of each project."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add a column."""
    op.add_column("projects", sa.Column("colour", sa.Text))
'''
# Nothing here is about what happens after the switch.
QUICK = ("-e", json.dumps({"app_deploy_limits": {"watch": 0, "drain": 0}}))
POSTGRES = "project-manager-postgres-1"
PSQL = f"docker exec -i {POSTGRES} psql --quiet -X -v ON_ERROR_STOP=1 -At -U project_manager"


def sql(server: Server, text: str, database: str = "project_manager") -> str:
    return server.must(f'{PSQL} -d {database} -c "{text}"').strip()


def revision(server: Server) -> str:
    return sql(server, "select version_num from alembic_version")


def scratch(server: Server) -> str:
    return sql(server, "select datname from pg_database where datname ~ 'slipway'")


def dumps(server: Server) -> list[str]:
    return server.must(f"ls {APP}/backups").split()


def attempt(server: Server) -> tuple[dict[str, object], list[str]]:
    """Return the last attempt as the journal tells it, and its stages."""
    last = server.status()["releases"][-1]
    return last, [stage["stage"] for stage in last["stages"]]


@pytest.fixture(scope="module")
def migrating(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same application with one more migration, as TAG; at the end the schema and what serves are as before."""
    before = server.status()["live"]["tag"]
    folder: Path = tmp_path_factory.mktemp("context")
    for name in ("Dockerfile", ".dockerignore"):
        shutil.copy(state.ROOT / name, folder)
    shutil.copytree(state.ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "app/migrations/versions/v0004_notes.py").write_text(MIGRATION)
    build(TAG, context=folder)
    (folder / "app/migrations/versions/v0005_colours.py").write_text(ANOTHER)
    build(FAILING, context=folder)
    yield server
    sql(
        server,
        "alter table projects drop column if exists note, drop column if exists colour; "
        "update alembic_version set version_num = '0003'",
    )
    done = server.deploy(before, *QUICK)
    assert done.returncode == 0, done.stdout


def test_a_migration_that_waits_for_a_lock_of_the_old_version_gives_up(migrating: Server) -> None:
    before, kept = migrating.status()["live"], dumps(migrating)
    # Redirected, so that SSH does not wait for it.
    transaction = "begin; select count(*) from projects; select pg_sleep(60)"
    migrating.must(f'nohup {PSQL} -d project_manager -c "{transaction}" >/dev/null 2>&1 </dev/null &')
    try:
        done = migrating.deploy(TAG, "-e", json.dumps({"app_deploy_migrations": short_of_patience()}))
    finally:
        sql(
            migrating,
            "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(60)'",
        )
    assert done.returncode != 0
    last, stages = attempt(migrating)
    error = str(last["error"])
    assert "ended with exit code" in error
    assert "lock timeout" in error
    assert "ALTER TABLE projects" in error
    assert "its container project-manager-migrate is kept" in error
    assert stages[-1] == "backup"
    assert migrating.status()["live"]["release"] == before["release"]
    assert (revision(migrating), scratch(migrating)) == ("0003", "")
    # The dump was proved before the migration failed.
    assert sorted(dumps(migrating)) == sorted([*kept, f"{last['release']}.dump"])
    state_of_it = migrating.must("docker ps -a --filter name=project-manager-migrate --format '{{.State}}'")
    assert state_of_it.strip() == "exited"


def short_of_patience() -> dict[str, object]:
    """Settings of the reference application that wait one second for a lock."""
    return {**application()["app_deploy_migrations"], "lock_timeout": 1}


def application() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((state.ROOT / "inventories/application.yml").read_text())
    return found


def test_a_dump_that_cannot_be_restored_stops_the_release_before_the_migration(migrating: Server) -> None:
    before, kept = migrating.status()["live"], dumps(migrating)
    torn = 'pg_dump --format=custom --username="$POSTGRES_USER" "$POSTGRES_DB" | head -c 2500'
    settings = {"app_deploy_backup": {**application()["app_deploy_backup"], "command": ["sh", "-c", torn]}}
    done = migrating.deploy(TAG, "-e", json.dumps(settings))
    assert done.returncode != 0
    last, stages = attempt(migrating)
    assert "no backup: `sh` ended with exit code 1 (app_deploy_backup.prove): pg_restore: " in str(
        last["error"]
    )
    assert stages[-1] == "pending"
    assert migrating.status()["live"]["release"] == before["release"]
    assert dumps(migrating) == kept
    assert (revision(migrating), scratch(migrating)) == ("0003", "")


def test_a_migration_behind_a_proved_dump_and_the_old_version_works_with_its_schema(
    migrating: Server,
) -> None:
    old = migrating.status()["live"]
    # As if the server had lost its power while a dump was being proved.
    sql(migrating, "create database slipway_scratch_0")
    done = migrating.deploy(TAG, *QUICK)
    assert done.returncode == 0, done.stdout
    last, stages = attempt(migrating)
    assert stages[stages.index("pending") :][:3] == ["pending", "backup", "migrate"]
    assert (last["schema_before"], last["schema_after"]) == ("0003", "0004")
    assert last["schema_known"] == ["0001", "0002", "0003", "0004"]
    assert (revision(migrating), scratch(migrating)) == ("0004", "")

    # The version before, on the schema after: the code that a rollback would bring back.
    container = f"project-manager-app-{old['colour']}-1"
    migrating.must(f"docker start {container}")
    ask = (
        "import json, time, urllib.request as r\n"
        "def get(path, data=None):\n"
        "    for _ in range(100):\n"
        "        try: return r.urlopen(r.Request('http://127.0.0.1:8000' + path, data, {'Content-Type': 'application/json'}))\n"
        "        except ConnectionError: time.sleep(0.1)\n"
        "        except OSError as error:\n"
        "            if 'refused' not in str(error): raise\n"
        "            time.sleep(0.1)\n"
        "sha = json.load(get('/version'))['sha']\n"
        "made = json.load(get('/api/projects', json.dumps({'name': 'on the newer schema'}).encode()))\n"
        "print(sha, get('/ready').status, made['name'] in get('/api/projects').read().decode())\n"
    )
    done = migrating.vps.ssh(f"docker exec -i {container} python -", user="deploy", stdin=ask.encode())
    migrating.must(f"docker stop {container}")
    assert done.stdout.split() == [old["sha"], "200", "True"], done.stderr


def test_a_backup_restored_by_hand_is_migrated_again_by_the_live_tag(migrating: Server) -> None:
    """The way of docs/deploy.md, keeping the live version."""
    live = migrating.status()["live"]
    migrating.must(f"docker exec {POSTGRES} createdb -U project_manager restored")
    migrating.must(
        f"docker exec -i {POSTGRES} pg_restore -U project_manager -d restored --single-transaction --exit-on-error < {live['backup']}"
    )
    stop = "docker ps -q --filter label=com.docker.compose.project=project-manager --filter label=slipway.release"
    stopped = migrating.must(f"{stop} | xargs docker stop --time 2").split()
    sql(migrating, "alter database project_manager rename to project_manager_damaged", "postgres")
    sql(migrating, "alter database restored rename to project_manager", "postgres")
    migrating.must(f"docker start {' '.join(stopped)}")
    assert revision(migrating) == "0003"

    done = migrating.deploy(TAG, *QUICK)
    assert done.returncode == 0, done.stdout
    last, stages = attempt(migrating)
    assert last["outcome"] == "live"
    assert (last["schema_before"], last["schema_after"]) == ("0003", "0004")
    assert stages[stages.index("pending") :][:3] == ["pending", "backup", "migrate"]
    assert revision(migrating) == "0004"
    migrating.must(f"docker exec {POSTGRES} dropdb -U project_manager project_manager_damaged")


def test_the_old_version_passes_its_checks_on_the_schema_that_a_failed_release_left(
    migrating: Server,
) -> None:
    """The new version migrates and then fails its gate: what was live before serves on, reads and writes."""
    before = migrating.status()["live"]
    web, worker = application()["app_deploy_services"]
    settings = {
        "app_deploy_services": [{**web, "hosts": [], "health_path": "/nowhere"}, worker],
        "app_deploy_limits": {"gate": 4},
    }
    with LoadProcess(migrating.url, rate=50, slow=0) as load:
        done = migrating.deploy(FAILING, "-e", json.dumps(settings))
        proof = play.run("healthcheck.yml", hosts=[migrating.vps.name])
        report = load.stop()
    assert done.returncode != 0
    last, stages = attempt(migrating)
    assert (last["tag"], last["outcome"], last["stage"], stages[-1]) == (FAILING, "failed", "gate", "start")
    assert (last["schema_before"], last["schema_after"]) == ("0004", "0005")
    assert revision(migrating) == "0005"
    assert migrating.status()["live"]["release"] == before["release"]

    assert proof.returncode == 0, proof.stdout
    # Reads and writes, before, while and after the schema changed, all of them by the old version.
    assert (report.failed, report.unexpected) == (0, {}), report.summary()
    assert set(report.releases) == {before["release"]}
    rows = sql(migrating, f"select count(*) from projects where name like '{report.token_prefix}%'")
    assert int(rows) >= len(report.acknowledged) > 0
