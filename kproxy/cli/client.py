"""Talks to the proxy's admin interface over its Unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kproxy.cli.errors import CommandError
from kproxy.cli.show import Shown
from kproxy.paths import default_socket


class Client:
    """The proxy, to a command."""

    def __init__(self, path: str | None, environ: Mapping[str, str] = os.environ) -> None:
        """@param path: the socket; None: as the environment says."""
        named = path or environ.get("KPROXY_SOCKET")
        self.path = Path(named) if named else default_socket(environ)

    def get(self, path: str) -> Any:
        """What the proxy answers.

        @raise CommandError: it does not.
        """
        response = self._ask("GET", path, None)
        try:
            return json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            raise CommandError("the proxy went away before it had answered") from None

    def run(self, method: str, path: str, values: Mapping[str, Any] | None = None) -> None:
        """Run an operation to its end, and show what it tells. When interrupted, the connection is
        closed, which cancels the operation.

        @raise CommandError: it was not done.
        """
        with Shown(sys.stderr) as shown:
            for event in self._events(self._ask(method, path, values)):
                if event["event"] == "done":
                    return
                if event["event"] == "failed":
                    raise CommandError(event["error"])
                shown.show(event)
        raise CommandError("the proxy went away before it was done")

    def _ask(
        self, method: str, path: str, values: Mapping[str, Any] | None
    ) -> http.client.HTTPResponse:
        connection = _Connection(self.path)
        body = None if values is None else json.dumps(values)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return connection.getresponse()
        except (FileNotFoundError, ConnectionRefusedError):
            raise CommandError(
                f"no kproxy listens on {self.path}; is it running, and is this its socket?"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or error
            raise CommandError(f"can't talk to kproxy on {self.path}: {reason}") from None

    def _events(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        try:
            for line in response:
                event = json.loads(line)
                yield event if "event" in event else {"event": "failed", **event}
        except (OSError, http.client.HTTPException, ValueError):
            return


def of_service(name: str, operation: str = "") -> str:
    """The path of a service, or of an operation on it."""
    return f"/services/{quote(name, safe='')}" + (f"/{operation}" if operation else "")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("kproxy")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))
