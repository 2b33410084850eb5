"""The one error of the engine: what failed, in one line that tells what to do."""

from __future__ import annotations


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
