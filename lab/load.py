"""A load for measuring releases: mixed traffic at a fixed rate that never retries, so that each lost request counts.

    python -m lab.load http://127.0.0.1:8080 --rate 200 --seconds 30 --json out.json

Arrivals are open-loop: they never wait for slow answers. It ends after `--seconds` or with Ctrl-C, and then reports.
From asynchronous code use `Load`; from a test use `LoadProcess`, which leaves the test's own process undisturbed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import resource
import secrets
import select
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import h11

from lab.load_http import Connection, LostError, Pool, classify
from lab.load_report import SLOW, Recorder, Report
from lab.load_settings import TOKEN, Settings, SettingsError
from lab.load_streams import SseClient, WebSocketClient

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from typing_extensions import Self

_STARTED = "load started"
_START_LIMIT = 15.0


@dataclass
class Load(Settings):
    """The load, as an asynchronous context manager: it runs inside, and `report` tells what it saw so far.

    Leaving stops the arrivals and waits for the answers that are still out, at most `timeout` seconds.
    Raises SettingsError on construction.
    """

    def __post_init__(self) -> None:
        """Check the settings."""
        self._to = self.check()
        self._tokens = 0
        self._credit = {"fresh": 0.0, "write": 0.0}
        self._background: set[asyncio.Task[None]] = set()
        self._requests: set[asyncio.Task[None]] = set()
        self._broken: list[BaseException] = []

    async def __aenter__(self) -> Self:
        """Start the load."""
        self._recorder = Recorder(self.url, f"load-{secrets.token_hex(4)}")
        self._release_header = self.release_header.lower().encode()
        self._pool = Pool(self.connections, self._recorder, self._connect)
        self._prepared = {
            "keepalive": self._request("GET", self.get_path),
            "fresh": self._request("GET", self.fresh_path, ("Connection", "close")),
            SLOW: self._request("GET", self.slow_path),
        }
        self._start(self._arrivals(self.rate, self._next_class))
        self._start(self._arrivals(self.slow, lambda: SLOW))
        for number in range(self.sse):
            self._start(SseClient(f"sse-{number}", self._to, self, self._recorder).run())
        for number in range(self.ws):
            self._start(WebSocketClient(f"ws-{number}", self._to, self, self._recorder).run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the load; raise what went wrong in the load itself, if anything."""
        self._recorder.arrivals_ended()
        for task in self._background:
            task.cancel()
        # Each request is bounded by its own time limit, so this wait is as well.
        await asyncio.gather(*self._background, *self._requests, return_exceptions=True)
        self._pool.close()
        self._broken += [
            problem for task in self._background if not task.cancelled() and (problem := task.exception())
        ]
        if self._broken:
            raise self._broken[0]

    def report(self) -> Report:
        """Return the report of the run up to now."""
        return self._recorder.report()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._background.add(asyncio.create_task(work))

    async def _arrivals(self, rate: float, next_class: Callable[[], str]) -> None:
        if rate <= 0:
            return
        loop = asyncio.get_running_loop()
        begin = loop.time()
        number = 0
        while True:
            due = begin + number / rate
            # Each arrival has its own place in the schedule, so that a late one does not delay those after it.
            await asyncio.sleep(max(0.0, due - loop.time()))
            task = asyncio.create_task(self._send(next_class(), loop.time() - due))
            self._requests.add(task)
            task.add_done_callback(self._request_done)
            number += 1

    def _request_done(self, task: asyncio.Task[None]) -> None:
        # Lost requests are on record; an exception here is a fault of the load, and must not pass for a quiet run.
        self._requests.discard(task)
        if not task.cancelled() and (problem := task.exception()):
            self._broken.append(problem)

    def _next_class(self) -> str:
        # Spread evenly instead of at random, so that two runs are alike.
        for name, percent in (("fresh", self.fresh), ("write", self.writes)):
            self._credit[name] += percent / 100
        name = max(self._credit, key=self._credit.__getitem__)
        if self._credit[name] < 1 - 1e-9:
            return "keepalive"
        self._credit[name] -= 1
        return name

    async def _send(self, name: str, drift: float) -> None:
        sent_at = self._recorder.sent(name, drift)
        token, body, request = "", b"", self._prepared.get(name)
        if request is None:
            self._tokens += 1
            token = f"{self._recorder.token_prefix}-{self._tokens:06d}"
            body = self.write_body.replace(TOKEN, token).encode()
            request = self._request(
                "POST",
                self.write_path,
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
            )
        try:
            async with asyncio.timeout(self.timeout):
                response = await self._exchange(request, body, pooled=name != "fresh")
        except (LostError, TimeoutError) as error:
            lost = classify(error)
            self._recorder.failed(name, lost.kind, lost.detail)
            return
        release = next((value for key, value in response.headers if key == self._release_header), b"")
        self._recorder.answered(name, sent_at, response.status_code, release.decode("latin-1"))
        if token and 200 <= response.status_code < 300:
            self._recorder.acknowledged.append(token)

    async def _exchange(self, request: h11.Request, body: bytes, *, pooled: bool) -> h11.Response:
        connection = await (self._pool.take() if pooled else self._connect())
        reusable = False
        try:
            response = await connection.exchange(request, body)
            reusable = connection.renew()
            return response
        finally:
            if pooled:
                self._pool.give_back(connection, reusable=reusable)
            else:
                connection.close()

    async def _connect(self) -> Connection:
        self._recorder.connections_opened += 1
        return await Connection.open(self._to.family, self._to.address)

    def _request(self, method: str, path: str, *headers: tuple[str, str]) -> h11.Request:
        return h11.Request(method=method, target=path, headers=[("Host", self._to.host_header), *headers])


@dataclass
class LoadProcess(Settings):
    """The load in a process of its own, as a context manager for synchronous code.

    It runs when `with` is entered; `stop` ends it and returns the report. Leaving without `stop` discards it.
    Raises SettingsError on construction and RuntimeError when the process does not do its work.
    """

    def __post_init__(self) -> None:
        """Check the settings."""
        self.check()

    def __enter__(self) -> Self:
        """Start the process and wait until it has sent its first request."""
        self._folder = tempfile.TemporaryDirectory(prefix="slipway-load-")
        self._json = Path(self._folder.name, "report.json")
        arguments = [
            f"--{_option(setting.name)}={getattr(self, setting.name)}"
            for setting in dataclasses.fields(Settings)
            if setting.name != "url"
        ]
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "lab.load", self.url, "--until-stdin-closes"),
                *(f"--json={self._json}", *arguments),
            ],
            cwd=Path(__file__).resolve().parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Unbuffered, so that reading the first line takes nothing from what comes after it.
            bufsize=0,
        )
        said = cast("IO[bytes]", self._process.stdout)
        ready, _, _ = select.select([said], [], [], _START_LIMIT)
        line = said.readline().decode().strip() if ready else f"nothing said in {_START_LIMIT:g} s"
        if line != _STARTED:
            rest = self._end(kill=not ready)
            self._folder.cleanup()
            raise RuntimeError(f"the load did not start: {line}\n{rest}".strip())
        return self

    def stop(self) -> Report:
        """Stop the load, wait for the answers that are still out, and return the report."""
        said = self._end(kill=False)
        if self._process.returncode != 0:
            raise RuntimeError(f"the load ended with code {self._process.returncode}: {said}")
        report = Report.from_json(self._json.read_text())
        self._folder.cleanup()
        return report

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process if `stop` did not."""
        if self._process.returncode is None:
            self._end(kill=True)
        self._folder.cleanup()

    def _end(self, *, kill: bool) -> str:
        """Return what the process said last."""
        if kill:
            self._process.kill()
        try:
            # Closes standard input, which is the sign to stop.
            return self._process.communicate(timeout=self.timeout + _START_LIMIT)[0].decode().strip()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise RuntimeError("the load did not stop in time and was killed") from None


def _option(name: str) -> str:
    return name.replace("_", "-")


def _stop_at_end_of(stream: int, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(stream, 4096):
            loop.remove_reader(stream)
            stop.set()

    loop.add_reader(stream, read)


async def _run(load: Load, *, until_stdin_closes: bool) -> Report:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if until_stdin_closes:
        _stop_at_end_of(sys.stdin.fileno(), stop)
    async with load:
        print(_STARTED, flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), load.seconds)
    return load.report()


def main(arguments: list[str] | None = None) -> int:
    """Run the load of the command line, print a summary; return 0 however the server behaved, 2 for bad settings."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.load", description="Mixed traffic that never retries."
    )
    parser.add_argument("url", help="http://ADDRESS:PORT of a lab: loopback or private addresses only")
    parser.add_argument("--json", type=Path, help="file that the report is written to")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end when standard input does as well"
    )
    for setting in dataclasses.fields(Settings):
        if setting.name != "url":
            parser.add_argument(
                f"--{_option(setting.name)}",
                type=type(setting.default),
                default=argparse.SUPPRESS,
                help=f"{setting.metadata['help'].replace('%', '%%')} (default: {setting.default})",
            )
    given = vars(parser.parse_args(arguments))
    json_file: Path | None = given.pop("json")
    until_stdin_closes: bool = given.pop("until_stdin_closes")
    try:
        load = Load(**given)
    except SettingsError as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    # A stalled server keeps many connections open at once; running out of files would look like its failure.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = asyncio.run(_run(load, until_stdin_closes=until_stdin_closes))
    if json_file:
        json_file.write_text(report.to_json())
    print(report.summary())
    return 0


if __name__ == "__main__":
    sys.exit(main())
