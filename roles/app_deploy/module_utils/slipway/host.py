"""The machine, seen through small seams: files, clock and HTTP. Docker has a module of its own.

Tests put an in-memory machine in their place, so nothing else in the engine may reach for these.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import shutil
import socket
import ssl
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence


# Days that a certificate has to last. Let's Encrypt's are renewed 30 days before their end: with less than this left, that
# has failed for some time.
CERTIFICATE_DAYS = 14


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

    def move(self, path: str, target: str) -> None:
        """Give a file another name in the same file system, in one atomic step; it is on disk when this returns."""

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
    """An HTTP answer: status, headers with lower-case names, and the beginning of the body (1 MiB)."""

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


@dataclass(frozen=True)
class Disk:
    """A file system: its device number, and the bytes that are free on it for everyone."""

    device: int
    free: int


@dataclass(frozen=True)
class Listener:
    """A port that something listens on: ``tcp`` or ``udp``, its address (wildcard: empty) and its number."""

    protocol: str
    address: str
    port: int


class Machine(Protocol):
    """What the machine has to spare."""

    def disk(self, path: str) -> Disk:
        """Return the file system that holds a path, or would hold it."""

    def memory(self) -> int | None:
        """Return the bytes of memory that can still be had, swap included, or None where that cannot be told."""

    def listeners(self) -> list[Listener]:
        """Return the ports that something on this machine listens on."""

    def unresolved(self, names: Sequence[str], timeout: float) -> list[str]:
        """Return those host names that have no address, as far as that can be told within so many seconds."""

    def certificate(self, name: str, timeout: float) -> str:
        """Say what is wrong with the certificate that this server shows for a host name.

        Returns:
            The end of a sentence that begins with the certificate; empty where it is right, or nobody answers.
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

    def move(self, path: str, target: str) -> None:
        """See `Files.move`."""
        Path(path).replace(target)
        _sync_directory(Path(target).parent)

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
            body = response.read(1 << 20)
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


class RealMachine:
    """The machine itself, asked through ``/proc`` and system calls that take no time."""

    def disk(self, path: str) -> Disk:
        """See `Machine.disk`."""
        target = Path(path)
        # The directory may not be there yet. One that we may not enter can still be asked about.
        there = next(place for place in (target, *target.parents) if _visible(place))
        found = os.statvfs(there)
        return Disk(there.stat().st_dev, found.f_bavail * found.f_frsize)

    def memory(self) -> int | None:
        """See `Machine.memory`."""
        return available(Path("/proc/meminfo").read_text(encoding="ascii"))

    def listeners(self) -> list[Listener]:
        """See `Machine.listeners`."""
        found = []
        for protocol in ("tcp", "tcp6", "udp", "udp6"):
            table = Path(f"/proc/net/{protocol}")
            if table.exists():
                found += listening(protocol[:3], table.read_text(encoding="ascii"))
        return found

    def unresolved(self, names: Sequence[str], timeout: float) -> list[str]:
        """Ask for all names at once: the resolver has no time-out that a program could set."""
        unknown: list[str] = []

        def ask(name: str) -> None:
            try:
                socket.getaddrinfo(name, None)
            except (OSError, UnicodeError):
                unknown.append(name)

        threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
        late = [name for name, thread in zip(names, threads, strict=True) if thread.is_alive()]
        return [name for name in names if name in unknown or name in late]

    def certificate(self, name: str, timeout: float, port: int = 443) -> str:
        """As a browser would judge it; see `Machine.certificate`."""
        trusted = ssl.create_default_context()
        try:
            with (
                socket.create_connection(("127.0.0.1", port), timeout) as plain,
                trusted.wrap_socket(plain, server_hostname=name) as secure,
            ):
                ends = str((secure.getpeercert() or {}).get("notAfter"))
        except ssl.SSLCertVerificationError as error:
            return f"is refused by browsers ({error.verify_message})"
        except OSError:
            return ""
        days = (ssl.cert_time_to_seconds(ends) - time.time()) / 86_400
        return f"ends in {days:.0f} days" if days < CERTIFICATE_DAYS else ""


def _visible(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def available(meminfo: str) -> int | None:
    """Return the bytes that the text of ``/proc/meminfo`` says can be had, swap included."""
    sizes = {line.partition(":")[0]: line.split()[1] for line in meminfo.splitlines() if line.endswith(" kB")}
    if "MemAvailable" not in sizes:
        return None
    return 1024 * (int(sizes["MemAvailable"]) + int(sizes.get("SwapFree", 0)))


def listening(protocol: str, table: str) -> list[Listener]:
    """Read who listens out of the text of ``/proc/net/tcp``, ``tcp6``, ``udp`` or ``udp6``.

    State 0A is LISTEN; a UDP socket that is bound to a port, and to no peer, has 07. Addresses are words in the
    order of the machine's bytes, see https://docs.kernel.org/networking/proc_net_tcp.html.
    """
    found = []
    for row in (line.split() for line in table.splitlines()[1:]):
        if row[3] != ("0A" if protocol == "tcp" else "07"):
            continue
        words, _, port = row[1].partition(":")
        raw = b"".join(
            int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8)
        )
        address = ipaddress.ip_address(raw)
        found.append(Listener(protocol, "" if address.is_unspecified else str(address), int(port, 16)))
    return found
