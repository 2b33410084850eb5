"""The long-lived clients: each cut is noted with its time and its manner, and the stream is opened again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.server import ServerConnection, serve

from lab.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.load_report import Stream
    from tests.unit.load.bad_server import Request, Server, Wire

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def stream(
    url: str, enough: Callable[[Stream], bool], *, sse: int = 0, ws: int = 0, timeout: float = 5
) -> Stream:
    """Return the one stream as soon as it has seen enough, or after 5 seconds anyway."""
    async with Load(url, rate=0, slow=0, sse=sse, ws=ws, timeout=timeout) as load:
        for _ in range(250):
            if enough(load.report().streams[0]):
                break
            await asyncio.sleep(0.02)
    return load.report().streams[0]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_events_are_counted_however_the_network_cuts_them(server: Server) -> None:
    async def events(_: Request, wire: Wire) -> None:
        wire.raw(HEAD + chunk(b"data: one\n\ndata: t"))
        await asyncio.sleep(0.05)
        wire.raw(chunk(b"wo\r") + chunk(b"\n\r\n: comment") + chunk(b"\n\n"))
        await wire.reader.read()

    server.behave = events
    seen = await stream(server.url, lambda seen: seen.events >= 3, sse=1)

    assert seen.name == "sse-0"
    assert seen.events == 3
    assert len(seen.opened) == 1
    assert seen.cuts == []
    assert server.requests[0].headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("how", ["end", "closed", "reset"])
async def test_a_cut_of_an_event_stream_is_noted_and_the_stream_opened_again(
    server: Server, how: str
) -> None:
    async def one_event(_: Request, wire: Wire) -> None:
        wire.raw(HEAD + chunk(b"data: one\n\n"))
        await wire.writer.drain()
        await asyncio.sleep(0.02)
        if how == "end":
            wire.raw(b"0\r\n\r\n")
        elif how == "closed":
            wire.close()
        else:
            wire.reset()

    server.behave = one_event
    seen = await stream(server.url, lambda seen: len(seen.opened) > 1, sse=1)

    assert len(seen.opened) >= 2
    assert {(cut.how, cut.events) for cut in seen.cuts} == {(how, 1)}
    first = seen.cuts[0]
    assert first.opened == seen.opened[0]
    assert 0.01 < first.at - first.opened < 1


@pytest.mark.parametrize(("status", "kind"), [(503, "status"), (0, "timeout")])
async def test_an_event_stream_that_does_not_open(server: Server, status: int, kind: str) -> None:
    async def refuse(_: Request, wire: Wire) -> None:
        if status:
            wire.answer(status)
        else:
            await wire.reader.read()

    server.behave = refuse
    seen = await stream(
        server.url, lambda seen: seen.failed_open_count > 1, sse=1, timeout=5 if status else 0.1
    )

    assert seen.opened == []
    assert seen.cuts == []
    assert seen.failed_open_count == len(seen.failed_opens) >= 2
    assert {sample.kind for sample in seen.failed_opens} == {kind}


async def test_nobody_listens() -> None:
    async with Load("http://127.0.0.1:1", rate=0, slow=0) as load:
        await asyncio.sleep(0.1)

    assert [stream.failed_opens[0].kind for stream in load.report().streams] == ["refused", "refused"]


async def talk(server: ServerConnection) -> None:
    async for message in server:
        await server.send('{"type": "news"}')
        await server.send(f'{{"type": "{str(message).replace("i", "o")}"}}')


async def go_away(server: ServerConnection) -> None:
    await server.recv()
    await server.close(1012, "restart")


async def die(server: ServerConnection) -> None:
    await server.recv()
    server.transport.abort()


async def say_nothing(server: ServerConnection) -> None:
    await server.wait_closed()


@pytest.mark.parametrize(
    ("behave", "hows", "events"),
    [(talk, set(), 2), (go_away, {"close 1012"}, 0), (die, {"closed"}, 0), (say_nothing, {"silent"}, 0)],
)
async def test_a_websocket(behave: object, hows: set[str], events: int) -> None:
    async with serve(behave, "127.0.0.1", 0) as server:  # type: ignore[arg-type] # one of the handlers above
        port = server.sockets[0].getsockname()[1]
        seen = await stream(
            f"http://127.0.0.1:{port}",
            lambda seen: len(seen.opened) > 1 if hows else seen.events >= events,
            ws=1,
            timeout=0.1 if "silent" in hows else 5,
        )

    assert seen.name == "ws-0"
    assert {cut.how for cut in seen.cuts} == hows
    assert len(seen.opened) >= (2 if hows else 1)
    assert seen.events == events
    assert seen.failed_open_count == 0


async def test_a_websocket_is_pinged_each_second() -> None:
    times = []

    async def note(server: ServerConnection) -> None:
        async for _ in server:
            times.append(asyncio.get_running_loop().time())
            await server.send("pong")

    async with serve(note, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        seen = await stream(f"http://127.0.0.1:{port}", lambda seen: seen.events >= 2, ws=1)

    assert len(times) == 2
    assert times[1] - times[0] == pytest.approx(1, abs=0.3)
    assert seen.events == 2


async def test_a_websocket_that_is_no_websocket(server: Server) -> None:
    async def missing(_: Request, wire: Wire) -> None:
        wire.answer(404)

    server.behave = missing
    seen = await stream(server.url, lambda seen: seen.failed_open_count > 0, ws=1)

    assert {sample.kind for sample in seen.failed_opens} == {"status"}
    assert "404" in seen.failed_opens[0].detail
