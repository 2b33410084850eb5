"""`python -m app.healthcheck [worker]`: what the containers' health checks run. Standard library alone, to be quick.

Ends with status 0 if the web service (or the worker) of this container works, with 1 and one line otherwise.
"""

import os
import socket
import sys
import tempfile
import time
from pathlib import Path

# Touched by the worker after each round.
WORKER_FILE = Path(tempfile.gettempdir()) / "worker-alive"
# Seconds since the last round after which the worker counts as stuck, beyond its interval.
WORKER_SLACK = 15
# Seconds the web service may take to answer.
TIMEOUT = 3


def check_web(port: int) -> None:
    """Ask /health on loopback.

    Raises:
        OSError: nothing answers, or it answers something else than 200.
    """
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = connection.recv(64).split(b"\r\n")[0].decode(errors="replace")
    if " 200 " not in status:
        raise OSError(f"/health answers {status!r}")


def check_worker(interval: float) -> None:
    """Look at the file that the worker touches every `interval` seconds.

    Raises:
        OSError: the file is missing or too old.
    """
    age = time.time() - WORKER_FILE.stat().st_mtime
    if age > interval + WORKER_SLACK:
        raise OSError(f"the worker's last round was {age:.0f} s ago")


def main() -> None:
    """Check what the first argument names, the web service if there is none."""
    try:
        if sys.argv[1:] == ["worker"]:
            check_worker(float(os.environ.get("WORKER_INTERVAL_SECONDS") or 5))
        else:
            check_web(int(os.environ.get("PORT") or 8000))
    except OSError as error:
        sys.stderr.write(f"unhealthy: {error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
