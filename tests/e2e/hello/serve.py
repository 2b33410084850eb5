"""The least that Slipway asks of an application: a port and a health path."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

PORT = 9000


class Handler(BaseHTTPRequestHandler):
    """Answers 200 to everything."""

    protocol_version = "HTTP/1.1"
    words: ClassVar[bytes] = b"hello\n"

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        """Greet."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.words)))
        self.end_headers()
        self.wfile.write(self.words)


if __name__ == "__main__":
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()
