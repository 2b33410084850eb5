"""What one process shares."""

import asyncio
import socket

import asyncpg  # type: ignore[import-untyped] # it brings no types
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app import resources
from app.settings import Settings


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds for which names stay unknown, as while Docker restarts: they count from the first connection."""
    seconds, began = [0.0], []
    connect = asyncpg.connect

    async def nameless(*args: object, **options: object) -> asyncpg.Connection:
        now = asyncio.get_running_loop().time()
        began.append(now)
        if now < began[0] + seconds[0]:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return await connect(*args, **options)

    monkeypatch.setattr(asyncpg, "connect", nameless)
    return seconds


async def test_a_request_waits_while_names_are_unknown(settings: Settings, unknown: list[float]) -> None:
    unknown[0] = 0.5
    shared = resources.Resources(settings)
    async with shared.engine.connect() as connection:
        assert (await connection.execute(text("select 1"))).scalar() == 1
    await shared.close()


async def test_but_not_for_ever(
    settings: Settings, unknown: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown[0] = 60
    monkeypatch.setattr(resources, "NAME_TIMEOUT", 0.3)
    shared = resources.Resources(settings)
    with pytest.raises((DBAPIError, OSError), match="name resolution"):
        async with shared.engine.connect():
            pass
    await shared.close()
