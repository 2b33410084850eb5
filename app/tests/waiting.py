"""Bounded waiting for what another process does."""

import asyncio
from collections.abc import Awaitable, Callable

# Generous, because other tests share the machine.
TIMEOUT = 20


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `check` is true.

    Raises:
        TimeoutError: it was not, for TIMEOUT seconds.
    """
    async with asyncio.timeout(TIMEOUT):
        while not await check():  # noqa: ASYNC110 - another process sets no event of ours
            await asyncio.sleep(0.05)
