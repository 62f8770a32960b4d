"""Targets that a test scripts, byte for byte where it matters."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from tests.e2e.support.wire import Request, Wire, response_text

Script = Callable[[Wire, Request], object]
"""Answers one request on its connection; may do anything else to the connection."""


def echo(wire: Wire, request: Request) -> None:
    """Answer with what came, as JSON."""
    body = wire.read_body(request)
    seen = {
        "method": request.method,
        "target": request.target,
        "version": request.version,
        "headers": request.headers,
        "size": len(body),
        "sha256": sha256(body).hexdigest(),
        "body": body.decode("latin-1") if len(body) <= 65536 else "",
    }
    wire.send(response_text(json.dumps(seen), content_type="application/json"))


def says(text: str) -> Script:
    """A script that answers every request with the same words."""

    def script(wire: Wire, request: Request) -> None:
        wire.read_body(request)
        wire.send(response_text(text, content_type="text/plain"))

    return script


def raw(answer: bytes, *, close: bool = False) -> Script:
    """A script that answers with exactly these bytes."""

    def script(wire: Wire, request: Request) -> None:
        wire.read_body(request)
        wire.send(answer)
        if close:
            wire.close()

    return script


class Target:
    """An HTTP server on a socket of its own; its script may change from test to test.

    It answers the health check itself, over connections that are not counted, unless it is told to
    be unhealthy.
    """

    def __init__(
        self, script: Script = echo, address: str = "127.0.0.1", port: int = 0, health: str = "/up"
    ) -> None:
        self.script = script
        self.healthy = True
        self.health = health
        self.health_checks: list[Request] = []
        self.requests: list[Request] = []
        """All requests but the health checks."""
        self.seen = b""
        """The heads of the same, as they came."""
        self._used: set[Wire] = set()
        self.errors: list[BaseException] = []
        self._wires: set[Wire] = set()
        self._lock = threading.Lock()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        self._socket.listen(512)
        self.port: int = self._socket.getsockname()[1]
        self.host = f"[{address}]" if ":" in address else address
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """As deploy.yml takes it, and the access log shows it."""
        return f"{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections carried a request that was not a health check."""
        return len(self._used)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            wire = Wire(sock)
            sock.settimeout(60)
            with self._lock:
                self._wires.add(wire)
            threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: Wire) -> None:
        try:
            while not wire.closed:
                request = wire.read_request()
                if request is None:
                    break
                if request.target == self.health and request.method == "GET":
                    self.health_checks.append(request)
                    status = "200 OK" if self.healthy else "503 Unwell"
                    wire.send(response_text("", status, connection="close"))
                    break
                with self._lock:
                    self._used.add(wire)
                    self.requests.append(request)
                    self.seen += request.raw
                self.script(wire, request)
        except OSError:
            pass  # the proxy went away, or the test closed the target
        except BaseException as error:
            self.errors.append(error)
        finally:
            with self._lock:
                self._wires.discard(wire)
            if not wire.closed:
                wire.close()

    def forget(self) -> None:
        """Begin a new test."""
        with self._lock:
            self.script = echo
            self.requests = []
            self.seen = b""
            self._used = set()

    def close(self) -> None:
        """Stop listening, and cut every connection."""
        # A blocked accept() is woken by shutdown, not by close.
        with self._lock:
            wires = list(self._wires)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for wire in wires:
            with contextlib.suppress(OSError):
                wire.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=10)


def seen_by(body: bytes) -> Any:
    """What `echo` told; ``["fields"]`` has the headers by lower-case name, repeated ones joined."""
    seen = json.loads(body)
    fields: dict[str, str] = {}
    for name, value in seen["headers"]:
        key = name.lower()
        fields[key] = f"{fields[key]}, {value}" if key in fields else value
    seen["fields"] = fields
    return seen
