"""What the tests share. Everything is per test process, so that pytest-xdist can run them side by side."""

import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx
import pytest

from app.server import Server
from app.settings import Settings
from app.tests.programs import alembic
from app.tests.services import Services, running_services

SECRET_KEY = "a-key-for-the-tests-alone"
Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    with running_services() as found:
        yield found


@pytest.fixture(scope="session")
def database_url(services: Services) -> Iterator[str]:
    """Address of a migrated database; tests share it, and touch only the rows that they made."""
    with services.empty_database() as url:
        result = alembic(url, "upgrade", "head")
        assert result.returncode == 0, result.stderr
        yield url


@pytest.fixture(scope="session")
def environment(services: Services, database_url: str) -> dict[str, str]:
    """Settings as a container gets them."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": services.redis_url,
        "SECRET_KEY": SECRET_KEY,
        # Loopback, and any free port.
        "HOST": "127.0.0.1",
        "PORT": "0",
        # Redis may be shared with other test processes.
        "EVENTS_CHANNEL": f"test:{secrets.token_hex(6)}",
        "HEARTBEAT_SECONDS": "0.2",
        "WORKER_INTERVAL_SECONDS": "0.1",
    }


@pytest.fixture(scope="session")
def settings(environment: dict[str, str]) -> Settings:
    """The same settings, read."""
    values = {name.lower(): value for name, value in environment.items()}
    values["database_url"] = values["database_url"].replace("postgresql://", "postgresql+asyncpg://", 1)
    return Settings.model_validate(values)


@pytest.fixture(scope="session")
def serve(settings: Settings) -> Serve:
    """Serve the application for a while, with some settings changed: `with serve(redis_url=...) as base_url`."""

    @contextmanager
    def serve(**changes: object) -> Iterator[str]:
        server = Server(settings.model_copy(update=changes))
        # A thread of its own: the tests' event loops come and go.
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
        assert not thread.is_alive(), "the server did not end"

    return serve


@pytest.fixture(scope="session")
def base_url(serve: Serve) -> Iterator[str]:
    """Address of a running application."""
    with serve() as url:
        yield url


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=base_url, timeout=20) as client:
        yield client


@pytest.fixture
def nowhere() -> Iterator[str]:
    """A port of loopback where nothing answers, for as long as the test runs, as "127.0.0.1:<port>"."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"
