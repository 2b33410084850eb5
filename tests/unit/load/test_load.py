"""The load generator against a real server that misbehaves on purpose: each way must be told from the others."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING

import pytest

from lab.load import Load
from lab.load_http import Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lab.load_report import Report
    from tests.unit.load.bad_server import Request, Server, Wire


def load(  # noqa: PLR0913 - the settings that tests change
    server: Server,
    *,
    rate: float = 100,
    connections: int = 2,
    fresh: float = 0,
    writes: float = 0,
    timeout: float = 5,
    host: str = "",
) -> Load:
    """Return a load of keep-alive requests alone, unless more is asked for."""
    return Load(
        server.url,
        rate=rate,
        connections=connections,
        fresh=fresh,
        writes=writes,
        timeout=timeout,
        host=host,
        slow=0,
        sse=0,
        ws=0,
    )


async def run(load: Load, seconds: float = 0.2) -> Report:
    async with load:
        await asyncio.sleep(seconds)
    return load.report()


async def test_a_good_server_loses_nothing_and_everything_is_counted(server: Server) -> None:
    report = await run(
        Load(server.url, rate=100, fresh=20, writes=10, slow=10, sse=0, ws=0, connections=5), 1
    )

    assert report.failed == 0, report.summary()
    assert report.unexpected == {}
    assert report.ok == report.sent == len(server.requests)
    short = report.sent - report.classes["slow"].sent
    assert short == pytest.approx(100 * report.seconds, rel=0.2)
    assert report.classes["fresh"].ok == pytest.approx(0.2 * short, abs=1)
    assert report.classes["write"].ok == pytest.approx(0.1 * short, abs=1)
    assert report.classes["slow"].ok == pytest.approx(10 * report.seconds, abs=2)
    assert len(server.of("/health")) == report.classes["fresh"].ok
    tokens = [json.loads(request.body)["name"] for request in server.requests if request.body]
    assert report.acknowledged == tokens
    assert len(set(tokens)) == len(tokens)
    assert all(request.method == ("POST" if request.body else "GET") for request in server.requests)
    assert all(token.startswith(report.token_prefix) for token in tokens)
    assert server.connections == report.connections_opened == 5 + report.classes["fresh"].ok
    assert report.releases["one"].answers == report.sent
    assert sum(second.sent for second in report.per_second) == report.sent
    assert sum(second.ok for second in report.per_second) == report.ok
    assert 0 < report.latency.p50 <= report.latency.p95 <= report.latency.p99 <= report.latency.max
    assert report.latency.count == short
    assert report.longest_gap < 0.9


async def test_all_persistent_connections_take_turns(server: Server) -> None:
    await run(load(server, connections=5))

    assert server.connections == 5
    assert max(request.number for request in server.requests) == pytest.approx(
        len(server.requests) / 5, abs=1
    )


async def test_the_host_header_can_differ_from_the_address(server: Server) -> None:
    await run(load(server, host="pm.example.com"), 0.1)

    assert {request.headers["host"] for request in server.requests} == {"pm.example.com"}


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_connection_that_ends_while_idle_is_no_lost_request(server: Server, how: str) -> None:
    async def answer_then_end(_: Request, wire: Wire) -> None:
        wire.answer()
        await wire.writer.drain()
        # Later than the answer, so that the connection is idle by then; long before its next turn.
        asyncio.get_running_loop().call_later(0.01, getattr(wire, how))

    server.behave = answer_then_end
    report = await run(load(server, connections=30), 0.6)

    assert report.failed == 0, report.summary()
    assert report.connections_opened == server.connections > 30
    ended = (report.idle_closed, report.idle_reset)
    assert ended == ((server.connections - 30, 0) if how == "close" else (0, server.connections - 30))


async def test_an_end_that_asyncio_has_not_seen_yet_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = await Connection.open(socket.AF_INET, listener.getsockname())
        server, _ = listener.accept()
        assert connection.usable()
        server.close()
        # No await since: the event loop had no turn, only the kernel knows.
        assert not connection.usable()
        connection.close()


async def cut(_: Request, wire: Wire) -> None:
    wire.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await wire.writer.drain()
    wire.close()


async def reset(_: Request, wire: Wire) -> None:
    wire.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await wire.writer.drain()
    wire.reset()


async def close_without_a_word(_: Request, wire: Wire) -> None:
    wire.close()


async def reset_without_a_word(_: Request, wire: Wire) -> None:
    wire.reset()


async def garbage(_: Request, wire: Wire) -> None:
    wire.raw(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n")


async def error_500(_: Request, wire: Wire) -> None:
    wire.answer(500)


async def silence(_: Request, wire: Wire) -> None:
    await wire.reader.read()


@pytest.mark.parametrize(
    ("behave", "kind", "detail"),
    [
        (cut, "closed", "before the answer was complete"),
        (reset, "reset", "reset by the server"),
        (close_without_a_word, "closed", "before the answer was complete"),
        (reset_without_a_word, "reset", "reset by the server"),
        (garbage, "http", "illegal status line"),
        (error_500, "status", "500"),
        (silence, "timeout", "no complete answer in time"),
    ],
)
async def test_each_loss_is_told_from_the_others(
    server: Server, behave: Callable[[Request, Wire], Awaitable[None]], kind: str, detail: str
) -> None:
    async def every_fifth(request: Request, wire: Wire) -> None:
        # Only on connections that have worked before, which a retrying client would cover up.
        if request.number == 5:
            await behave(request, wire)
        else:
            wire.answer()

    server.behave = every_fifth
    report = await run(load(server, timeout=0.3 if kind == "timeout" else 5))

    assert report.failed >= 1, report.summary()
    assert report.failed_by_kind == {kind: report.failed}
    assert report.failed == len([request for request in server.requests if request.number == 5])
    assert report.ok + report.failed == report.sent == len(server.requests)
    assert {(sample.request, sample.kind) for sample in report.samples} == {("keepalive", kind)}
    assert detail in report.samples[0].detail
    assert report.started <= report.samples[0].at <= report.started + report.seconds + 0.3


async def test_an_answer_after_the_reader_gave_up_does_not_reach_the_next_request(server: Server) -> None:
    async def late(_: Request, wire: Wire) -> None:
        await asyncio.sleep(0.4)
        wire.answer(X_Slipway_Release="late")

    server.behave = late
    report = await run(load(server, connections=1, timeout=0.2), 0.3)

    assert report.ok == 0
    assert report.failed_by_kind == {"timeout": report.sent}
    assert report.releases == {}


async def test_other_statuses_are_counted_apart(server: Server) -> None:
    async def missing(_: Request, wire: Wire) -> None:
        wire.answer(404)

    server.behave = missing
    report = await run(load(server))

    assert (report.ok, report.failed) == (0, 0)
    assert report.unexpected == {"404": report.sent}
    assert report.classes["keepalive"].unexpected == report.sent
    assert report.longest_gap == pytest.approx(report.seconds, abs=0.05)


async def test_arrivals_do_not_wait_for_answers(server: Server) -> None:
    server.behave = silence
    report = await run(load(server, connections=3, timeout=0.3), 0.5)

    # If they waited, three connections could take no more than six.
    assert report.sent > 25
    assert report.failed_by_kind == {"timeout": report.sent}
    assert report.drift_ms.count == report.sent
    assert report.drift_ms.p50 < 200


async def test_a_server_that_refuses_for_a_while(server: Server) -> None:
    running = load(server, rate=100, fresh=50, connections=4)
    async with running:
        await asyncio.sleep(0.3)
        await server.stop()
        await asyncio.sleep(0.5)
        await server.start()
        await asyncio.sleep(0.3)
    report = running.report()

    # Connections on which nothing was asked end without loss; one at work may be caught.
    assert set(report.failed_by_kind) <= {"refused", "reset", "closed"}, report.summary()
    assert report.failed_by_kind["refused"] >= 40
    assert report.sent == report.ok + report.failed
    assert report.longest_gap > 0.4
    assert 0.2 < report.longest_gap_at - report.started < 1


async def test_an_outage_to_the_end_counts_as_a_gap(server: Server) -> None:
    running = load(server)
    async with running:
        await asyncio.sleep(0.1)
        await server.stop()
        await asyncio.sleep(0.5)

    assert running.report().longest_gap > 0.4


async def test_lost_posts_are_neither_repeated_nor_acknowledged(server: Server) -> None:
    async def take_every_second_and_lose_the_answer(_: Request, wire: Wire) -> None:
        if len(server.requests) % 2:
            wire.answer(201)
        else:
            wire.reset()

    server.behave = take_every_second_and_lose_the_answer
    report = await run(load(server, writes=100))

    tokens = [json.loads(request.body)["name"] for request in server.requests]
    assert len(set(tokens)) == len(tokens) == report.sent
    assert report.acknowledged == tokens[::2]
    assert report.failed_by_kind == {"reset": len(tokens) // 2}


async def test_each_release_has_its_times(server: Server) -> None:
    async def two_releases(_: Request, wire: Wire) -> None:
        count = len(server.requests)
        if count == 1:
            wire.answer()
        else:
            wire.answer(X_Slipway_Release="one" if count <= 10 else "two")

    server.behave = two_releases
    report = await run(load(server), 0.5)

    assert report.releases["(none)"].answers == 1
    assert report.releases["one"].answers == 9
    assert report.releases["two"].answers == report.ok - 10
    assert report.started < report.releases["one"].first < report.releases["one"].last
    assert report.releases["one"].last < report.releases["two"].first


async def test_a_fault_of_the_load_itself_is_no_quiet_run(server: Server) -> None:
    running = load(server, writes=100)
    running.write_path = "no path\n"
    with pytest.raises(Exception, match="Illegal target"):
        await run(running, 0.1)
