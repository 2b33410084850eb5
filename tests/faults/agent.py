"""Runs on the VPS as root: waits until a release begins a stage, and stops the engine's process there (SIGSTOP).

    python3 - JOURNAL STAGE LOG [DELAY]

Prints `ready`, and then the engine's process id. Standard library alone; the journal is read as any other reader would.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

PATIENCE = 60.0


def engine(log: str) -> int:
    """Return the process that releases: its errors go to the log, and it alone has the lock's file open."""
    return next((int(entry.name) for entry in Path("/proc").glob("[0-9]*") if releases(entry, log)), 0)


def releases(process: Path, log: str) -> bool:
    """Whether a process, as /proc shows it, is the one that releases."""
    try:
        if str((process / "fd/2").readlink()) != log:
            return False
        return any(file.readlink().name == "lock" for file in (process / "fd").iterdir())
    except OSError:
        return False  # it has ended meanwhile


def read(line: bytes) -> "tuple[int, str] | None":
    """Return the number of the release that a line tells of, and the stage that it begins, if any."""
    try:
        event = json.loads(line)
        stage = event["stage"] if event["event"] == "stage" else ""
        return int(event["release"].split("-")[0]), str(stage)
    except (ValueError, KeyError, TypeError):
        return None


def main() -> None:
    """Wait for the stage of a release that is newer than all that are known now."""
    journal, wanted, log = sys.argv[1:4]
    delay = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    path = Path(journal)

    def begun() -> "list[tuple[int, str]]":
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [event for line in lines if (event := read(line))]

    known = max([number for number, _ in begun()], default=0)
    print("ready", flush=True)
    seen, deadline = None, time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        now = path.stat() if path.exists() else None
        if now and (now.st_ino, now.st_size) != seen:
            seen = (now.st_ino, now.st_size)
            if any(number > known and at == wanted for number, at in begun()):
                time.sleep(delay)
                process = engine(log)
                if process:
                    os.kill(process, signal.SIGSTOP)
                print(process, flush=True)
                return
        time.sleep(0.002)
    print("never", flush=True)


main()
