"""PostgreSQL and Redis for the tests: those that TEST_DATABASE_URL and TEST_REDIS_URL name, or containers."""

import asyncio
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import asyncpg  # type: ignore[import-untyped] # it ships no types
import redis

# Seconds until a container must answer; the first start of PostgreSQL initialises its files.
START_TIMEOUT = 60


@dataclass(frozen=True)
class Services:
    """Addresses; the database's user may create databases."""

    database_url: str
    redis_url: str

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """Create a database of our own, so that tests can run side by side; yield its address."""
        name = f"test_{secrets.token_hex(6)}"
        _execute(self.database_url, f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(self.database_url)._replace(path=f"/{name}"))
        finally:
            _execute(self.database_url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running_services() -> Iterator[Services]:
    """Yield the services; containers are removed at the end."""
    with ExitStack() as stack:
        database_url = os.environ.get("TEST_DATABASE_URL")
        if not database_url:
            password = secrets.token_hex(16)
            environment = {"POSTGRES_USER": "test", "POSTGRES_PASSWORD": password, "POSTGRES_DB": "test"}
            port = stack.enter_context(_container("postgres:15", 5432, environment))
            database_url = f"postgresql://test:{password}@127.0.0.1:{port}/test"
        redis_url = os.environ.get("TEST_REDIS_URL")
        if not redis_url:
            redis_url = f"redis://127.0.0.1:{stack.enter_context(_container('redis:7-alpine', 6379, {}))}/0"
        _wait_until(lambda: _execute(database_url, "SELECT 1"))
        _wait_until(lambda: redis.Redis.from_url(redis_url).ping())
        yield Services(database_url, redis_url)


@contextmanager
def _container(image: str, port: int, environment: dict[str, str]) -> Iterator[int]:
    """Run a container; yield the port of loopback that reaches its `port`."""
    # By name only: the values come from our environment, because anyone can read a command line.
    names = [argument for name in environment for argument in ("-e", name)]
    run = [
        "docker",
        "run",
        "--detach",
        "--label=slipway.lab=1",
        f"--publish=127.0.0.1::{port}",
        *names,
        image,
    ]
    container = _output(run, os.environ | environment)
    try:
        address = _output(["docker", "port", container, f"{port}/tcp"])
        yield int(address.splitlines()[0].rpartition(":")[2])
    finally:
        _output(["docker", "rm", "--force", "--volumes", container])


def _output(command: list[str], environment: dict[str, str] | None = None) -> str:
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=START_TIMEOUT, check=False
    )
    assert result.returncode == 0, f"{' '.join(command)}: {result.stderr.strip()}"
    return result.stdout.strip()


def _wait_until(attempt: Callable[[], object]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            attempt()
        except (OSError, asyncpg.PostgresError, redis.RedisError):  # noqa: PERF203 - it sleeps anyway
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _execute(url: str, statement: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(execute())
