"""Clients that notice everything: each keeps its connection, and asks again once it has its answer.

wrk is faster, but opens another connection when one is lost, and looks at no body. Here whatever is not
the whole right answer is a failure, and so is a connection that ends while an answer is due. One that
ends between two requests is none, nor one whose last answer said ``Connection: close``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from bench import origin
from bench.cases import Case
from bench.metrics import Sample

ANSWER_SECONDS = 10.0
"""How long an answer may take."""
AGAIN_SECONDS = 0.01
"""After which a client tries once more to connect."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without its answer."""

    client_port: int
    """That of the connection; 0: there was none."""
    why: str
    at: float
    """By `time.perf_counter`."""


@dataclass
class Seen:
    """What all clients have seen."""

    seconds: list[float] = field(default_factory=list)
    """How long each answer took."""
    failures: list[Failure] = field(default_factory=list)
    silence: float = 0.0
    """The longest time in which none of them got an answer."""
    reconnected: int = 0
    """How often a connection had ended as it may."""
    _last: float = 0.0

    def answered(self, seconds: float, now: float) -> None:
        self.seconds.append(seconds)
        if self._last:
            self.silence = max(self.silence, now - self._last)
        self._last = now

    def sample(self) -> Sample:
        """In figures."""
        ordered = sorted(self.seconds) or [0.0]
        return {
            "requests": len(self.seconds),
            "failed": len(self.failures),
            "reconnected": self.reconnected,
            "p50_ms": ordered[len(ordered) // 2] * 1e3,
            "p99_ms": ordered[len(ordered) * 99 // 100] * 1e3,
            "most_ms": ordered[-1] * 1e3,
            "silence_ms": self.silence * 1e3,
        }


def head_of(data: bytes) -> tuple[int, dict[str, str], bytes] | None:
    """An answer's status, its fields, and what follows its head; None: that is not whole yet.

    @raise ValueError: it is no head.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    line, *lines = head.decode("latin-1").split("\r\n")
    fields = (each.partition(":") for each in lines)
    return int(line.split()[1]), {name.lower(): value.strip() for name, _, value in fields}, rest


class Client(asyncio.Protocol):
    """One connection; from its beginning to its end there is always a request under way.

    @ivar ended: when the connection has, for whatever reason.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._seen = clients.seen
        self._data = b""
        self._due = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._port = transport.get_extra_info("sockname")[1]
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            found = head_of(self._data)
        except (ValueError, IndexError):
            self._fail(f"no answer, but {self._data[:60]!r}")
            return
        if found is not None:
            self._read(*found)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due:
            self._fail(f"lost after {len(self._data)} bytes of the answer: {exc!r}")
        elif not self._clients.stopping:
            self._seen.reconnected += 1
        self.ended.set_result(None)

    def lose_patience(self) -> None:
        """Give up a request that should have been answered by now."""
        if time.perf_counter() - self._began > ANSWER_SECONDS:
            self._fail(f"no answer for {ANSWER_SECONDS:g} s")

    def _ask(self) -> None:
        self._data = b""
        if self._clients.stopping:
            self._transport.close()
            return
        self._due, self._began = True, time.perf_counter()
        self._transport.write(self._clients.request)

    def _read(self, status: int, fields: dict[str, str], body: bytes) -> None:
        wanted = self._clients.body
        if status != 200 or int(fields.get("content-length", -1)) != len(wanted):
            self._fail(f"status {status}, Content-Length {fields.get('content-length')}")
        elif len(body) > len(wanted) or not wanted.startswith(body):
            self._fail("the body was another one")
        elif len(body) == len(wanted):
            self._due = False
            now = time.perf_counter()
            self._seen.answered(now - self._began, now)
            if fields.get("connection", "").lower() == "close":
                self._transport.close()
            else:
                self._ask()

    def _fail(self, why: str) -> None:
        if self._due:
            self._due = False
            self._seen.failures.append(Failure(self._port, why, time.perf_counter()))
            self._transport.abort()


class Clients:
    """As many clients as a case has connections, in a thread of their own.

    @ivar stopping: whether no more is to be asked.
    """

    def __init__(self, case: Case, port: int) -> None:
        host = case.host(0)
        self.request = f"GET {case.path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("ascii")
        self.body = origin.body(case.path.removeprefix("/"))
        self.seen = Seen()
        self.stopping = False
        self._count = case.connections
        self._port = port
        self._connected: set[Client] = set()

    @contextmanager
    def running(self) -> Iterator[Seen]:
        """They ask for as long as the block lasts; gives what they see, which is all there after it."""
        thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        thread.start()
        try:
            yield self.seen
        finally:
            self.stopping = True
            thread.join()

    async def _all(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = {loop.create_task(self._one()) for _ in range(self._count)}
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=1.0)
            for client in list(self._connected):
                client.lose_patience()

    async def _one(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.stopping:
            try:
                _, client = await loop.create_connection(
                    lambda: Client(self), "127.0.0.1", self._port
                )
            except OSError as error:
                self.seen.failures.append(Failure(0, repr(error), time.perf_counter()))
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                self._connected.add(client)
                await client.ended
                self._connected.discard(client)
