"""A shop that takes orders into a file, which a migration locks; for gunicorn, in two versions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

VERSION = os.environ["VERSION"]
DATABASE = Path(os.environ["DATABASE"])
MIGRATING = DATABASE.with_suffix(".migrating")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    status, text = "200 OK", VERSION
    if environ["REQUEST_METHOD"] == "POST":
        if MIGRATING.exists():
            status = "500 Internal Server Error"
        else:
            with DATABASE.open("ab") as orders:
                orders.write(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])) + b"\n")
    elif environ["PATH_INFO"] not in ("/", "/up"):
        status = "404 Not Found"
    body = text.encode()
    start_response(status, [("Content-Length", str(len(body)))])
    return [body]
