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

    def begun(since: int) -> "list[tuple[int, str]]":
        lines = path.read_bytes()[since:].splitlines() if path.exists() else []
        return [event for line in lines if (event := read(line))]

    known = max([number for number, _ in begun(0)], default=0)
    seen = (path.stat().st_ino, path.stat().st_size) if path.exists() else (0, 0)
    process = 0
    print("ready", flush=True)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        now = (path.stat().st_ino, path.stat().st_size) if path.exists() else seen
        if now != seen:
            # A file that was replaced is read as a whole.
            same, since = now[0] == seen[0], seen[1]
            seen = now
            news = [at for number, at in begun(since if same else 0) if number > known]
            # Found as early as possible: some stages take milliseconds.
            process = process or (engine(log) if news else 0)
            if wanted in news:
                time.sleep(delay)
                if process:
                    os.kill(process, signal.SIGSTOP)
                print(process, flush=True)
                return
        time.sleep(0.002)
    print("never", flush=True)


main()
