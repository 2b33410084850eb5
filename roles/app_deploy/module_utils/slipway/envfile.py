"""The env file: written so that Docker Compose reads back exactly what was meant."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from .errors import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# One statement of an env file as Docker Compose reads it: nothing, a comment, or a name with or without its value, which
# may be quoted and then go over several lines.
STATEMENT = re.compile(
    r"""[ \t]*(?:\#[^\n]*|(?:export[ \t]+)?[A-Za-z0-9_.\-\[\]]+[ \t]*
    (?:[=:][ \t]*(?:'(?:[^'\\]|\\.)*'[^\n]*|"(?:[^"\\]|\\.)*"[^\n]*|(?!['"])[^\n]*))?)?[ \t\r]*(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
# Bytes of a name and its value together: MAX_ARG_STRLEN of https://man7.org/linux/man-pages/man2/execve.2.html
LARGEST = 131_072
# Shorter values are too likely to be part of ordinary words for hiding them to help anyone.
SECRET_LENGTH = 6


def check(values: Mapping[str, object], setting: str) -> None:
    """Refuse what cannot stand in an environment; the values are never shown.

    Args:
        values: names and values; a value is a string, a number, or true or false.
        setting: where they come from.

    Raises:
        ReleaseError: a name no shell knows, a value that is no scalar, or one that no program can be given.
    """
    for name, value in values.items():
        if not NAME.fullmatch(str(name)):
            raise ReleaseError(
                f"{setting} has the name {str(name)[:80]!r}: letters, digits and _ only, no digit first"
            )
        scalar = isinstance(value, (str, int, float))
        if not scalar or (isinstance(value, float) and not math.isfinite(value)):
            raise ReleaseError(f"{setting}: {name} must be a string, a number, true or false")
        if "\0" in str(value):
            raise ReleaseError(
                f"{setting}: {name} has a NUL character, which no program can be given: remove it"
            )
        if len(f"{name}={value}".encode(errors="replace")) >= LARGEST:
            raise ReleaseError(
                f"{setting}: {name} has {len(str(value))} characters, more than Linux lets a variable have "
                f"({LARGEST} bytes): put it into a file"
            )


def check_text(text: str, setting: str) -> None:
    """Refuse a whole env file that Docker Compose could not read; its lines are never shown.

    Raises:
        ReleaseError: naming the first line that is wrong.
    """
    if "\0" in text:
        raise ReleaseError(f"{setting} has a NUL character, which no program can be given: remove it")
    position = 0
    while position < len(text):
        found = STATEMENT.match(text, position)
        if found is None:
            line = text.count("\n", 0, position) + 1
            raise ReleaseError(
                f"{setting}: line {line} is not NAME=value, or a quote in it is never closed: write each line as "
                "NAME=value, or # comment"
            )
        position = found.end()


def render(values: Mapping[str, object]) -> str:
    """Write an env file of names and values that `check` has let pass."""
    lines = []
    for name, value in sorted(values.items()):
        text = str(value).lower() if isinstance(value, bool) else str(value)
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
