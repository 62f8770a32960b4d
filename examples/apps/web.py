"""A tiny web application: it says who answered, and shows the request as it arrived.

Run it with `python web.py 3001`.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open, so that kproxy can use them again

    def do_GET(self) -> None:
        if self.path == "/up":
            self.answer("up\n")
        else:
            self.answer(f"The web application got {self.command} {self.path}\n\n{self.headers}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(f"The web application got {len(body)} bytes for {self.path}\n\n{self.headers}")

    def answer(self, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *message: object) -> None:
        """Stay quiet: kproxy writes the access log."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Web).serve_forever()
