"""What machines ask: is it alive, can it work, which version is it."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import text

from app.resources import Resources, Shared

router = APIRouter(tags=["probes"])
logger = logging.getLogger("app.probes")

# Seconds one dependency may take to answer.
CHECK_TIMEOUT = 2


@router.get("/health")
async def health() -> dict[str, str]:
    """Tell that this process answers; asks nobody else, so that a database outage restarts no container."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(response: Response, resources: Shared) -> dict[str, Any]:
    """Tell whether this process can work: 503, naming what failed, when the database or Redis is away."""
    checks = {"database": _ask_database(resources), "redis": _ask_redis(resources)}
    reasons = await asyncio.gather(*(_reason(name, check) for name, check in checks.items()))
    failed = {name: reason for name, reason in zip(checks, reasons, strict=True) if reason}
    if failed:
        response.status_code = 503
    return {"status": "unavailable" if failed else "ok", "failed": failed}


@router.get("/version")
async def version(resources: Shared) -> dict[str, str]:
    """Tell what was baked into the image when it was built; "unknown" and "dev" where nothing was."""
    settings = resources.settings
    return {"sha": settings.git_sha, "built": settings.build_time, "version": settings.app_version}


async def _ask_database(resources: Resources) -> None:
    async with resources.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


async def _ask_redis(resources: Resources) -> None:
    await resources.redis.ping()


async def _reason(name: str, check: Awaitable[None]) -> str | None:
    """Return why the check failed, or None. Only the kind of error: anyone may read this answer."""
    try:
        await asyncio.wait_for(check, CHECK_TIMEOUT)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises means that it cannot be used
        logger.warning("not ready", extra={"fields": {"failed": name, "error": str(error)[:500]}})
        return type(error).__name__
    return None
