"""Structured logs: one JSON object per line on stdout, and one line per request. Never a query string or a body."""

import json
import logging
import sys
import time
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("app.request")


class JsonFormatter(logging.Formatter):
    """Formats a record, with what was passed as `extra={"fields": {...}}`, as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a newline at its end."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Send every log of this process to stdout as JSON, from `level` (a name such as INFO) up."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)


class RequestLog:
    """ASGI middleware that writes one line per request or WebSocket when it ends, and answers X-Request-ID."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of any ASGI type; lifespan passes through."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        started = time.perf_counter()
        request_id = uuid4().hex
        # What the client was told; 0 if it left, or the server stopped, before any answer.
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            await self.app(scope, receive, answer)
        finally:
            fields = {
                "id": request_id,
                "method": scope.get("method", "WEBSOCKET"),
                "path": scope["path"],
                "status": status,
                "ms": round((time.perf_counter() - started) * 1000, 1),
                "client": scope["client"][0] if scope.get("client") else None,
            }
            logger.info("request", extra={"fields": fields})
