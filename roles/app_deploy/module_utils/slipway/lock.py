"""One release at a time: a lock that the kernel frees when its owner dies, whatever kills it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Callable

# Looking whether the lock is held takes it for a moment, and an owner needs one to exit after its last word.
PATIENCE = 1.0
# Seconds for an owner that is at no release: it writes its last word, or its first, and a busy disk may keep it.
PATIENCE_IDLE = 10.0
PAUSE = 0.05


class Busy(ReleaseError):  # noqa: N818 - not every refusal is an error
    """Somebody else holds the lock.

    Args:
        holder: who, since when and how far, in words.
        waited: seconds that were waited for the end of it.
    """

    def __init__(self, holder: str, waited: float = 0) -> None:
        """Say who it is, and what to do."""
        self.holder = holder
        done = f"; waited {waited:.0f} s for it" if waited else ""
        super().__init__(
            f"another release is running: {holder}{done}; try again when it has ended, "
            "or wait for it with -e wait=300 (app_deploy_wait, seconds)"
        )


class Lock:
    """An exclusive lock on a file, with a note in it that says who holds it."""

    def __init__(self, path: str, stage: Callable[[], str | None] = lambda: "") -> None:
        """Remember where; nothing is locked yet.

        Args:
            path: its file.
            stage: tells how far the release is that holds it; empty where that is in no stage yet, None where none is at work.
        """
        self.path = path
        self._stage = stage
        self._handle: int | None = None

    def take(self, holder: dict[str, Any], wait: float = 0) -> None:
        """Take the lock, or say who has it.

        Args:
            holder: who takes it: ``release``, ``actor``, ``run_url``, ``since``.
            wait: seconds to wait for it, if they are more than a moment.

        Raises:
            Busy: somebody else holds it.
        """
        # Not inherited by the programs that the engine starts: only its own process keeps the lock.
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - began
                if waited >= max(wait, PATIENCE) and (waited >= PATIENCE_IDLE or self._stage() is not None):
                    os.close(handle)
                    raise Busy(self.holder()) from None
                time.sleep(PAUSE)
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

    def holder(self) -> str:
        """Say who took it last, since when, how far that release is, and where its run can be read."""
        text = Path(self.path).read_text(encoding="utf-8", errors="replace")
        try:
            told = json.loads(text)
        except ValueError:
            return "its owner has not said who it is"
        words = f"{told.get('release')} by {told.get('actor')} since {told.get('since')}"
        stage = self._stage()
        words += f", in stage {stage}" if stage else ""
        return f"{words} ({told['run_url']})" if told.get("run_url") else words
