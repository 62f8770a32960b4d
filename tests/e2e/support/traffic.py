"""Traffic in which every request is known by name, so that none can get lost, or be sent twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from itertools import count

from tests.e2e.support.proxy import Load, Proxy
from tests.e2e.support.targets import Script, Target
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Request, Wire, chunk, request_text, response_text

PIECES = 20
"""Of a long download, which takes a tenth of a second for every four of them."""


def app(name: str) -> Script:
    """An application that says which request it has got, and who it is."""

    def script(wire: Wire, request: Request) -> None:
        digest = sha256(wire.read_body(request)).hexdigest()
        said = f"{name} {request.get('x-id')} {request.get('host')} {digest}"
        if request.target.endswith("/long"):
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(PIECES):
                wire.send(chunk(said.encode() + b"\n"))
                time.sleep(0.025)
            wire.send(chunk(b""))
        else:
            wire.send(response_text(said))

    return script


class Traffic:
    """Clients that keep their connections, and some that download for long.

    Each request has an id; each answer has to be whole, and the one to this very request.

    @ivar answers: how often each application answered.
    @ivar by_cookie: the same for each value of the cookie that was sent.
    """

    def __init__(
        self,
        proxy: Proxy,
        *,
        hosts: Iterable[str] = ("app.example",),
        path: str = "/load",
        cookies: Iterable[str] = ("",),
        downloads: int = 2,
    ) -> None:
        self.answers: Counter[str] = Counter()
        self.by_cookie: dict[str, Counter[str]] = {cookie: Counter() for cookie in cookies}
        self._proxy = proxy
        self._path = path
        self._sent: list[str] = []
        self._lock = threading.Lock()
        self._numbers = count()
        ways = [(host, cookie) for host in hosts for cookie in self.by_cookie]
        clients = [self._client(*ways[number % len(ways)]) for number in range(max(4, len(ways)))]
        clients += [self._downloader(*ways[number % len(ways)]) for number in range(downloads)]
        self._loads = [Load(client, clients=1) for client in clients]

    def _client(self, host: str, cookie: str) -> Callable[[Callable[[], bool]], None]:
        def ask(stop: Callable[[], bool]) -> None:
            with self._proxy.connect() as wire:
                while not stop():
                    number = next(self._numbers)
                    body = b"x" * (number % 3 * 5000)
                    method = "POST" if body else "GET"
                    self._ask(wire, number, method, self._path, host, cookie, body)

        return ask

    def _downloader(self, host: str, cookie: str) -> Callable[[Callable[[], bool]], None]:
        def ask(stop: Callable[[], bool]) -> None:
            with self._proxy.connect() as wire:
                while not stop():
                    path = f"{self._path}/long"
                    self._ask(wire, next(self._numbers), "GET", path, host, cookie, b"")

        return ask

    def _ask(
        self, wire: Wire, number: int, method: str, path: str, host: str, cookie: str, body: bytes
    ) -> None:
        headers: Mapping[str, str] = {"X-Id": str(number)}
        if cookie:
            headers = {**headers, "Cookie": cookie}
        wire.send(request_text(method, path, host, dict(headers), body))
        response = wire.read_response()
        assert response.status == 200, response
        assert not response.has("connection")
        lines = response.text.splitlines()
        assert len(lines) == (PIECES if path.endswith("/long") else 1)
        assert len(set(lines)) == 1
        name, *rest = lines[0].split()
        assert rest == [str(number), host, sha256(body).hexdigest()]
        with self._lock:
            self._sent.append(str(number))
            self.answers[name] += 1
            self.by_cookie[cookie][name] += 1

    def __enter__(self) -> Traffic:
        for load in self._loads:
            load.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for load in self._loads:
            load.__exit__(*error)
        failures = [failure for load in self._loads for failure in load.failures]
        assert not failures, failures

    def goes_to(self, name: str, *, more: int = 20) -> None:
        """Wait until an application has answered some more requests."""
        before = self.answers[name]
        wait_until(f"{name} serves", lambda: self.answers[name] >= before + more or self.failed())
        assert not self.failed()

    def failed(self) -> list[BaseException]:
        return [failure for load in self._loads for failure in load.failures]

    def was_sent_once(self, *targets: Target) -> None:
        """Every request reached one of the targets, one time; for the time behind the load."""
        reached = Counter(request.get("x-id") for t in targets for request in t.requests)
        assert reached == Counter(self._sent)
