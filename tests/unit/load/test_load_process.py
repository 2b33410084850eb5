"""The load as a process of its own, its command line, and its settings."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.load import Load, LoadProcess
from lab.load_report import Report
from lab.load_settings import Settings, SettingsError

if TYPE_CHECKING:
    from tests.unit.load.bad_server import Server

REPOSITORY = Path(__file__).resolve().parents[3]
URL = "http://127.0.0.1:8080"


async def test_a_process_runs_until_it_is_stopped_and_reports(server: Server) -> None:
    def use() -> Report:
        body = '{"title": "<token>"}'
        with LoadProcess(
            server.url, rate=50, writes=50, fresh=0, slow=0, sse=0, ws=0, write_body=body
        ) as load:
            time.sleep(0.5)
            return load.stop()

    report = await asyncio.to_thread(use)

    assert report.ok == report.sent == len(server.requests) > 10, report.summary()
    assert report.acknowledged == [
        json.loads(request.body)["title"] for request in server.requests if request.body
    ]
    assert report.drift_ms.count == report.sent
    assert "0 failed" in report.summary()


async def test_a_report_survives_json(server: Server) -> None:
    async with Load(server.url, rate=20, slow=5, timeout=0.2) as load:
        await asyncio.sleep(0.3)
        await server.stop()
        await asyncio.sleep(0.2)
    report = load.report()

    assert report.failed
    assert report.streams[0].failed_opens
    assert Report.from_json(report.to_json()) == report


async def test_the_command_line_ends_by_itself_or_by_a_signal(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["--rate=50", "--sse=0", "--ws=0", "--slow=0", f"--json={out}"]

    async def start(*more: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lab.load", server.url, *arguments, *more),
            cwd=REPOSITORY,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )

    process = await start("--seconds=0.3")
    assert b"0 failed" in (await process.communicate())[0]
    assert process.returncode == 0
    assert 10 <= Report.from_json(out.read_text()).ok <= 40

    out.unlink()
    process = await start()
    before = len(server.requests)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 10) == b"load started\n"
    await asyncio.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert b"0 failed" in (await process.communicate())[0]
    assert process.returncode == 0
    assert Report.from_json(out.read_text()).ok == len(server.requests) - before


def test_bad_settings_are_one_line_and_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lab.load", "http://192.0.2.1"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr == (
        "load: url is 'http://192.0.2.1': 192.0.2.1 is no loopback or private address, and a load is for a lab only\n"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings("http://8.8.8.8"), "no loopback or private address"),
        (Settings("http://169.254.169.254"), "no loopback or private address"),
        (Settings("http://0.0.0.0:80"), "no loopback or private address"),
        (Settings("https://127.0.0.1"), "write it as http://ADDRESS:PORT"),
        (Settings("127.0.0.1:80"), "write it as http://ADDRESS:PORT"),
        (Settings("http://127.0.0.1/path"), "without a path"),
        (Settings("http://me:secret@127.0.0.1"), "without a user"),
        (Settings("http://127.0.0.1:99999"), "url is"),
        (Settings(URL, rate=2001), "rate is 2001: set it between 0 and 2000"),
        (Settings(URL, rate=float("nan")), "rate is nan"),
        (Settings(URL, seconds=3601), "seconds is 3601"),
        (Settings(URL, timeout=0), "timeout is 0"),
        (Settings(URL, connections=0), "connections is 0"),
        (Settings(URL, sse=-1), "sse is -1"),
        (Settings(URL, fresh=60, writes=50), "fresh and writes"),
        (Settings(URL, write_body="{}"), "write_body has no <token>"),
        (Settings(URL, ws_path="api/ws"), "ws_path is 'api/ws': begin it with a slash"),
    ],
)
def test_settings_that_cannot_be_used(settings: Settings, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        settings.check()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_private_addresses_are_a_lab() -> None:
    assert Settings("http://172.17.0.1").check().address == ("172.17.0.1", 80)
    assert Settings("http://[::1]:81").check().address == ("::1", 81)
    assert Settings(URL, host="pm.example.com").check().host_header == "pm.example.com"


def test_a_process_with_bad_settings_does_not_start() -> None:
    with pytest.raises(SettingsError, match="rate"):
        LoadProcess(URL, rate=-1)
