"""Live changes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.connection import Connection
from websockets.asyncio.client import connect

from app.feed import WAITING_MAX, Feed
from app.resources import make_redis
from app.settings import Settings
from app.tests.conftest import Serve
from app.tests.relay import Relay
from app.tests.test_api import create_project
from app.tests.waiting import until


async def next_change(lines: AsyncIterator[str], kind: str, number: int) -> None:
    """Read until the change of this kind and id; other tests' changes may come in between."""
    async with asyncio.timeout(10):
        async for line in lines:
            if (
                line.startswith("data: ")
                and json.loads(line[6:]).items() >= {"type": kind, "id": number}.items()
            ):
                return
    raise AssertionError("the stream ended")


async def test_events_tell_changes_and_beat_in_between(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/api/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.aiter_lines()
        assert [await anext(lines), await anext(lines)] == ["retry: 1000", ": connected"]
        project = await create_project(client)
        await next_change(lines, "project.created", project)
        task = (await client.post(f"/api/projects/{project}/tasks", json={"title": "t"})).json()["id"]
        await next_change(lines, "task.created", task)
        await client.patch(f"/api/tasks/{task}", json={"done": True})
        await next_change(lines, "task.updated", task)
        await client.delete(f"/api/tasks/{task}")
        await next_change(lines, "task.deleted", task)
        async with asyncio.timeout(10):
            while await anext(lines) != ": heartbeat":
                pass


async def test_a_websocket_tells_changes_and_answers_pings(client: httpx.AsyncClient, base_url: str) -> None:
    async with connect(base_url.replace("http", "ws") + "/api/ws") as websocket:
        await websocket.send("nonsense")
        await websocket.send("ping")
        assert await asyncio.wait_for(websocket.recv(), 10) == "pong"
        project = await create_project(client)
        async with asyncio.timeout(10):
            while json.loads(await websocket.recv()) != {"type": "project.created", "id": project}:
                pass


async def test_a_change_survives_redis_being_away_and_streams_recover(
    serve: Serve, settings: Settings
) -> None:
    async with Relay(settings.redis_url.get_secret_value()) as redis:
        with serve(redis_url=SecretStr(redis.url)) as url:
            async with (
                httpx.AsyncClient(base_url=url, timeout=20) as client,
                client.stream("GET", "/api/events") as stream,
            ):
                await redis.cut()
                await create_project(client)
                await redis.mend()
                seen: list[str] = []
                reading = asyncio.create_task(_collect(stream, seen))

                async def tells_changes() -> bool:
                    number = f'"id": {await create_project(client)}}}'
                    await asyncio.sleep(0.1)
                    return any(number in line for line in seen)

                # Subscribed again within a second or so: the same stream goes on.
                await until(tells_changes)
                assert not reading.done()
                reading.cancel()


async def _collect(stream: httpx.Response, seen: list[str]) -> None:
    async for line in stream.aiter_lines():
        seen.append(line)  # noqa: PERF401 - the test looks at the list while this runs


async def test_a_connection_that_is_closed_in_the_moment_it_is_made_is_made_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uvloop has an error of its own for that, which redis-py passes on as it is."""
    monkeypatch.setattr("app.feed.RETRY_PAUSE", 0)
    redis = make_redis(settings)
    send, attempts = Connection.send_packed_command, 0

    async def closed_at_first(
        self: Connection, command: Iterable[bytes], *, check_health: bool = True
    ) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")
        await send(self, command, check_health)

    monkeypatch.setattr(Connection, "send_packed_command", closed_at_first)
    feed = Feed(redis, settings.events_channel)
    # Only liveness is lost.
    await feed.publish("project.created", id=1)
    assert attempts == 1
    async with feed.running():
        with feed.listen() as listener:

            async def hears_changes() -> bool:
                await feed.publish("project.created", id=1)
                await asyncio.sleep(0.1)
                return not listener.empty()

            await until(hears_changes)
    await redis.aclose()
    assert attempts > 2


async def test_a_listener_that_does_not_read_loses_the_oldest() -> None:
    feed = Feed(Redis(), "unused")
    with feed.listen() as listener:
        for number in range(WAITING_MAX + 2):
            feed._hand_on(str(number))  # noqa: SLF001 - without Redis in between, to be exact
        feed.end()
        assert listener.qsize() == WAITING_MAX
        assert listener.get_nowait() == "3"
    with feed.listen() as late:
        assert late.get_nowait() is None


@pytest.mark.parametrize("path", ["/api/ws", "/api/events"])
async def test_a_client_that_leaves_is_forgotten(serve: Serve, path: str) -> None:
    # The server's thread ends at the end of `serve` only if no stream is left behind.
    with serve() as url:
        if path == "/api/ws":
            async with connect(url.replace("http", "ws") + path):
                pass
        else:
            async with httpx.AsyncClient(base_url=url) as client, client.stream("GET", path):
                pass


async def test_the_feed_stops_at_whatever_moment_it_is_told_to(settings: Settings) -> None:
    for pause in (0, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01) * 3:
        redis = make_redis(settings)
        tasks = asyncio.all_tasks()
        async with Feed(redis, "unused").running():
            await asyncio.sleep(pause)
        assert asyncio.all_tasks() == tasks
        await redis.aclose()
