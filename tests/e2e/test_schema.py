"""Going back across a migration that dropped something: refused, by a restored dump, by a downgrade, and returned from."""

from __future__ import annotations

import json
import shutil
import urllib.request
from typing import TYPE_CHECKING

import pytest

from lab import play, state
from lab.build import build
from tests.e2e.server import APP, NAME, ONE, Server
from tests.e2e.test_migrations import revision, sql

if TYPE_CHECKING:
    import subprocess

FOUR, FIVE = "sha-e2e0014", "sha-e2e0015"
# Nothing here is about what happens after the switch; and the last rollback goes far back.
QUICK = ("-e", json.dumps({"app_deploy_limits": {"watch": 0, "drain": 0, "retain": 12}}))
EXPAND = '''"""Labels."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add a table."""
    op.create_table("labels", sa.Column("text", sa.Text))


def downgrade() -> None:
    """Drop it."""
    op.drop_table("labels")
'''
CONTRACT = '''"""No labels."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Drop the table."""
    op.drop_table("labels")


def downgrade() -> None:
    """Make it again, empty."""
    op.create_table("labels", sa.Column("text", sa.Text))
'''


@pytest.fixture(scope="module")
def dropped(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """FOUR made a table, somebody wrote into it, and FIVE dropped it."""
    folder = tmp_path_factory.mktemp("context")
    for name in ("Dockerfile", ".dockerignore"):
        shutil.copy(state.ROOT / name, folder)
    shutil.copytree(state.ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    versions = folder / "app/migrations/versions"
    (versions / "v0004_labels.py").write_text(EXPAND)
    build(FOUR, context=folder)
    (versions / "v0005_no_labels.py").write_text(CONTRACT)
    build(FIVE, context=folder)
    # The commands of the live release count, so each one has been released with them.
    done = server.deploy(FOUR, *QUICK)
    assert done.returncode == 0, done.stdout
    sql(server, "insert into labels values ('kept')")
    write(server, "before the drop")
    done = server.deploy(FIVE, *QUICK)
    assert done.returncode == 0, done.stdout
    assert revision(server) == "0005"
    return server


def write(server: Server, name: str) -> None:
    """Let the application write something, and acknowledge it."""
    asked = urllib.request.Request(
        f"{server.url}/api/projects",
        json.dumps({"name": name}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.status in (200, 201)


def written(server: Server) -> set[str]:
    return set(sql(server, "select name from projects").splitlines())


def rollback(*arguments: str) -> subprocess.CompletedProcess[str]:
    return play.run("rollback.yml", *arguments, hosts=[NAME])


def live(server: Server) -> dict[str, str]:
    found: dict[str, str] = server.status()["live"]
    return found


def test_it_is_refused_naming_both_ways_out(dropped: Server) -> None:
    before = live(dropped)["release"]
    done = rollback("-e", f"to={ONE}")
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if "[ERROR]" in line]
    assert f"never ran on the present database schema, which {before} brought" in line
    assert "-e schema=restore" in line
    assert "-e schema=downgrade" in line
    assert live(dropped)["release"] == before


def test_a_restored_dump_brings_the_old_data_back(dropped: Server) -> None:
    left = live(dropped)["release"]
    write(dropped, "lost with the dump")
    told = rollback("--check", "-e", f"to={FOUR}", "-e", "schema=restore").stdout
    assert f"not without downtime: {left} would be stopped first" in told
    assert f"taken before {left}: everything written since is lost" in told

    done = rollback("-e", f"to={FOUR}", "-e", "schema=restore")
    assert done.returncode == 0, done.stdout
    now = live(dropped)
    assert (now["tag"], revision(dropped)) == (FOUR, "0004")
    assert (now["schema_before"], now["schema_after"]) == ("0005", "0004")
    assert sql(dropped, "select text from labels") == "kept"
    assert "before the drop" in written(dropped)
    assert "lost with the dump" not in written(dropped)
    # What was there last is in a dump of its own.
    assert f"{now['release']}.dump" in dropped.must(f"ls {APP}/backups")
    assert sql(dropped, "select datname from pg_database where datname ~ 'slipway'") == ""
    write(dropped, "after the restore")


def test_a_restore_that_fails_returns_to_what_served(dropped: Server) -> None:
    done = dropped.deploy(FIVE, *QUICK)  # which migrates again, behind a dump
    assert done.returncode == 0, done.stdout
    before = live(dropped)
    write(dropped, "written to the live version")
    dump = before["backup"]
    dropped.must(f"cp {dump} /tmp/whole.dump && truncate --size=2500 {dump}")
    try:
        done = rollback("-e", f"to={FOUR}", "-e", "schema=restore")
    finally:
        dropped.must(f"mv /tmp/whole.dump {dump}")
    assert done.returncode != 0
    assert "app_deploy_backup.restore" in done.stdout
    assert live(dropped)["release"] == before["release"]
    assert revision(dropped) == "0005"
    assert {"after the restore", "written to the live version"} <= written(dropped)
    write(dropped, "after the return")
    assert "after the return" in written(dropped)


def test_a_downgrade_keeps_what_was_written(dropped: Server) -> None:
    done = rollback("-e", f"to={FOUR}", "-e", "schema=downgrade")
    assert done.returncode == 0, done.stdout
    assert (live(dropped)["tag"], revision(dropped)) == (FOUR, "0004")
    assert sql(dropped, "select count(*) from labels") == "0"
    assert {"before the drop", "after the restore", "after the return"} <= written(dropped)

    # And one further, on the server itself, which leaves the schema as it was before all this.
    slipway = f"{APP}/bin/slipway"
    told = dropped.must(f"{slipway} rollback --to {ONE} --schema downgrade")
    assert "not without downtime" in told
    assert (live(dropped)["tag"], revision(dropped)) == (ONE, "0003")
