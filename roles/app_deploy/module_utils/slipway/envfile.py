"""The env file: written so that Docker Compose reads back exactly what was meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .errors import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Shorter values are too likely to be part of ordinary words for hiding them to help anyone.
SECRET_LENGTH = 6


def render(values: Mapping[str, object]) -> str:
    """Write an env file.

    Args:
        values: names and values; a value is a string, a number, or true or false.

    Raises:
        ReleaseError: a name no shell knows, or a value that is no scalar.
    """
    lines = []
    for name, value in sorted(values.items()):
        if not NAME.fullmatch(name):
            raise ReleaseError(
                f"app_deploy_env has the name {name!r}: letters, digits and _ only, no digit first"
            )
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, (str, int, float)):
            text = str(value)
        else:
            raise ReleaseError(f"app_deploy_env: {name} must be a string, a number, true or false")
        lines.append(f"{name}={_quote(text)}\n")
    return "".join(lines)


def _quote(text: str) -> str:
    """Quote a value. Compose takes single-quoted text as it is, but for the quote itself."""
    if "'" not in text and "\\" not in text:
        return f"'{text}'"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", "\\n")
    return f'"{escaped}"'


def pairs(text: str) -> dict[str, str]:
    """Read names and raw values line by line: enough to compare and to hide values, not to run with."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and NAME.fullmatch(name.strip()):
            found[name.strip()] = value.strip().strip("'\"")
    return found


def hide(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text with every secret value replaced."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SECRET_LENGTH:
            text = text.replace(secret, "********")
    return text
