"""The long-lived clients of the load generator: SSE and WebSocket, which note each cut and connect again.

Connecting again is no retry of a request: the cut is on record by then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import h11
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from lab.load_http import Connection, LostError, classify
from lab.load_report import Cut, Stream

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from lab.load_report import Recorder
    from lab.load_settings import Settings, Target

# Seconds between two attempts to connect, and between two application-level pings.
RECONNECT_PAUSE = 0.1
PING_INTERVAL = 1.0


class SseClient:
    """One open SSE stream on a connection of its own."""

    def __init__(self, name: str, target: Target, settings: Settings, recorder: Recorder) -> None:
        """Take where to connect, and the path and time limit in the settings."""
        self._target = target
        self._settings = settings
        self._recorder = recorder
        self._stream = Stream(name)
        self._opened: float | None = None
        self._events_before = 0
        self._tail = b""
        self._status = 0
        self._head: asyncio.Event = asyncio.Event()
        recorder.streams.append(self._stream)

    async def run(self) -> None:
        """Keep the stream open until cancelled."""
        while True:
            self._opened = None
            self._events_before = self._stream.events
            self._tail = b""
            self._head = asyncio.Event()
            try:
                await self._once()
            except LostError as lost:
                self._ended(lost.kind, lost.detail)
            await asyncio.sleep(RECONNECT_PAUSE)

    async def _once(self) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout):
                connection = await Connection.open(self._target.family, self._target.address)
        except TimeoutError as error:
            raise classify(error) from error
        request = h11.Request(
            method="GET",
            target=self._settings.sse_path,
            headers=[("Host", self._target.host_header), ("Accept", "text/event-stream")],
        )
        exchange = asyncio.ensure_future(
            connection.exchange(request, on_response=self._on_response, on_data=self._on_data)
        )
        try:
            # Only the head has a time limit: the body goes on for as long as the server likes.
            head = asyncio.ensure_future(self._head.wait())
            await asyncio.wait(
                {head, exchange}, timeout=self._settings.timeout, return_when=asyncio.FIRST_COMPLETED
            )
            head.cancel()
            if not self._head.is_set() and not exchange.done():
                raise classify(TimeoutError())
            await exchange
            self._ended("end", f"status {self._status}")
        finally:
            exchange.cancel()
            connection.close()

    def _on_response(self, response: h11.Response) -> None:
        self._status = response.status_code
        if self._status == 200:
            self._opened = self._recorder.now()
            self._stream.opened.append(self._opened)
        self._head.set()

    def _on_data(self, data: bytes) -> None:
        # An event ends with an empty line, which may be cut anywhere by the network.
        text = (self._tail + data).replace(b"\r\n", b"\n")
        *events, self._tail = text.split(b"\n\n")
        if self._opened is not None:
            self._stream.events += len(events)

    def _ended(self, how: str, detail: str) -> None:
        if self._opened is None:
            self._stream.open_failed("status" if how == "end" else how, detail)
        else:
            events = self._stream.events - self._events_before
            self._stream.cuts.append(Cut(self._opened, self._recorder.now(), how, events))


class WebSocketClient:
    """One open WebSocket that pings in the application's own words and wants its pong."""

    def __init__(self, name: str, target: Target, settings: Settings, recorder: Recorder) -> None:
        """Take where to connect, and the path, the words and the time limit in the settings."""
        self._target = target
        self._settings = settings
        self._recorder = recorder
        self._stream = Stream(name)
        recorder.streams.append(self._stream)

    async def run(self) -> None:
        """Keep the WebSocket open until cancelled."""
        while True:
            try:
                await self._once()
            except (OSError, TimeoutError, LostError) as error:
                lost = classify(error)
                self._stream.open_failed(lost.kind, lost.detail)
            except InvalidHandshake as error:
                self._stream.open_failed("status" if isinstance(error, InvalidStatus) else "http", str(error))
            await asyncio.sleep(RECONNECT_PAUSE)

    async def _once(self) -> None:
        address, port = self._target.address
        client = await connect(
            f"ws://{self._target.host_header}{self._settings.ws_path}",
            host=address,
            port=port,
            family=self._target.family,
            proxy=None,
            compression=None,
            open_timeout=self._settings.timeout,
            close_timeout=0.5,
            # The library's own pings would close the connection behind our back.
            ping_interval=None,
        )
        opened = self._recorder.now()
        self._stream.opened.append(opened)
        before = self._stream.events
        try:
            how = await self._talk(client)
        finally:
            # Closed without the closing handshake's waiting time: nobody measures it.
            client.transport.abort()
        self._stream.cuts.append(Cut(opened, self._recorder.now(), how, self._stream.events - before))

    async def _talk(self, client: ClientConnection) -> str:
        """Ping and read until the connection ends; return how it ended."""
        loop = asyncio.get_running_loop()
        next_ping, pong_due = loop.time(), None
        try:
            while True:
                if pong_due is None and loop.time() >= next_ping:
                    await client.send(self._settings.ws_ping)
                    next_ping, pong_due = loop.time() + PING_INTERVAL, loop.time() + self._settings.timeout
                try:
                    async with asyncio.timeout_at(pong_due or next_ping):
                        message = await client.recv()
                except TimeoutError:
                    if pong_due is not None:
                        return "silent"
                    continue
                self._stream.events += 1
                text = message if isinstance(message, str) else message.decode(errors="replace")
                if self._settings.ws_pong in text:
                    pong_due = None
        except ConnectionClosed as error:
            if error.rcvd is not None:
                return f"close {error.rcvd.code}"
            cause = error.__cause__
            return classify(cause if isinstance(cause, OSError) else None).kind
