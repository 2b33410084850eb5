"""The feed of changes: published to Redis by whoever makes one, and from there to every listener of every process."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

logger = logging.getLogger("app.feed")

# What a listener that reads too slowly may have waiting; beyond it, the oldest changes are dropped.
WAITING_MAX = 100
# Seconds between attempts to subscribe while Redis is away.
RETRY_PAUSE = 1.0
# redis-py swallows a cancellation that arrives while it connects, so one is not always enough.
STOP_ATTEMPTS = 20

# One change as JSON text, or None: the feed has ended.
Listener = asyncio.Queue[str | None]


class Feed:
    """One subscription to Redis, shared by all listeners of this process."""

    def __init__(self, redis: Redis, channel: str) -> None:
        """Publish to and listen on `channel`."""
        self._redis = redis
        self._channel = channel
        self._listeners: set[Listener] = set()
        self._ended = False

    async def publish(self, kind: str, /, **details: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Tell everyone of a change, e.g. `publish("task.updated", id=7)`.

        The change itself is in the database already, so a Redis that is away is logged and costs only liveness.
        """
        try:
            await self._redis.publish(self._channel, json.dumps({"type": kind, **details}, default=str))
        # RuntimeError is uvloop's, where the connection has just been closed; redis-py does not know it.
        except (RedisError, OSError, RuntimeError) as error:
            logger.warning(
                "event not published", extra={"fields": {"event": kind, "error": type(error).__name__}}
            )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hand on what Redis says in the background for as long as the context lasts; then the feed ends."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self.end()
            for _ in range(STOP_ATTEMPTS):
                task.cancel()
                if (await asyncio.wait({task}, timeout=0.1))[0]:
                    break

    async def _run(self) -> None:
        # Whenever Redis was away, this subscribes again.
        while not self._ended:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(self._channel)
                    async for message in subscription.listen():
                        self._hand_on(message["data"])
            # Whatever it was: a feed that ended here would leave every stream silent.
            except Exception as error:  # noqa: BLE001, PERF203 - see above; once per interruption
                logger.warning("feed interrupted", extra={"fields": {"error": type(error).__name__}})
                await asyncio.sleep(RETRY_PAUSE)

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """Yield a queue that gets each change from now on, and None when the feed ends."""
        listener = Listener(WAITING_MAX)
        if self._ended:
            listener.put_nowait(None)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def end(self) -> None:
        """Tell every listener, present and future, that this process is going away."""
        self._ended = True
        self._hand_on(None)

    def _hand_on(self, item: str | None) -> None:
        for listener in self._listeners:
            if listener.full():
                listener.get_nowait()
            listener.put_nowait(item)
