"""Test plugin: is a value a regular expression? Jinja's own tests can only fail with one that is none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def is_regex(value: object) -> bool:
    """Return whether a value can be looked for as a regular expression."""
    try:
        re.compile(str(value))
    except (re.error, RecursionError, OverflowError):
        return False
    return isinstance(value, str)


class TestModule:
    """What Ansible looks for."""

    def tests(self) -> dict[str, Callable[[object], bool]]:
        """Return the tests by name."""
        return {"healthcheck_regex": is_regex}
