"""Migrations, run as a release runs them."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg  # type: ignore[import-untyped] # it ships no types
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from app.models import Base
from app.tests.programs import alembic, run, started
from app.tests.services import Services
from app.tests.waiting import until


@pytest.fixture
def empty(services: Services) -> Iterator[str]:
    """Address of an empty database."""
    with services.empty_database() as url:
        yield url


def test_up_from_empty_and_check_heads(empty: str) -> None:
    assert alembic(empty, "current", "--check-heads").returncode != 0
    up = alembic(empty, "upgrade", "head")
    assert up.returncode == 0, up.stderr
    assert up.stderr.count("Running upgrade") >= 3
    assert alembic(empty, "current", "--check-heads").returncode == 0
    assert "Running upgrade" not in alembic(empty, "upgrade", "head").stderr
    # A release that is one step behind has something pending again.
    assert alembic(empty, "downgrade", "-1").returncode == 0
    assert alembic(empty, "current", "--check-heads").returncode != 0


def test_down_to_nothing_and_up_again(empty: str) -> None:
    for step in (("upgrade", "head"), ("downgrade", "base"), ("upgrade", "head")):
        result = alembic(empty, *step)
        assert result.returncode == 0, f"{step}: {result.stdout}{result.stderr}"


async def test_models_and_migrations_agree(database_url: str) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))

    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


def test_two_runs_at_once_do_not_interleave(empty: str) -> None:
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: alembic(empty, "upgrade", "head"), range(2)))
    assert [result.returncode for result in runs] == [0, 0], [result.stdout for result in runs]
    assert sorted("Running upgrade" in result.stderr for result in runs) == [False, True]


async def test_a_locked_table_fails_soon_and_leaves_everything_as_it_was(empty: str) -> None:
    assert alembic(empty, "upgrade", "0001").returncode == 0
    connection = await asyncpg.connect(empty)
    try:
        async with connection.transaction():
            await connection.execute("SELECT * FROM tasks")
            result = await asyncio.to_thread(
                alembic, empty, "upgrade", "head", MIGRATION_LOCK_TIMEOUT="300ms"
            )
        columns = await connection.fetchval(
            "SELECT count(*) FROM information_schema.columns WHERE table_name = 'tasks'"
        )
    finally:
        await connection.close()
    assert result.returncode != 0
    assert "lock timeout" in result.stdout
    assert "Traceback" not in result.stderr
    assert columns == 5
    assert alembic(empty, "upgrade", "head").returncode == 0


async def test_a_statement_that_takes_too_long_is_one_line(empty: str) -> None:
    assert alembic(empty, "upgrade", "0001").returncode == 0
    connection = await asyncpg.connect(empty)
    try:
        async with connection.transaction():
            await connection.execute("SELECT * FROM tasks")
            result = await asyncio.to_thread(alembic, empty, "upgrade", "head", MIGRATION_TIMEOUT="300ms")
    finally:
        await connection.close()
    assert result.returncode != 0
    told = [line for line in result.stdout.splitlines() if "FAILED" in line]
    assert len(told) == 1
    assert "statement timeout in: ALTER TABLE tasks" in told[0]


async def test_a_run_that_is_killed_leaves_no_session_behind(empty: str) -> None:
    assert alembic(empty, "upgrade", "0001").returncode == 0
    # Not pg_stat_activity, which looks the same for the whole of a transaction.
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database "
        "WHERE NOT granted AND datname = current_database()"
    )
    connection = await asyncpg.connect(empty)

    async def waits(count: int) -> bool:
        return bool(await connection.fetchval(waiting) == count)

    try:
        async with connection.transaction():
            await connection.execute("SELECT * FROM tasks")
            with started(
                *("alembic", "-c", "app/alembic.ini", "upgrade", "head"),
                DATABASE_URL=empty,
                MIGRATION_LOCK_TIMEOUT="60s",
            ) as run:
                await until(lambda: waits(1))
                run.kill()
            await until(lambda: waits(0))
    finally:
        await connection.close()


async def test_a_run_that_ended_between_two_transactions_can_be_taken_up(empty: str) -> None:
    assert alembic(empty, "upgrade", "head").returncode == 0
    connection = await asyncpg.connect(empty)
    try:
        # The columns were committed, the index was not made yet.
        await connection.execute("DROP INDEX tasks_waiting_due_at")
        await connection.execute("DROP TABLE activities")
        await connection.execute("UPDATE alembic_version SET version_num = '0001'")
    finally:
        await connection.close()
    again = await asyncio.to_thread(alembic, empty, "upgrade", "head")
    assert again.returncode == 0, again.stdout
    assert alembic(empty, "current", "--check-heads").returncode == 0


def test_offline_sql_needs_no_database(nowhere: str) -> None:
    result = alembic(f"postgresql://u:p@{nowhere}/x", "upgrade", "head", "--sql")
    assert result.returncode == 0, result.stderr
    assert "CREATE TABLE activities" in result.stdout


def test_a_database_that_is_away_is_one_line(nowhere: str, services: Services) -> None:
    wrong_name = services.database_url.rpartition("/")[0] + "/nothing_of_this_name"
    for url, problem in (
        (f"postgresql://u:p@{nowhere}/x", "cannot reach"),
        (wrong_name, "does not exist"),
        ("", "missing"),
    ):
        result = alembic(url, "current", "--check-heads")
        assert result.returncode != 0
        assert problem in result.stdout
        assert "Traceback" not in result.stderr


def test_asking_what_is_pending_does_not_import_the_application(database_url: str) -> None:
    """Every release asks; importing the web application or the ORM would double the time."""
    check = (
        "import sys; from alembic.config import main; main(['-c', 'app/alembic.ini', 'current', '--check-heads']);"
        "print(sorted({'fastapi', 'pydantic', 'sqlalchemy.orm', 'redis', 'uvicorn'} & set(sys.modules)))"
    )
    # timeit is merely a module that runs what it is given.
    result = run("timeit", "-n1", "-r1", check, DATABASE_URL=database_url)
    assert result.returncode == 0, result.stderr
    assert "[]" in result.stdout.splitlines()
