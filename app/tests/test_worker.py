"""The worker and the health checks, as real processes."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from app import healthcheck, worker
from app.resources import Resources
from app.settings import Settings
from app.tests.programs import run, started, wait_for_log
from app.tests.relay import Relay
from app.tests.test_api import PAST, create_project
from app.tests.waiting import until


async def add_late_task(client: httpx.AsyncClient) -> int:
    tasks = f"/api/projects/{await create_project(client)}/tasks"
    task_id: int = (await client.post(tasks, json={"title": "late", "due_at": PAST})).json()["id"]
    return task_id


async def is_overdue(client: httpx.AsyncClient, task_id: int) -> bool:
    for project in (await client.get("/api/projects", params={"limit": 500})).json():
        for task in (await client.get(f"/api/projects/{project['id']}/tasks")).json():
            if task["id"] == task_id:
                return bool(task["overdue"])
    raise AssertionError("the task is gone")


async def is_healthy(environment: dict[str, str]) -> bool:
    result = await asyncio.to_thread(run, "app.healthcheck", "worker", **environment)
    assert result.returncode in {0, 1}, result.stderr
    return result.returncode == 0


async def test_marks_late_tasks_refuses_company_and_ends_at_once(
    client: httpx.AsyncClient, environment: dict[str, str], tmp_path: Path
) -> None:
    environment = environment | {"TMPDIR": str(tmp_path)}
    task = await add_late_task(client)
    assert not await is_healthy(environment)
    with started("app.worker", **environment) as process:
        await asyncio.to_thread(wait_for_log, process, "working")
        await until(lambda: is_overdue(client, task))
        await until(lambda: is_healthy(environment))

        second = await asyncio.to_thread(run, "app.worker", **environment, WORKER_PATIENCE_SECONDS="0.3")
        assert second.returncode == 1
        assert second.stderr == "worker: another worker is running on this database; stop it first.\n"

        process.send_signal(signal.SIGTERM)
        ended = time.monotonic()
        _, errors = await asyncio.to_thread(process.communicate, timeout=10)
        assert time.monotonic() - ended < 3
    assert (process.returncode, errors) == (0, "")


async def test_the_place_is_free_again_after_the_worker_ended(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        alive = tmp_path / name
        monkeypatch.setattr(worker, "WORKER_FILE", alive)
        work = asyncio.create_task(worker.run(settings))
        await until(lambda alive=alive: asyncio.to_thread(alive.exists))  # type: ignore[misc] # mypy: no defaults
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work


async def test_marks_each_task_once(client: httpx.AsyncClient, settings: Settings) -> None:
    await add_late_task(client)
    resources = Resources(settings)
    async with resources.engine.connect() as connection:
        assert await worker.mark_overdue(connection, resources.feed) >= 0
        await add_late_task(client)
        assert await worker.mark_overdue(connection, resources.feed) == 1
        assert await worker.mark_overdue(connection, resources.feed) == 0
    await resources.close()


async def test_goes_on_after_the_database_was_away(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = tmp_path / "alive"
    monkeypatch.setattr(worker, "WORKER_FILE", alive)
    async with Relay(settings.database_url.get_secret_value()) as database:
        work = asyncio.create_task(
            worker.run(settings.model_copy(update={"database_url": SecretStr(database.url)}))
        )
        await until(lambda: asyncio.to_thread(alive.exists))
        await database.cut()
        await asyncio.to_thread(alive.unlink)
        await database.mend()
        await until(lambda: asyncio.to_thread(alive.exists))
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work


def test_health_of_the_web_service(base_url: str, nowhere: str) -> None:
    assert run("app.healthcheck", PORT=base_url.rpartition(":")[2]).returncode == 0
    result = run("app.healthcheck", PORT=nowhere.rpartition(":")[2])
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)


def test_an_answer_other_than_200_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OSError, match="503"):
            healthcheck.check_web(server.getsockname()[1])
        thread.join(timeout=5)


def test_a_worker_that_is_stuck_is_unhealthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, "WORKER_FILE", tmp_path / "alive")
    monkeypatch.setattr(sys, "argv", ["healthcheck", "worker"])
    healthcheck.WORKER_FILE.touch()
    healthcheck.main()
    an_hour_ago = time.time() - 3600
    os.utime(healthcheck.WORKER_FILE, (an_hour_ago, an_hour_ago))
    with pytest.raises(SystemExit, match="1"):
        healthcheck.main()
