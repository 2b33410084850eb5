"""Live changes, as Server-Sent Events and over a WebSocket."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from app.feed import Feed, Listener
from app.resources import Shared

router = APIRouter(prefix="/api", tags=["live"])

# "Service restart": the client should connect again, and will reach the new version.
GOING_AWAY = 1012


@router.get("/events")
async def events(resources: Shared) -> StreamingResponse:
    """Stream changes for as long as the client listens; a comment is sent while nothing happens."""
    return StreamingResponse(
        _event_stream(resources.feed, resources.settings.heartbeat_seconds),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _event_stream(feed: Feed, heartbeat: float) -> AsyncIterator[str]:
    with feed.listen() as listener:
        # A browser waits this many milliseconds before it connects again.
        yield "retry: 1000\n: connected\n\n"
        while True:
            try:
                change = await asyncio.wait_for(listener.get(), heartbeat)
            except TimeoutError:
                yield ": heartbeat\n\n"
                continue
            if change is None:
                return
            yield f"data: {change}\n\n"


@router.websocket("/ws")
async def ws(websocket: WebSocket, resources: Shared) -> None:
    """Send changes as JSON texts and answer "ping" with "pong"; close with 1012 when the server stops."""
    await websocket.accept()
    with resources.feed.listen() as listener:
        halves = {
            asyncio.create_task(_send_changes(websocket, listener)),
            asyncio.create_task(_answer_pings(websocket)),
        }
        done, pending = await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        for half in pending:
            half.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for half in done:
            half.result()


async def _send_changes(websocket: WebSocket, listener: Listener) -> None:
    try:
        while (change := await listener.get()) is not None:
            await websocket.send_text(change)
        await websocket.close(GOING_AWAY)
    except (WebSocketDisconnect, RuntimeError):
        # The client left, or the server has closed the connection already: both are an end, not an error.
        return


async def _answer_pings(websocket: WebSocket) -> None:
    try:
        async for text in websocket.iter_text():
            if text == "ping":
                await websocket.send_text("pong")
    except (WebSocketDisconnect, RuntimeError):
        return
