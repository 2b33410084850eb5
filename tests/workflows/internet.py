"""A stand-in for the Internet: a proxy on loopback, which programs under test use through the usual variables.

It answers for services that cannot be reached from a test (GitHub, Telegram, Slack and whatever is named), over real
TLS, and keeps what they were asked. Other names lead to a server of the lab, or are refused: nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import ssl
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from tests.workflows import internet_certificates
from tests.workflows.internet_services import GITHUB, SLACK, TELEGRAM, GitHub, Reply, Seen, slack, telegram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Seconds without a byte after which a connection is given up.
SILENCE = 30.0
NOBODY_ASKED = 0.02


class Override(NamedTuple):
    """An answer of `Internet.answer`."""

    host: str
    path: re.Pattern[str]
    reply: Reply


class Internet:
    """The stand-in, as a context manager; `github` is what GitHub remembers.

    `names` are further hosts to answer for, with `{}` unless `answer` says otherwise. `tunnels` leads names to servers
    of this machine, for example `{"ghcr.io": ("127.0.0.1", registry.load().port)}`.
    """

    def __init__(
        self, names: Iterable[str] = (), tunnels: Mapping[str, tuple[str, int]] | None = None
    ) -> None:
        """Say what to answer for; nothing is started yet."""
        self.requests: list[Seen] = []
        self.github = GitHub()
        self.services: dict[str, Callable[[Seen], Reply]] = {
            **{name: lambda _: Reply() for name in names},
            GITHUB: self.github,
            TELEGRAM: telegram,
            SLACK: slack,
        }
        self.tunnels = dict(tunnels or {})
        self._overrides: list[Override] = []
        self._ended = Event()

    def __enter__(self) -> Self:
        """Start the proxy."""
        self._folder = tempfile.TemporaryDirectory(prefix="slipway-internet-")
        bundle, certificate, key = internet_certificates.make(Path(self._folder.name), list(self.services))
        self.ca_file = str(bundle)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate, key)
        self.server = _Server(self)
        self.proxy_url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = Thread(target=self.server.serve_forever, args=(NOBODY_ASKED,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it; answers that still wait are not given."""
        self._ended.set()
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
        self._folder.cleanup()

    def environment(self) -> dict[str, str]:
        """Return the variables by which programs use it."""
        proxy = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), self.proxy_url)
        direct = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        trust = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), self.ca_file)
        return proxy | direct | trust

    def of(self, host: str) -> list[Seen]:
        """Return what this host was asked, in order."""
        return [seen for seen in list(self.requests) if seen.host == host]

    def answer(
        self,
        host: str,
        path: str,
        status: int = 200,
        body: Any = "",  # noqa: ANN401 - whatever JSON can say
        *,
        delay: float = 0,
    ) -> None:
        """Answer requests to paths that match this regular expression so; what was said last counts.

        `delay` in seconds comes before the answer: a service that hangs.
        """
        self._overrides.insert(0, Override(host, re.compile(path), Reply(status, body, delay)))

    def calm(self) -> None:
        """Take back everything that `answer` said."""
        self._overrides.clear()

    def reply(self, seen: Seen) -> Reply | None:
        """Keep the request and return its answer, after its delay; None where everything ends meanwhile."""
        self.requests.append(seen)
        found = (
            each.reply
            for each in self._overrides
            if each.host == seen.host and each.path.search(seen.path) is not None
        )
        reply = next(found, None) or self.services[seen.host](seen)
        return None if reply.delay and self._ended.wait(reply.delay) else reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, internet: Internet) -> None:
        self.internet = internet
        super().__init__(("127.0.0.1", 0), _Proxy)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as Python has it
        """Show mistakes of the stand-in alone: a client may go away in the middle of anything."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Takes every method alike, and says nothing."""

    timeout = SILENCE

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Return what answers a method that has no answer of its own."""
        if not name.startswith("do_"):
            raise AttributeError(name)
        return self.any

    def any(self) -> None:
        """Answer any method."""
        raise NotImplementedError

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Service(_Handler):
    """Answers the requests of one connection that a proxy has opened to `host`."""

    protocol_version = "HTTP/1.1"

    def __init__(self, connection: socket.socket, internet: Internet, host: str) -> None:
        self._internet, self._host = internet, host
        super().__init__(connection, ("127.0.0.1", 0), internet.server)

    def any(self) -> None:
        """Answer one request."""
        headers = {name.title(): value for name, value in self.headers.items()}
        body = _parsed(self._body(), headers.get("Content-Type", ""))
        reply = self._internet.reply(Seen(self._host, self.command, self.path, headers, body))
        if reply is None:
            self.close_connection = True
            return
        is_text = isinstance(reply.body, str)
        content = (reply.body if is_text else json.dumps(reply.body)).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body


class _Proxy(_Handler):
    """What a program speaks to first."""

    server: _Server

    def do_CONNECT(self) -> None:
        """Answer for the host, lead to one of the lab, or refuse."""
        self.close_connection = True
        internet = self.server.internet
        host, _, port = self.path.rpartition(":")
        host = host.strip("[]")
        if host in internet.services:
            self.send_response(200)
            self.end_headers()
            # A client that does not trust the certificate ends the handshake.
            with (
                contextlib.suppress(OSError),
                internet.tls.wrap_socket(self.connection, server_side=True) as connection,
            ):
                _Service(connection, internet, host)
            return
        target = internet.tunnels.get(host)
        if target is None and host in LOOPBACK:
            target = host, int(port)
        self._pass_on(Seen(host, "CONNECT", self.path), "tunnel", target, b"")

    def any(self) -> None:
        """Forward plain HTTP to this machine alone."""
        self.close_connection = True
        parts = urlsplit(self.path)
        host = parts.hostname or ""
        path = parts._replace(scheme="", netloc="").geturl() or "/"
        headers = dict(self.headers.items())
        target = (host, parts.port or 80) if host in LOOPBACK else None
        kept = {
            name: value
            for name, value in headers.items()
            if name.lower() not in ("connection", "proxy-connection")
        }
        lines = [f"{self.command} {path} HTTP/1.0"]
        lines += [f"{name}: {value}" for name, value in (kept | {"Connection": "close"}).items()]
        first = "\r\n".join([*lines, "", ""]).encode()
        first += self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._pass_on(Seen(host, self.command, path, headers), "forward", target, first)

    def _pass_on(self, seen: Seen, kind: str, target: tuple[str, int] | None, first: bytes) -> None:
        """Connect to `target`, send `first`, then carry bytes both ways; without a target, refuse."""
        requests = self.server.internet.requests
        if target is None:
            requests.append(_as(seen, "refused"))
            self.send_error(403, f"{seen.host} is not in this Internet")
            return
        requests.append(_as(seen, kind))
        try:
            other = socket.create_connection(target, timeout=SILENCE)
        except OSError as error:
            self.send_error(502, str(error))
            return
        with other:
            if kind == "tunnel":
                self.send_response(200)
                self.end_headers()
            other.sendall(first)
            _carry(self.connection, other)


def _as(seen: Seen, kind: str) -> Seen:
    return Seen(seen.host, seen.method, seen.path, seen.headers, seen.body, kind)


def _parsed(body: bytes, content_type: str) -> Any:  # noqa: ANN401 - whatever JSON can say
    text = body.decode("utf-8", "replace")
    # gh sends JSON without saying so.
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return dict(parse_qsl(text)) if content_type.startswith("application/x-www-form-urlencoded") else text


def _carry(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends or nothing comes."""
    pairs = {one: other, other: one}
    while ready := select.select(list(pairs), [], [], SILENCE)[0]:
        for source in ready:
            piece = source.recv(1 << 16)
            if not piece:
                return
            pairs[source].sendall(piece)
