"""What one process shares: the database engine, the Redis client and the feed of changes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import asyncpg  # type: ignore[import-untyped] # it brings no types
from fastapi import Depends
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from starlette.requests import HTTPConnection

from app.feed import Feed
from app.settings import Settings

# Seconds to wait for a connection, and for an answer.
CONNECT_TIMEOUT = 3
# Seconds to wait for a name to be known: Docker knows none while it restarts, though all containers go on.
NAME_TIMEOUT = 3
ANSWER_TIMEOUT = 10
# Seconds that a request waits for its turn at the database: as long as a client has patience, because an overload
# that lasts a moment (another version starts beside this one) should make requests late, not fail them.
POOL_TIMEOUT = 15
# Seconds that closing all connections may take.
CLOSE_TIMEOUT = 3


async def connect(*args: Any, **options: Any) -> asyncpg.Connection:  # noqa: ANN401 - as asyncpg.connect
    """Connect to the database as asyncpg does, but wait up to NAME_TIMEOUT for its name.

    Raises:
        OSError: it cannot be reached, or its name is unknown.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + NAME_TIMEOUT
    while True:
        try:
            return await asyncpg.connect(*args, **options)
        except socket.gaierror:  # noqa: PERF203 - each attempt may fail
            if loop.time() >= deadline:
                raise
            await asyncio.sleep(0.1)


def make_engine(settings: Settings) -> AsyncEngine:
    """Make the database engine; it connects on first use, and again after the database was away."""
    return create_async_engine(
        settings.database_url.get_secret_value(),
        pool_size=settings.db_pool_size,
        max_overflow=settings.db_max_overflow,
        pool_timeout=POOL_TIMEOUT,
        pool_pre_ping=True,
        # Values that people entered have no place in the logs.
        hide_parameters=True,
        connect_args={
            "async_creator_fn": connect,
            "timeout": CONNECT_TIMEOUT,
            "command_timeout": ANSWER_TIMEOUT,
        },
    )


def make_redis(settings: Settings) -> Redis:
    """Make the Redis client; it connects on first use."""
    return Redis.from_url(
        settings.redis_url.get_secret_value(),
        max_connections=settings.redis_pool_size,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
        # The library's default waits for seconds between attempts, and a request would wait with it.
        retry=Retry(NoBackoff(), 1),
        decode_responses=True,
    )


class Resources:
    """Opened and closed with the process; `app.state.resources` for the web service."""

    def __init__(self, settings: Settings) -> None:
        """Prepare everything; nothing connects yet, so that /health needs no dependency."""
        self.settings = settings
        self.engine = make_engine(settings)
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.redis = make_redis(settings)
        self.feed = Feed(self.redis, settings.events_channel)

    async def close(self) -> None:
        """Close the connections, within CLOSE_TIMEOUT; the end of the process closes what is left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.engine.dispose()
                await self.redis.aclose()


def _resources(connection: HTTPConnection) -> Resources:
    resources: Resources = connection.app.state.resources
    return resources


Shared = Annotated[Resources, Depends(_resources)]


async def _session(resources: Shared) -> AsyncIterator[AsyncSession]:
    async with resources.sessions() as session:
        yield session


# A handler commits before it returns: code after a `yield` runs when the client has its answer already.
Session = Annotated[AsyncSession, Depends(_session)]
