"""Runs the application's programs as real processes, the way a container does."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Seconds a program may take for anything; generous, because other tests share the machine.
TIMEOUT = 60


def environment(**settings: str) -> dict[str, str]:
    """Return a clean environment with `settings` and what a program needs to start at all."""
    kept = ("PATH", "TMPDIR", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
    return {name: os.environ[name] for name in kept if name in os.environ} | settings


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m <arguments>` to its end."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def alembic(database_url: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Alembic as a release does: with the database's address alone."""
    return run("alembic", "-c", "app/alembic.ini", *arguments, DATABASE_URL=database_url, **settings)


@contextmanager
def started(*arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Start `python -m <arguments>`; it is killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with process:
            yield process
    finally:
        process.kill()


def wait_for_log(process: subprocess.Popen[str], beginning: str) -> str:
    """Read the program's log until a message that begins so, and return that message."""
    assert process.stdout is not None
    for line in process.stdout:
        message: str = json.loads(line)["message"]
        if message.startswith(beginning):
            return message
    raise AssertionError(f"the program ended without the message {beginning!r}")
