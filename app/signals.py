"""SIGTERM and SIGINT mean: end, and that is a success."""

import signal
from types import FrameType


def exit_on_signals() -> None:
    """End the process with status 0 on SIGTERM and SIGINT, from now on.

    Called first thing: a container's main process ignores signals that it has no handler for, and Docker would
    wait and then kill it. The server replaces the handlers while it runs and restores them at its end.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
