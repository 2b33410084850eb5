"""Lines of progress, on standard error, so that standard output carries results alone."""

import sys

# Seconds between two lines of progress, at most.
HEARTBEAT = 5.0


def say(message: str) -> None:
    """Print one line of progress."""
    print(f"lab: {message}", file=sys.stderr, flush=True)
