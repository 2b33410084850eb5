"""Where the lab keeps its state: the directory ``.lab`` of the checkout, private to its owner."""

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.progress import HEARTBEAT, say

ROOT = Path(__file__).resolve().parent.parent
LOCK_TIMEOUT = 900.0

_held = threading.RLock()
_depth = 0


def directory() -> Path:
    """Return the state directory (``SLIPWAY_LAB_DIR``, default ``.lab`` in the checkout), made private."""
    path = Path(os.environ.get("SLIPWAY_LAB_DIR") or ROOT / ".lab").absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def path(*parts: str) -> Path:
    """Return a path below the state directory, with its parent directories made."""
    result = directory().joinpath(*parts)
    result.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return result


def write(target: Path, content: str) -> None:
    """Replace a file of the state in one step, readable by its owner alone."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    temporary.replace(target)


def write_json(target: Path, value: object) -> None:
    """Replace a JSON file of the state in one step."""
    write(target, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(target: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file of the state, or None where there is no such file."""
    try:
        value = json.loads(target.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise LabError(
            f"{target} is not JSON ({error}): run `python -m lab down --all`, then `lab up`"
        ) from error
    if not isinstance(value, dict):
        raise LabError(f"{target} holds no JSON object: run `python -m lab down --all`, then `lab up`")
    return value


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Hold the lab for oneself, among all processes and threads; may be entered again by its holder.

    The kernel frees it when its holder dies. Raises LabError after LOCK_TIMEOUT seconds of waiting.
    """
    global _depth  # noqa: PLW0603 - the lock belongs to the process, and so does the count of its entries
    if not _held.acquire(timeout=LOCK_TIMEOUT):
        raise LabError("another thread has held the lab for too long")
    try:
        if _depth:
            _depth += 1
            try:
                yield
            finally:
                _depth -= 1
            return
        with path("lock").open("w", encoding="ascii") as file:
            _wait_for(file.fileno())
            _depth = 1
            try:
                yield
            finally:
                _depth = 0
    finally:
        _held.release()


def _wait_for(descriptor: int) -> None:
    start = spoken = time.monotonic()
    while not _locked(descriptor):
        now = time.monotonic()
        if now - start > LOCK_TIMEOUT:
            raise LabError(f"another process has held {path('lock')} for {LOCK_TIMEOUT:.0f} s")
        if now - spoken > HEARTBEAT:
            say("waiting for another `lab` command to finish")
            spoken = now
        time.sleep(0.1)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
