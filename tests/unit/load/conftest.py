"""The misbehaving server, running for one test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.load.bad_server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.stop()
