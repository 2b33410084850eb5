"""Keep secrets out of what people read, and make text from outside harmless: one line without control characters."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HIDDEN = "***"
# Variables whose value is a secret, by their names.
SECRET_NAME = re.compile(
    r"TOKEN|PASSWORD|PASSPHRASE|SECRET|CREDENTIAL|WEBHOOK|DSN|CHAT_ID|(_|^)(API)?KEY$|_ENV$|NOTIFY_URLS$|PRIVATE",
    re.IGNORECASE,
)
# Shorter ones would hide every "1" and "yes" and tell nothing to whoever reads them.
SHORTEST, SHORTEST_PART = 4, 8
# What is read of a text: no line that is shown is longer, and the patterns take their time.
LONGEST_TEXT = 5_000
# Words of URLs that are part of no secret.
COMMON = {"services", "webhooks", "workflows"}
# What looks like a secret although no variable holds it: an error of the application can quote anything.
LOOKS_SECRET = (
    (
        re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://)(?:[^\s/:@]*:\S*|[^\s/:@]+)@", re.IGNORECASE),
        rf"\1{HIDDEN}@",
    ),
    (re.compile(r"-----BEGIN [A-Z ]+-----.*", re.DOTALL), HIDDEN),
    (re.compile(r"https://hooks\.slack(?:-gov)?\.com/\S+"), HIDDEN),
    (re.compile(r"\b(?:gh[a-z]_|github_pat_|xox[a-z]-|sk-|glpat-)[\w-]{16,}"), HIDDEN),
    (re.compile(r"\bAKIA[0-9A-Z]{16}\b"), HIDDEN),
    (re.compile(r"(?<!\d)\d{6,12}:[\w-]{30,}"), HIDDEN),
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*"), HIDDEN),
    (re.compile(r"\b(bearer)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"((?:password|passwd|passphrase|secret|token|api[_-]?key|_key|authorization|credential)[\w-]{0,30}"
            r"[\"']?\s*[=:]\s*)(?:basic\s+)?(?:\"[^\"]*\"|'[^']*'|[^\s,;&]+)",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
)


class Redactor:
    """Replaces the secrets of an environment, and what looks like one, by three asterisks."""

    def __init__(self, environment: Mapping[str, str], public: Iterable[str] = ()) -> None:
        """Take the secrets from the variables whose names tell; `public` words are none, wherever they stand."""
        values = {
            each
            for name, value in environment.items()
            if SECRET_NAME.search(name)
            for part in _parts(value)
            for each in _spellings(part)
        }
        # The longest first: a secret may begin with another one.
        self._values = sorted(values - {*public}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        for pattern, replacement in LOOKS_SECRET:
            text = pattern.sub(replacement, text)
        return text

    def line(self, text: object, longest: int = 200) -> str:
        """Return text from outside as one harmless line without secrets, cut to `longest` characters."""
        # Cutting comes last: half a secret would not be recognised.
        plain = " ".join(self(str(text)[:LONGEST_TEXT]).split())
        plain = "".join(each for each in plain if not unicodedata.category(each).startswith("C"))
        # Nobody is called by a notice: a mention in it is broken by a space of no width. Digests stay copyable.
        plain = re.sub(r"@(?!sha256:)(?=\w)", "@\u200b", plain)
        return plain if len(plain) <= longest else f"{plain[: longest - 1].rstrip()}…"


def _parts(value: str) -> Iterator[str]:
    """Yield a secret and every part of it that must not be read either."""
    value = value.strip()
    if len(value) >= SHORTEST:
        yield value
    for line in value.splitlines():
        text = line.strip()
        # A whole .env file may be one secret.
        name, equals, content = text.partition("=")
        for each in (text, content.strip("\"' ") if equals and name.isidentifier() else ""):
            if len(each) >= SHORTEST_PART:
                yield each
            yield from _parts_of_url(each)


def _parts_of_url(text: str) -> Iterator[str]:
    try:
        url = urlsplit(text)
    except ValueError:
        return
    if not url.scheme or not url.netloc:
        return
    words = [url.username or "", url.password or "", *url.path.split("/")]
    words += [word for _, word in parse_qsl(url.query)]
    yield from (word for word in words if len(word) >= SHORTEST_PART and word not in COMMON)


def _spellings(value: str) -> set[str]:
    """Return the ways in which a value may be written."""
    encoded = base64.b64encode(value.encode()).decode()
    return {value, quote(value), quote(value, safe=""), json.dumps(value)[1:-1], encoded}
