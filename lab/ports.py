"""Free ports on the loopback address."""

import socket
from collections.abc import Collection

from lab.errors import LabError

ADDRESS = "127.0.0.1"
SPAN = 400


def is_free(port: int) -> bool:
    """Return whether nothing listens on this port of the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def pick(first: int, taken: Collection[int]) -> int:
    """Return the first free port from `first` on that is not in `taken`.

    A fixed choice, as Docker's own would change with each restart. Raises LabError when a whole range is in use.
    """
    for port in range(first, first + SPAN):
        if port not in taken and is_free(port):
            return port
    raise LabError(
        f"no free port on {ADDRESS} between {first} and {first + SPAN - 1}: stop what listens there"
    )
