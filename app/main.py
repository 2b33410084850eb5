"""The web application."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path

import asyncpg  # type: ignore[import-untyped] # it ships no types
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app import api, probes, streams, webhooks
from app.logs import RequestLog, configure
from app.resources import Resources, Shared
from app.settings import Settings, load

logger = logging.getLogger("app.main")

# How the database being away shows; OSError includes refused connections and time-outs.
DATABASE_AWAY = (OSError, DBAPIError, PoolTimeoutError, asyncpg.PostgresError)

PAGE = (Path(__file__).parent / "web" / "index.html").read_text(encoding="utf-8")


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application, from the environment unless `settings` are given."""
    settings = settings or load()
    configure(settings.log_level)
    app = FastAPI(
        title="Project manager",
        version=settings.app_version,
        docs_url="/api/docs",
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=_lifespan,
    )
    app.state.resources = Resources(settings)
    app.add_middleware(RequestLog)
    for error in DATABASE_AWAY:
        app.add_exception_handler(error, _database_away)
    app.add_api_route("/", _page, response_class=HTMLResponse, include_in_schema=False)
    for module in (api, streams, webhooks, probes):
        app.include_router(module.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    resources: Resources = app.state.resources
    async with resources.feed.running():
        yield
    await resources.close()


async def _page(resources: Shared) -> HTMLResponse:
    """Show a person what there is."""
    settings = resources.settings
    page = PAGE.replace("{{version}}", escape(settings.app_version)).replace(
        "{{sha}}", escape(settings.git_sha[:12])
    )
    return HTMLResponse(page, headers={"Cache-Control": "no-store"})


async def _database_away(_request: Request, error: Exception) -> JSONResponse:
    lost = isinstance(error, InterfaceError | OperationalError) or getattr(
        error, "connection_invalidated", True
    )
    if not lost:
        # The database answered, and refused what this application asked: a bug, to be seen as one.
        raise error
    logger.error("database away", extra={"fields": {"error": type(error).__name__}})
    return JSONResponse({"detail": "the database is away, try again"}, 503, {"Retry-After": "1"})
