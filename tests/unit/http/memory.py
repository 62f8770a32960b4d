"""Connections that exist in memory only: everything that tests of the engine stand on.

A `Wire` is the transport of the connection under test, and at the same time the hands of the test
at its other end. Nothing sleeps and nothing listens: what a real transport does later, a wire does
on the next turn of the clock, and each of its methods for tests takes that turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.http.site import Limits, Site
from kproxy.network import Carrier
from kproxy.sockets import HIGH_WATER
from kproxy.wrappers.base import as_leaf
from kproxy.wrappers.refusal import Refusal

CLIENT = IPv4Address("TCP", "192.0.2.7", 54321)
PROXY = IPv4Address("TCP", "192.0.2.1", 80)


class Wire(StringTransport):
    """One connection.

    @ivar aborted: it was cut, not closed.
    @ivar half_closed: the side under test has said all it will say.
    @ivar lost: why the connection is gone; None while it stands.
    """

    def __init__(self, clock: Clock, host: Any = PROXY, peer: Any = CLIENT) -> None:
        super().__init__(host, peer, lenient=True)
        self.clock = clock
        self.protocol: Any = None
        self.dataBuffer = b""
        self.aborted = False
        self.half_closed = False
        self.lost: Exception | None = None
        self._incoming: list[bytes | None] = []
        self._slow = False
        self._asked_to_pause = False

    def attach(self, protocol: Any, carrier: type[Carrier] = Carrier) -> Wire:
        """Begin, with a protocol of asyncio's shape."""
        self.protocol = carrier(protocol)
        self.protocol.makeConnection(self)
        self.turn()
        return self

    # What the side under test does.

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        if self.disconnecting or self.half_closed or self.lost is not None:
            return
        self.dataBuffer += data
        if not self._slow:
            self._flush()
        elif len(self.dataBuffer) > HIGH_WATER and not self._asked_to_pause and self.producer:
            self._asked_to_pause = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def _flush(self, most: int | None = None) -> None:
        most = len(self.dataBuffer) if most is None else most
        sent, self.dataBuffer = self.dataBuffer[:most], self.dataBuffer[most:]
        self.io.write(sent)
        if self.dataBuffer:
            return
        if self._asked_to_pause:
            self._asked_to_pause = False
            if self.producer is not None:
                self.producer.resumeProducing()
        if self.disconnecting:
            self.clock.callLater(0, self._lose, ConnectionDone())

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            if not self.dataBuffer:
                self.clock.callLater(0, self._lose, ConnectionDone())

    def abortConnection(self) -> None:
        if self.lost is None and not self.aborted:
            self.aborted = self.disconnecting = True
            self.dataBuffer = b""
            self.clock.callLater(0, self._lose, ConnectionAborted())

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self.clock.callLater(0, self._deliver)

    def _lose(self, reason: Exception) -> None:
        if self.lost is None:
            self.lost = reason
            self.disconnecting = True
            self.protocol.connectionLost(Failure(reason))

    def _deliver(self) -> None:
        while self._incoming and self.reading:
            data = self._incoming.pop(0)
            if data is None:
                self.protocol.readConnectionLost()
            else:
                self.protocol.dataReceived(data)

    # What the test does at the other end.

    def turn(self) -> None:
        """Let everything happen that is due now."""
        self.clock.advance(0)

    def send(self, *pieces: bytes) -> None:
        """Send pieces, each of which arrives by itself."""
        for data in pieces:
            self._incoming.append(data)
            self._deliver()
            self.turn()

    def send_bytewise(self, data: bytes) -> None:
        """Send every byte by itself."""
        self.send(*[data[i : i + 1] for i in range(len(data))])

    def send_eof(self) -> None:
        """Say that nothing more will be sent; reading goes on."""
        self._incoming.append(None)
        self._deliver()
        self.turn()

    def reset(self) -> None:
        """Break the connection."""
        self._lose(ConnectionLost())
        self.turn()

    def stop_reading(self) -> None:
        """Leave what comes in the buffers of the side under test."""
        self._slow = True

    def read_some(self, amount: int) -> None:
        """Take some of what waits, without going on to read."""
        self._flush(amount)
        self.turn()

    def read_on(self) -> None:
        """Take all that waits, and go on reading."""
        self._slow = False
        self._flush()
        self.turn()

    @property
    def reading(self) -> bool:
        """Whether the side under test takes what is sent."""
        return self.producerState == "producing" and self.lost is None and not self.disconnecting

    @property
    def unread(self) -> int:
        """Bytes that were sent and have not been taken."""
        return sum(len(data) for data in self._incoming if data)

    @property
    def closed(self) -> bool:
        """The connection ended in an orderly way."""
        return isinstance(self.lost, ConnectionDone)

    @property
    def received(self) -> bytes:
        """All that has arrived at the test's end."""
        return self.value()

    def take(self) -> bytes:
        """What has arrived since the last time."""
        data = self.value()
        self.clear()
        return data


class Message(NamedTuple):
    """An HTTP message, as a strict reader that knows nothing of kproxy's code has it."""

    start: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    trailers: list[tuple[bytes, bytes]]

    def get(self, name: bytes) -> list[bytes]:
        """The values of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def status(self) -> int:
        version, code, _ = self.start.split(b" ", 2)
        assert version == b"HTTP/1.1"
        return int(code)


class Incomplete(Exception):
    """There is not a whole message."""


def read_message(data: bytes, *, bodiless: bool = False) -> tuple[Message, bytes]:
    """One message, and what follows it. A response without framing takes everything.

    @param bodiless: it answers HEAD.
    """
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        raise Incomplete(data)
    start, *lines = head.split(b"\r\n")
    headers = [_pair(line) for line in lines]
    message = Message(start, headers, b"", [])
    is_response = start.startswith(b"HTTP/")
    if bodiless or (is_response and (message.status in (204, 304) or message.status < 200)):
        return message, rest
    lengths = message.get(b"content-length")
    codings = message.get(b"transfer-encoding")
    assert len(lengths) + len(codings) <= 1
    if codings:
        assert codings == [b"chunked"]
        body, trailers, rest = _read_chunked(rest)
        return message._replace(body=body, trailers=trailers), rest
    if lengths:
        length = int(lengths[0])
        if len(rest) < length:
            raise Incomplete(data)
        return message._replace(body=rest[:length]), rest[length:]
    return (message._replace(body=rest), b"") if is_response else (message, rest)


def _pair(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b": ")
    assert colon
    assert name.strip() == name
    return name, value


def _read_chunked(rest: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    body = b""
    while True:
        size, separator, rest = rest.partition(b"\r\n")
        if not separator:
            raise Incomplete
        length = int(size, 16)
        if length == 0:
            break
        if len(rest) < length + 2:
            raise Incomplete
        assert rest[length : length + 2] == b"\r\n"
        body, rest = body + rest[:length], rest[length + 2 :]
    trailers = []
    while True:
        line, separator, rest = rest.partition(b"\r\n")
        if not separator:
            raise Incomplete
        if not line:
            return body, trailers, rest
        trailers.append(_pair(line))


def read_messages(data: bytes) -> list[Message]:
    """All the messages, of which none is incomplete."""
    messages = []
    while data:
        message, data = read_message(data)
        messages.append(message)
    return messages


class Engine:
    """A `Site` around a resource, and clients for it."""

    def __init__(
        self, resource: Any, limits: Limits | None = None, clock: Clock | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.site = Site(as_leaf(resource), Refusal(), self.clock, limits)

    def client(self, *, secure: bool = False) -> Wire:
        """A new connection."""
        return Wire(self.clock).attach(self.site.factory(secure)())

    def ask(self, data: bytes) -> Message:
        """What a client gets that sends one request, on a connection of its own."""
        client = self.client()
        client.send(data)
        (message,) = read_messages(client.received)
        return message


class Streaming(Resource):
    """A leaf that takes requests as soon as their heads are read."""

    isLeaf = True
    streams = True


class Echo(Streaming):
    """Says at once what it was asked, and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def render(self, request: Any) -> bytes:
        self.seen.append(request)
        return b"%b %b" % (request.method, request.uri)


class Later(Streaming):
    """Keeps each request, for the test to answer it.

    @ivar ends: how those ended that have: None, or why they were not answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self.ends: list[Any] = []

    def render(self, request: Any) -> int:
        self.requests.append(request)
        request.on_finish(lambda request, failure: self.ends.append(failure))
        return NOT_DONE_YET

    def answer(self, index: int, body: bytes) -> None:
        request = self.requests[index]
        request.setHeader(b"content-length", b"%d" % len(body))
        request.write(body)
        request.finish()


class Receiver:
    """Takes a body and remembers what became of it.

    @ivar ended: the trailers, once the body was complete.
    @ivar lost: why it never will be.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended: list[tuple[bytes, bytes]] | None = None
        self.lost: Exception | None = None
        self.on_data: Callable[[bytes], object] = lambda data: None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def body_data(self, data: bytes) -> None:
        assert data
        assert self.ended is None
        assert self.lost is None
        self.pieces.append(data)
        self.on_data(data)

    def body_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        assert self.ended is None
        assert self.lost is None
        self.ended = trailers

    def body_lost(self, reason: Exception) -> None:
        assert self.ended is None
        assert self.lost is None
        self.lost = reason


class Upload(Streaming):
    """Takes the body of each request into a `Receiver`; answers with it, once it is whole."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self.bodies: list[Receiver] = []
        self.ends: list[Any] = []

    def render(self, request: Any) -> int:
        receiver = Receiver()
        self.requests.append(request)
        self.bodies.append(receiver)
        request.on_finish(lambda request, failure: self.ends.append(failure))
        end = receiver.body_end

        def body_end(trailers: list[tuple[bytes, bytes]]) -> None:
            end(trailers)
            request.setHeader(b"content-length", b"%d" % len(receiver.data))
            request.write(receiver.data)
            request.finish()

        receiver.body_end = body_end  # type: ignore[method-assign]
        request.body.start(receiver)
        return NOT_DONE_YET


class Producer:
    """What makes a body, and is told to pause."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


def splits(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every way to cut data into two pieces that are not empty."""
    for index in range(1, len(data)):
        yield data[:index], data[index:]


def get(path: bytes = b"/", *lines: bytes, method: bytes = b"GET") -> bytes:
    """A request without a body, with Host and these header lines."""
    fields = b"".join(line + b"\r\n" for line in (b"Host: example.com", *lines))
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, fields)


def post(body: bytes, *lines: bytes, path: bytes = b"/", method: bytes = b"POST") -> bytes:
    """A request with a body and its Content-Length."""
    return get(path, *lines, b"Content-Length: %d" % len(body), method=method) + body
