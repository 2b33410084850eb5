"""HTTP/1.1 client connections that never retry: h11 on an asyncio protocol, and a pool of persistent ones."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, cast

import h11

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lab.load_report import Recorder

# Errors of this machine, not of the server: files, ports or memory ran out.
_LOCAL_ERRORS = {
    errno.EMFILE,
    errno.ENFILE,
    errno.EADDRNOTAVAIL,
    errno.EADDRINUSE,
    errno.ENOBUFS,
    errno.ENOMEM,
}

_KINDS: list[tuple[type[object] | tuple[type[object], ...], str, str]] = [
    (type(None), "closed", "the server closed the connection before the answer was complete"),
    (ConnectionRefusedError, "refused", "connection refused"),
    (
        (ConnectionResetError, BrokenPipeError, ConnectionAbortedError),
        "reset",
        "connection reset by the server",
    ),
    (TimeoutError, "timeout", "no complete answer in time"),
    (h11.RemoteProtocolError, "http", ""),
]


class LostError(Exception):
    """A request without a complete answer; `kind` is refused, reset, closed, timeout, http, connect or local."""

    def __init__(self, kind: str, detail: str) -> None:
        """Take the kind and what is known beyond it."""
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


def classify(error: BaseException | None) -> LostError:
    """Return what the end of a connection means for the request that was on it; None is a clean end."""
    if isinstance(error, LostError):
        return error
    if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
        return LostError("local", str(error))
    for types, kind, detail in _KINDS:
        if isinstance(error, types):
            return LostError(kind, detail or str(error))
    return LostError("connect", f"{type(error).__name__}: {error}")


class Connection(asyncio.Protocol):
    """One connection: at most one request at a time, and its answer."""

    def __init__(self, sock: socket.socket) -> None:
        """Take the socket that the transport works on; `open` does it all."""
        self._sock = sock
        self._http = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[h11.Response] | None = None
        self._response: h11.Response | None = None
        self._on_response: Callable[[h11.Response], None] | None = None
        self._on_data: Callable[[bytes], None] | None = None
        self._lost: LostError | None = None

    @classmethod
    async def open(cls, family: socket.AddressFamily, address: tuple[str, int]) -> Connection:
        """Connect to the address. Raises LostError; the caller bounds the time."""
        loop = asyncio.get_running_loop()
        try:
            # Our own socket, because `usable` peeks into it and asyncio shows only a part of those it makes.
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise classify(error) from error
        try:
            await loop.sock_connect(sock, address)
            _, connection = await loop.create_connection(lambda: cls(sock), sock=sock)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise classify(error) from error
            raise
        return connection

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # What a stream socket always gets.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self._feed(data)

    def eof_received(self) -> None:
        """Feed the end: it completes an answer without a length, and cuts any other."""
        self._feed(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember how the connection ended, and tell the request that is on it."""
        self._fail(classify(exc))

    # Called by the load.

    async def exchange(
        self,
        request: h11.Request,
        body: bytes = b"",
        on_response: Callable[[h11.Response], None] | None = None,
        on_data: Callable[[bytes], None] | None = None,
    ) -> h11.Response:
        """Send the request and return the head of its answer, once the body is complete.

        `on_response` and `on_data` see the head and each part of the body as they come; without them the body is
        dropped. Raises LostError; the caller bounds the time.
        """
        if self._transport is None or self._lost is not None:
            raise self._lost or classify(None)
        self._answer = asyncio.get_running_loop().create_future()
        self._response = None
        self._on_response = on_response
        self._on_data = on_data
        parts = [self._http.send(request)]
        if body:
            parts.append(self._http.send(h11.Data(data=body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in parts if part))
        try:
            return await self._answer
        finally:
            self._answer = None

    def usable(self) -> bool:
        """Say whether an idle connection may take a request, without giving the event loop a turn.

        The kernel is asked, as the end of the connection may have come in without asyncio having told us yet.
        """
        if self._transport is None or self._transport.is_closing() or self._lost is not None:
            return False
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError as error:
            self._lost = classify(error)
        # The end, or bytes that nobody asked for: both make the connection useless.
        return False

    def renew(self) -> bool:
        """After a complete answer: say whether the connection can take another request."""
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if done and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
            return True
        return False

    @property
    def was_reset(self) -> bool:
        """Whether the connection ended by a reset rather than cleanly."""
        return self._lost is not None and self._lost.kind == "reset"

    def close(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _feed(self, data: bytes) -> None:
        if self._answer is None or self._lost is not None:
            # Nobody asked: the end of an idle connection, or noise that makes it useless.
            self._fail(classify(None))
            return
        try:
            self._http.receive_data(data)
            while self._on_event(self._answer, self._http.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            self._fail(classify(error if data else None))

    def _on_event(self, answer: asyncio.Future[h11.Response], event: h11.Event | type[object]) -> bool:
        """Take one part of the answer; say whether there may be another one."""
        if isinstance(event, h11.Response):
            self._response = event
            if self._on_response:
                self._on_response(event)
        elif isinstance(event, h11.Data):
            if self._on_data:
                self._on_data(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            if self._response and not answer.done():
                answer.set_result(self._response)
            return False
        elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            self._fail(classify(None))
            return False
        return event is not h11.NEED_DATA

    def _fail(self, lost: LostError) -> None:
        if self._lost is None:
            self._lost = lost
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(self._lost)
        self.close()


class Pool:
    """`size` users with a persistent connection each, who take turns; more connections when all are busy."""

    def __init__(self, size: int, recorder: Recorder, connect: Callable[[], Awaitable[Connection]]) -> None:
        """Take how many connections to keep; none is opened before it is needed."""
        self._size = size
        self._recorder = recorder
        self._connect = connect
        self._idle: deque[Connection] = deque()
        self._open = 0

    async def take(self) -> Connection:
        """Return a connection that nobody else uses. Raises LostError when a new one is needed and fails."""
        # A connection that the server ended while it was idle carried no request: nothing was lost with it.
        while self._open >= self._size and self._idle:
            connection = self._idle.popleft()
            if connection.usable():
                return connection
            self._note_idle_end(connection)
        self._open += 1
        try:
            return await self._connect()
        except BaseException:
            self._open -= 1
            raise

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        """Take a connection back: keep it if it can be used again and there are not too many, else close it."""
        if reusable and self._open <= self._size:
            self._idle.append(connection)
            return
        self._open -= 1
        connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.popleft().close()

    def _note_idle_end(self, connection: Connection) -> None:
        self._open -= 1
        if connection.was_reset:
            self._recorder.idle_reset += 1
        else:
            self._recorder.idle_closed += 1
        connection.close()
