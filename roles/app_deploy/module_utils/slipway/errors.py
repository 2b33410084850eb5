"""The one error of the engine: what failed, in one line that tells what to do."""

from __future__ import annotations

import errno


class ReleaseError(Exception):
    """A release cannot go on.

    Args:
        message: one line: what is wrong, which setting it concerns, and the mend.
        output: the last lines of what the failing program or container printed, if there is any.
    """

    def __init__(self, message: str, output: str = "") -> None:
        """Keep both parts: the line is for everyone, the output for whoever has to find the cause."""
        super().__init__(" ".join(message.split()))
        self.output = output


def last_lines(text: str, count: int = 20) -> str:
    """Return the last ``count`` lines of ``text`` that are not blank."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


def worded(error: Exception, directory: str) -> str:
    """Say in one line what failed; an error that the engine did not expect is named with its kind.

    Args:
        error: what was raised.
        directory: the application's directory, the only place that the engine itself writes to.
    """
    if isinstance(error, ReleaseError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {directory} is full: free some space on this server, then release again"
    return f"{type(error).__name__}: {error}"
