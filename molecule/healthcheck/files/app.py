"""An application for the healthcheck: its third answer is the first healthy one, and it logs who asks for what."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers as the reference application does behind Slipway's proxy."""

    asked = 0

    def do_GET(self) -> None:
        """Answer every path alike; not ready twice."""
        Handler.asked += 1
        self.send_response(503 if Handler.asked < 3 else 200)
        self.send_header("X-Slipway-Release", "one")
        self.end_headers()
        self.wfile.write(json.dumps({"sha": "0123456789abcdef", "host": self.headers["Host"]}).encode())

    def log_message(self, *_: object) -> None:
        """Log the path and the Host header alone."""
        sys.stderr.write(f"{self.command} {self.path} {self.headers['Host']}\n")


ThreadingHTTPServer(("", 80), Handler).serve_forever()
