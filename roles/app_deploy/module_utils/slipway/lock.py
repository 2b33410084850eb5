"""One release at a time: a lock that the kernel frees when its owner dies, whatever kills it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import Any

from .errors import ReleaseError

# Looking whether the lock is held takes it for a moment, and an owner needs one to exit after its last word.
ATTEMPTS = 20
PAUSE = 0.05


class Lock:
    """An exclusive lock on a file, with a note in it that says who holds it."""

    def __init__(self, path: str) -> None:
        """Remember where; nothing is locked yet."""
        self.path = path
        self._handle: int | None = None

    def take(self, holder: dict[str, Any]) -> None:
        """Take the lock or say who has it.

        Args:
            holder: who takes it: ``release``, ``actor``, ``run_url``, ``since``.

        Raises:
            ReleaseError: somebody else holds it.
        """
        # Not inherited by the programs that the engine starts: only its own process keeps the lock.
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        for attempt in range(ATTEMPTS):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt + 1 < ATTEMPTS:
                    time.sleep(PAUSE)
        else:
            text = os.pread(handle, 4096, 0).decode(errors="replace")
            os.close(handle)
            raise ReleaseError(f"another release is running: {_describe(text)}; wait for it, then try again")
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)
        self._handle = handle

    def free(self) -> None:
        """Give the lock back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def held(self) -> bool:
        """Whether any process holds the lock now."""
        try:
            handle = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False


def _describe(text: str) -> str:
    """Put the holder's note into words."""
    try:
        holder = json.loads(text)
    except ValueError:
        return "its owner has not said who it is"
    words = f"{holder.get('release')} by {holder.get('actor')} since {holder.get('since')}"
    return f"{words} ({holder['run_url']})" if holder.get("run_url") else words
