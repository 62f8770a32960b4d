"""A tiny WSGI application, for the /api prefix: it answers with the request as JSON.

Run it with `python api.py 3002`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server


def api(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/up":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"up\n"]
    shown = {
        "answered_by": "api",
        "method": environ["REQUEST_METHOD"],
        "path": path,
        "query": environ["QUERY_STRING"],
        "headers": {
            name[5:].replace("_", "-").title(): value
            for name, value in sorted(environ.items())
            if name.startswith("HTTP_")
        },
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(shown, indent=2).encode() + b"\n"]


class Quiet(WSGIRequestHandler):
    def log_message(self, *message: object) -> None:
        """Stay quiet: kproxy writes the access log."""


if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), api, handler_class=Quiet).serve_forever()
