"""A new user's shop: Flask, to be run by gunicorn."""

from __future__ import annotations

import hashlib

from flask import Flask, Response, request

app = Flask(__name__)


@app.get("/up")
def up() -> str:
    return "up"


@app.get("/")
def home() -> str:
    return f"<h1>Shop</h1> of {request.host} for {request.headers['X-Forwarded-For']}"


@app.post("/upload")
def upload() -> dict[str, object]:
    digest = hashlib.sha256()
    size = 0
    while piece := request.stream.read(1 << 20):
        digest.update(piece)
        size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}


@app.get("/count/<int:size>")
def count(size: int) -> Response:
    """A response whose length Flask does not know."""
    return Response((f"{number}\n" for number in range(size)), mimetype="text/plain")
