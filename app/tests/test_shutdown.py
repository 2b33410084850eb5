"""The end of the web service, as a real process."""

import asyncio
import json
import signal
import socket
import time
from http import HTTPStatus

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.tests.programs import run, started, wait_for_log


async def test_sigterm_finishes_what_is_in_flight(environment: dict[str, str]) -> None:
    with started("app", **environment) as process:
        url = (await asyncio.to_thread(wait_for_log, process, "Uvicorn running on")).split()[3]
        async with (
            httpx.AsyncClient(base_url=url, timeout=20) as client,
            httpx.AsyncClient(base_url=url, timeout=20) as listener,
            listener.stream("GET", "/api/events") as stream,
            connect(url.replace("http", "ws") + "/api/ws") as websocket,
        ):
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            # On an open connection the request is with the server for sure when the signal arrives.
            await client.get("/health")
            slow = asyncio.create_task(client.get("/api/slow", params={"seconds": 2}))
            await asyncio.sleep(0.3)
            await websocket.send("ping")
            assert await websocket.recv() == "pong"

            process.send_signal(signal.SIGTERM)
            signalled = time.monotonic()
            # Ends by itself, and as a complete HTTP body: otherwise httpx raises.
            assert [line async for line in lines if line.startswith("data:")] == []
            with pytest.raises(ConnectionClosed) as closed:
                await websocket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            assert (
                time.monotonic() - signalled < 1.5
            ), "streams end at once, they do not wait for slow requests"
            assert not slow.done()

            answer = await slow
            assert (answer.status_code, answer.json()) == (HTTPStatus.OK, {"seconds": 2.0})
        output, errors = await asyncio.to_thread(process.communicate, timeout=25)
    assert process.returncode == 0
    assert errors == ""
    requests = [json.loads(line) for line in output.splitlines() if '"app.request"' in line]
    assert {(line["path"], line["status"]) for line in requests} >= {
        ("/api/slow", 200),
        ("/api/events", 200),
        ("/api/ws", 101),
    }


async def test_sigterm_ends_an_idle_server_at_once(environment: dict[str, str]) -> None:
    with started("app", **environment) as process:
        url = (await asyncio.to_thread(wait_for_log, process, "Uvicorn running on")).split()[3]
        async with httpx.AsyncClient(base_url=url) as client:
            await client.get("/ready")
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.communicate, timeout=5)
    assert process.returncode == 0


def test_a_missing_setting_is_one_clear_line() -> None:
    for program in ("app", "app.worker"):
        result = run(program)
        assert result.returncode == 2
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1, result.stderr
        for name in ("POSTGRES_HOST", "POSTGRES_PASSWORD", "REDIS_URL", "SECRET_KEY"):
            assert f"{name} " in result.stderr


def test_a_wrong_setting_is_named_and_its_value_is_not_shown(environment: dict[str, str]) -> None:
    result = run("app", **environment | {"SECRET_KEY": "too-short", "PORT": "99999"})
    assert result.returncode == 2
    assert "SECRET_KEY is wrong" in result.stderr
    assert "PORT is wrong" in result.stderr
    assert "too-short" not in result.stderr


def test_a_taken_port_is_told_and_fails(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("app", **environment | {"PORT": str(taken.getsockname()[1])})
    assert result.returncode != 0
    assert "address already in use" in result.stdout.lower()
