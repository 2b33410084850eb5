"""What comes back from servers that do not answer properly: never more than a reason, and never late."""

from __future__ import annotations

import itertools
import socket
import ssl
import time
from threading import Thread
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

CHECK = {"path": "/", "method": "GET", "status": [200], "headers": {}}
TIMEOUT = 1


def serve_one(listener: socket.socket, pieces: Iterable[bytes]) -> None:
    """Answer one connection with these pieces, whatever it asks; more than one of them are a trickle."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.05)
        except OSError:
            return  # the other side has had enough


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([b"SSH-2.0-OpenSSH\r\n"], "no usable answer, BadStatusLine: SSH-2.0-OpenSSH"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"], "4 more expected"),
        ([b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=none\r\n\r\nx"], "unknown encoding: none"),
        ([b""], "Remote end closed connection without response"),
        (itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n"], itertools.repeat(b".")), "timed out"),
    ],
)
def test_an_answer_that_is_none(plugin: ModuleType, pieces: Iterable[bytes], reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve_one, args=(listener, pieces))
        thread.start()
        settings = {
            "url": f"http://127.0.0.1:{listener.getsockname()[1]}",
            "address": "",
            "host_header": "",
            "timeout": TIMEOUT,
        }
        start = time.monotonic()
        answer = plugin.ask(ssl.create_default_context(), CHECK, settings)
        spent = time.monotonic() - start
        thread.join()

    assert answer.status == plugin.NOBODY
    assert reason in answer.reason
    assert spent < TIMEOUT + 5
