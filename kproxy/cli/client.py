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

GONE = "the proxy went away before it was done; when it is back, kproxy list shows what it serves"


class Client:
    """The proxy, to a command."""

    def __init__(
        self,
        path: str | None,
        environ: Mapping[str, str] = os.environ,
        timeout: float | None = None,
    ) -> None:
        """@param path: the socket; None: as the environment says.
        @param timeout: seconds that the proxy may take to answer; None: as long as it needs."""
        named = path or environ.get("KPROXY_SOCKET")
        self.path = Path(named) if named else default_socket(environ)
        self._timeout = timeout

    def ask(self, method: str, path: str, values: Mapping[str, Any] | None = None) -> Any:
        """What the proxy answers.

        @raise CommandError: it does not, or that something is wrong with the question.
        """
        response = self._ask(method, path, values)
        try:
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            raise CommandError("the proxy went away before it had answered") from None
        if response.status != 200:
            raise CommandError(answer["error"])
        return answer

    def run(
        self,
        method: str,
        path: str,
        values: Mapping[str, Any] | None = None,
        *,
        goes_away: bool = False,
    ) -> None:
        """Run an operation to its end, and show what it tells. When interrupted, the connection is
        closed, which cancels the operation.

        @param goes_away: the program that does it may be replaced on the way: that ends it, too.
        @raise CommandError: it was not done.
        """
        try:
            with Shown(sys.stderr) as shown:
                for event in self._events(self._ask(method, path, values)):
                    if event["event"] == "done":
                        return
                    if event["event"] == "failed":
                        raise CommandError(event["error"])
                    shown.show(event)
        except KeyboardInterrupt:
            print("Interrupted: what was not done yet is cancelled.", file=sys.stderr)
            raise
        if not goes_away:
            raise CommandError(GONE)

    def _ask(
        self, method: str, path: str, values: Mapping[str, Any] | None
    ) -> http.client.HTTPResponse:
        connection = _Connection(self.path, self._timeout)
        body = None if values is None else json.dumps(values)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return connection.getresponse()
        except (FileNotFoundError, ConnectionRefusedError):
            raise CommandError(
                f"no kproxy listens on {self.path}; is it running, and is this its socket?"
            ) from None
        except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
            raise CommandError(GONE) from None
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
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("kproxy", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
