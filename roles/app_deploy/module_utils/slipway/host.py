"""The machine, seen through small seams: files, clock and HTTP. Docker has a module of its own.

Tests put an in-memory machine in their place, so nothing else in the engine may reach for these.
"""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit


class Clock(Protocol):
    """Time."""

    def now(self) -> str:
        """Return the wall clock's time, UTC, ISO 8601 with milliseconds; for people, never for measuring."""

    def monotonic(self) -> float:
        """Return seconds that only grow."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Files(Protocol):
    """The file system."""

    def read(self, path: str) -> str | None:
        """Return a file's text, or None where there is no such file."""

    def write(self, path: str, text: str, mode: int, scratch: str = "") -> None:
        """Replace a file in one atomic step; it is on disk when this returns.

        Args:
            path: the file.
            text: its new content.
            mode: its permissions.
            scratch: a directory of the same file system for the file that is being written; default: the file's own.
        """

    def append(self, path: str, text: str) -> None:
        """Add to the end of a file (made with mode 0600); it is on disk when this returns."""

    def make_directory(self, path: str, mode: int) -> None:
        """Make a directory and its parents where they are missing."""

    def remove_tree(self, path: str) -> None:
        """Remove a file or a directory with all in it; nothing there is fine."""

    def size(self, path: str) -> int:
        """Return a file's length in bytes; 0 where there is no such file."""

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; none where there is no such directory."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status, headers with lower-case names, and the first 64 KiB of the body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Http(Protocol):
    """HTTP, one request at a time."""

    def get(self, url: str, host: str, timeout: float) -> Answer:
        """Ask once.

        Args:
            url: absolute URL; its host is where to connect.
            host: value of the Host header and, with HTTPS, the name to ask for; empty: as in the URL.
            timeout: seconds for the whole answer.

        Raises:
            OSError: no answer came; its text says why.
        """


class RealClock:
    """The machine's clock."""

    def now(self) -> str:
        """See `Clock.now`."""
        return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        time.sleep(seconds)


def _sync_directory(path: Path) -> None:
    """Make a rename or a new name in a directory survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class RealFiles:
    """The machine's file system."""

    def read(self, path: str) -> str | None:
        """See `Files.read`."""
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def write(self, path: str, text: str, mode: int, scratch: str = "") -> None:
        """See `Files.write`."""
        target = Path(path)
        # Always the same name: what a crash leaves is replaced by the next write instead of being joined by it.
        name = Path(scratch or target.parent, f".{target.name}.tmp")
        name.unlink(missing_ok=True)
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            name.replace(target)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
        _sync_directory(target.parent)

    def append(self, path: str, text: str) -> None:
        """See `Files.append`."""
        target = Path(path)
        new = not target.exists()
        handle = os.open(target, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "rb+") as stream:
            # A line that a crash left torn must not swallow the next one.
            if not new and stream.seek(0, os.SEEK_END) > 0:
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    text = "\n" + text
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            _sync_directory(target.parent)

    def make_directory(self, path: str, mode: int) -> None:
        """See `Files.make_directory`."""
        target = Path(path)
        if not target.is_dir():
            target.mkdir(parents=True, mode=mode)
            target.chmod(mode)
            _sync_directory(target.parent)

    def remove_tree(self, path: str) -> None:
        """See `Files.remove_tree`."""
        target = Path(path)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def size(self, path: str) -> int:
        """See `Files.size`."""
        target = Path(path)
        return target.stat().st_size if target.exists() else 0

    def names(self, path: str) -> list[str]:
        """See `Files.names`."""
        target = Path(path)
        return sorted(item.name for item in target.iterdir()) if target.is_dir() else []


class RealHttp:
    """HTTP by the standard library."""

    def get(self, url: str, host: str, timeout: float) -> Answer:
        """See `Http.get`."""
        parts = urlsplit(url)
        address = parts.hostname or ""
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            # This asks the proxy on this very host, by address: who answers is told by the release header.
            # Whether the certificate is right is proved from outside, by the healthcheck role.
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = _NamedHttps(address, parts.port or 443, timeout, context, host or address)
        else:
            connection = http.client.HTTPConnection(address, parts.port or 80, timeout=timeout)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            headers = {"Host": host} if host else {}
            connection.request(
                "GET", path, headers={**headers, "User-Agent": "slipway", "Connection": "close"}
            )
            response = connection.getresponse()
            body = response.read(65536)
            return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, body)
        except http.client.HTTPException as error:
            raise OSError(f"not an HTTP answer ({type(error).__name__}: {error})") from error
        finally:
            connection.close()


class _NamedHttps(http.client.HTTPSConnection):
    """HTTPS to an address, asking for another name (SNI)."""

    def __init__(self, address: str, port: int, timeout: float, context: ssl.SSLContext, name: str) -> None:
        super().__init__(address, port, timeout=timeout, context=context)
        self._name = name
        self._named_context = context

    def connect(self) -> None:
        """Connect, then speak TLS for the name that was asked for."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._named_context.wrap_socket(self.sock, server_hostname=self._name)
