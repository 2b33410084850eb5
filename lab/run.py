"""Running other programs: bounded in time, never silent for long, with their output kept when they fail."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import IO

from lab import state
from lab.errors import LabError
from lab.progress import HEARTBEAT, say

TAIL = 25


def call(
    command: Sequence[str],
    *,
    timeout: float = 60,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a quick command and return its result, whatever its exit code.

    `timeout` is in seconds; `env` is added to the environment. Raises LabError when the program is missing or late.
    """
    try:
        result = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, **(env or {})},
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"`{_shown(command)}` did not finish within {timeout:.0f} s") from None
    return subprocess.CompletedProcess(
        result.args,
        result.returncode,
        result.stdout.decode(errors="replace"),
        result.stderr.decode(errors="replace"),
    )


def output(
    command: Sequence[str],
    *,
    timeout: float = 60,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a quick command and return what it printed. Raises LabError when it fails."""
    result = call(command, timeout=timeout, stdin=stdin, env=env)
    if result.returncode:
        lines = (result.stderr.strip() or result.stdout.strip() or "no message").splitlines()
        raise LabError(f"`{_shown(command)}` failed: {lines[-1]}")
    return result.stdout.strip()


def logged(  # noqa: PLR0913 - each is a separate property of one run
    what: str,
    command: Sequence[str],
    *,
    log: str,
    timeout: float = 600,
    stdin: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Path:
    """Run a long command with its output in ``.lab/logs/<log>.log``; return that file.

    Says that it starts (unless `quiet`), and every few seconds that it still runs. Raises LabError with the log's tail
    when it fails or takes longer than `timeout` seconds; then it has been ended.
    """
    file = state.path("logs", f"{log}.log")
    if not quiet:
        say(f"{what} …")
    start = time.monotonic()
    try:
        with file.open("wb") as sink:
            process = subprocess.Popen(
                command,
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed") from None
    try:
        code = _wait(process, what, start, timeout)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
    if code:
        reason = f"exit code {code}" if code > 0 else f"not finished within {timeout:.0f} s"
        raise LabError(f"{what} failed ({reason}); the last lines of {file}:\n{tail(file)}")
    return file


def _wait(process: subprocess.Popen[bytes], what: str, start: float, timeout: float) -> int:
    """Return the exit code, or -1 when the time is over."""
    while (code := _code(process)) is None:
        elapsed = time.monotonic() - start
        if elapsed > timeout:
            return -1
        say(f"{what} … {elapsed:.0f} s")
    return code


def _code(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(HEARTBEAT)
    except subprocess.TimeoutExpired:
        return None


def side_by_side(jobs: Sequence[Callable[[], object]]) -> None:
    """Run long jobs two at a time: each waits for the network for a while and then needs a core.

    After the first failure, which is raised, no further job is begun.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        try:
            for done in as_completed([pool.submit(job) for job in jobs]):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def tail(file: Path, lines: int = TAIL) -> str:
    """Return the last lines of a log, indented."""
    text = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in text[-lines:])


def _shown(command: Sequence[str]) -> str:
    text = " ".join(command)
    limit = 120
    return text if len(text) <= limit else text[:limit] + " …"
