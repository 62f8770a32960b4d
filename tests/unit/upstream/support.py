"""A proxy between clients and targets that exist in memory only."""

from __future__ import annotations

from asyncio import BufferedProtocol
from collections.abc import Callable
from socket import socket
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from kproxy.config.model import Target
from kproxy.http.heads import HeadParser
from kproxy.network import ROOM, Carrier
from kproxy.upstream.balancer import Balancer
from kproxy.upstream.pool import TargetPool
from kproxy.upstream.proxy import ReverseProxy
from kproxy.wrappers import request_buffer, response_buffer
from tests.unit.http.memory import PROXY, Engine, Message, Wire, read_message


class Attempt:
    """One attempt to connect.

    @ivar wire: the connection, once it stands; the test is the target at its other end.
    """

    def __init__(self, network: MemoryNetwork, address: str, factory: Any, failed: Any) -> None:
        self.address = address
        self.wire: Wire | None = None
        self.given_up = False
        self._network = network
        self._factory = factory
        self._failed = failed

    def give_up(self) -> None:
        self.given_up = True

    def succeed(self) -> None:
        """The target accepts, even if nobody waits for it any more, as can happen with sockets."""
        peer = IPv4Address("TCP", "198.51.100.1", 3000)
        carrier = Carrier if self._network.room is None else Lender
        self.wire = Wire(self._network.clock, PROXY, peer).attach(self._factory(), carrier)

    def fail(self, reason: str = "connection refused") -> None:
        if not self.given_up:
            self._failed(OSError(reason))

    def settle(self) -> None:
        if self.given_up or self.address in self._network.silent:
            return
        if self.address in self._network.refusing:
            self.fail()
        else:
            self.succeed()


class Lender(Carrier):
    """Reads as asyncio's transports do: where a protocol says, and where others read afterwards.

    @ivar lent: how often.
    @ivar kernel: a socket with what has come and was not read yet, for who reads past the transport.
    """

    lent = 0
    kernel: socket | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket" and self.kernel is not None:
            return self.kernel
        return super().get_extra_info(name, default)

    def dataReceived(self, data: bytes) -> None:
        while data and isinstance(self._protocol, BufferedProtocol):
            self.lent += 1
            room = self._protocol.get_buffer(-1)
            piece, data = data[: len(room)], data[len(room) :]
            room[: len(piece)] = piece
            self._protocol.buffer_updated(len(piece))
            room[: len(piece)] = b"!" * len(piece)
        if data:
            super().dataReceived(data)


class MemoryNetwork:
    """A `kproxy.network.Network` whose connections end in the hands of a test.

    @ivar room: see `kproxy.network.Network`; None: connections read as Twisted's do.
    @ivar refusing: addresses that refuse.
    @ivar silent: addresses that never answer.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.room: memoryview | None = memoryview(bytearray(ROOM))
        self.attempts: list[Attempt] = []
        self.refusing: set[str] = set()
        self.silent: set[str] = set()

    def connect(self, host: str, port: int, factory: Any, failed: Any) -> Callable[[], object]:
        attempt = Attempt(self, f"{host}:{port}", factory, failed)
        self.attempts.append(attempt)
        self.clock.callLater(0, attempt.settle)
        return attempt.give_up

    def listen(self, sock: Any, factory: Any) -> Any:
        raise NotImplementedError

    @property
    def addresses(self) -> list[str]:
        """What was connected to, in order."""
        return [attempt.address for attempt in self.attempts]

    @property
    def wires(self) -> list[Wire]:
        """The connections that came to be, in order."""
        return [attempt.wire for attempt in self.attempts if attempt.wire is not None]


def in_thread_of(clock: Clock) -> Callable[[Callable[[], Any], Callable[[], None]], None]:
    """Work is done at once, and known to be done at the clock's next turn."""

    def in_thread(work: Callable[[], Any], done: Callable[[], None]) -> None:
        work()
        clock.callLater(0, done)

    return in_thread


class Proxy(Engine):
    """An engine whose resource is the leaf that proxies, bare or behind the buffers."""

    def __init__(
        self,
        *targets: Target,
        response_timeout: float = 30.0,
        buffer_requests: bool = False,
        buffer_responses: bool = False,
        buffer_memory: int = 1000,
        max_response_body: int = 0,
        lends: bool = True,
        around: Callable[[Any], Any] = lambda resource: resource,
    ) -> None:
        clock = Clock()
        self.network = MemoryNetwork(clock)
        if not lends:
            self.network.room = None
        heads = HeadParser()
        self.pools = [
            TargetPool(target, self.network, clock, heads)
            for target in targets or (Target("app", 1),)
        ]
        self.balancer = Balancer(self.pools)
        self.leaf = ReverseProxy(self.balancer, clock, response_timeout)
        resource: Any = self.leaf
        in_thread = in_thread_of(clock)
        if buffer_responses:
            options = response_buffer.Options(in_thread, buffer_memory, max_response_body)
            resource = response_buffer.ResponseBuffer(resource, options)
        if buffer_requests:
            resource = request_buffer.RequestBuffer(
                resource, request_buffer.Options(in_thread, memory=buffer_memory)
            )
        super().__init__(around(resource), clock=clock)

    @property
    def target(self) -> Wire:
        """The connection that was made last, seen from the target."""
        return self.network.wires[-1]

    @property
    def idle(self) -> int:
        """Connections that wait for the next request."""
        return sum(len(pool._idle) for pool in self.pools)

    @property
    def active(self) -> int:
        """Requests that targets have been given."""
        return sum(len(pool.active) for pool in self.pools)


def answer(body: bytes = b"hello", *lines: bytes, code: int = 200) -> bytes:
    """A response with a Content-Length and these header lines."""
    head = [b"HTTP/1.1 %d Fine" % code, b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def one_message(wire: Wire, *, bodiless: bool = False) -> Message:
    """All that has arrived, which is one message."""
    message, rest = read_message(wire.take(), bodiless=bodiless)
    assert rest == b""
    return message
