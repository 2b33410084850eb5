"""The least that Slipway asks of an application: a port and a health path."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

PORT = 9000


class Handler(BaseHTTPRequestHandler):
    """Answers 200 to everything."""

    protocol_version = "HTTP/1.1"
    words: ClassVar[bytes] = os.environ["GREETING"].encode() + b"\n"

    def do_GET(self) -> None:
        """Greet."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.words)))
        self.end_headers()
        self.wfile.write(self.words)


if __name__ == "__main__":
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()
