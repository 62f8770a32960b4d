"""A resource, behind a stock Site or kproxy's own engine, and a client that sees every byte.

Nothing here opens a port or waits: transports are in memory, and time passes when a test says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import alsoProvides

from kproxy.http.site import Site
from kproxy.network import Carrier
from kproxy.wrappers.refusal import Refusal

CLIENT = IPv4Address("TCP", "192.0.2.7", 4711)
HERE = IPv4Address("TCP", "198.51.100.1", 8080)
GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"


def get(target: str = "/", *lines: str, method: str = "GET", host: str = "example.com") -> bytes:
    """A request without a body, with more header lines if need be."""
    heads = (f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", "")
    return "\r\n".join(heads).encode("latin-1")


def post(body: bytes, target: str = "/", *lines: str) -> bytes:
    """A request with a body and its Content-Length."""
    return get(target, f"Content-Length: {len(body)}", *lines, method="POST") + body


def chunked(*pieces: bytes, trailer: bytes = b"") -> bytes:
    """A request whose body comes in chunks."""
    head = get("/", "Transfer-Encoding: chunked", method="POST")
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + chunks + b"0\r\n" + trailer + b"\r\n"


@dataclass
class Response:
    """What a client read of one response."""

    version: bytes
    code: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    complete: bool = False
    """Whether its end is there, as its own framing says."""

    def all(self, name: bytes) -> list[bytes]:
        """The values of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: bytes) -> bytes | None:
        """The value of a header that may be there once; None: it is not there."""
        values = self.all(name)
        assert len(values) < 2, f"{name!r} is there {len(values)} times"
        return values[0] if values else None


def parse_response(data: bytes, method: bytes, closed: bool) -> tuple[Response, bytes]:
    """Read the first response of a connection.

    @param closed: whether no more will come, which ends a body without a length.
    @return: the response, and what follows it.
    """
    head, found, rest = data.partition(b"\r\n\r\n")
    assert found, f"no response: {data!r}"
    first, *lines = head.split(b"\r\n")
    version, code, reason = first.split(b" ", 2)
    response = Response(version, int(code), reason, _fields(lines))
    length = response.header(b"content-length")
    coding = response.header(b"transfer-encoding")
    assert length is None or coding is None, "two framings"
    if method == b"HEAD" or response.code in (204, 304) or response.code < 200:
        assert coding is None, "chunks of nothing"
        response.complete = True
        return response, rest
    if coding is not None:
        assert coding == b"chunked"
        return response, _read_chunks(response, rest)
    if length is not None:
        size = int(length)
        response.body, rest = rest[:size], rest[size:]
        response.complete = len(response.body) == size
        return response, rest
    response.body = rest
    response.complete = closed
    return response, b""


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    pairs = [line.partition(b": ") for line in lines]
    assert all(colon for _, colon, _ in pairs), f"not headers: {lines}"
    return [(name, value) for name, _, value in pairs]


def _read_chunks(response: Response, data: bytes) -> bytes:
    while b"\r\n" in data:
        line, _, rest = data.partition(b"\r\n")
        size = int(line, 16)
        if size == 0:
            trailers, found, after = (b"\r\n" + rest).partition(b"\r\n\r\n")
            if found:
                response.trailers = _fields([t for t in trailers.split(b"\r\n") if t])
                response.complete = True
                return after
            return b""
        response.body += rest[:size]
        if len(rest) < size + 2:
            return b""
        assert rest[size : size + 2] == b"\r\n"
        data = rest[size + 2 :]
    return b""


class _Transport(StringTransport):
    """In memory, and able to do what TCP is."""

    aborted = False
    slow = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.slow and self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def loseWriteConnection(self) -> None:
        self.disconnecting = True


class Client:
    """One connection to a site, seen from its other end."""

    def __init__(self, site: _Served, protocol: Any, transport: _Transport) -> None:
        self.site = site
        self.protocol = protocol
        self.transport = transport
        self.closed = False
        self._methods: list[bytes] = []
        protocol.makeConnection(transport)

    def send(self, data: bytes) -> None:
        """Send what ends a request, or a part of one. Whole requests begin with their method."""
        method = data.split(b" ", 1)[0]
        if method in (b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"DELETE"):
            self._methods.append(method)
        self.protocol.dataReceived(data)
        self.site.settle()

    def leave(self) -> None:
        """Close the connection, as a visitor who has seen enough."""
        self.closed = True
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.site.settle()

    def hurry(self, fast: bool) -> None:
        """Take what comes, or don't: the transport tells its producer as a slow client makes it."""
        self.transport.slow = not fast
        if fast:
            self.transport.producer.resumeProducing()
        else:
            self.transport.producer.pauseProducing()
        self.site.settle()

    @property
    def closing(self) -> bool:
        """Whether the server has closed the connection, or at least its own side of it."""
        return bool(self.transport.disconnecting or self.closed)

    @property
    def cut(self) -> bool:
        """Whether the server has cut the connection."""
        return self.transport.aborted

    @property
    def received(self) -> bytes:
        return bytes(self.transport.value())

    def responses(self) -> list[Response]:
        """Everything that has come, in order, interim responses included."""
        found: list[Response] = []
        data, methods = self.received, list(self._methods)
        while data:
            response, data = parse_response(data, methods[0] if methods else b"", self.closing)
            found.append(response)
            if response.code >= 200 and methods:
                methods.pop(0)
        return found

    def response(self) -> Response:
        """The one response that has come."""
        (response,) = self.responses()
        return response


class _Served:
    """A resource behind an HTTP server.

    @ivar clock: the server's time.
    """

    native: bool
    """Whether it is kproxy's own engine."""

    def __init__(self, resource: IResource, clock: Clock, secure: bool = False) -> None:
        self.clock = clock
        self._resource = resource
        self._secure = secure

    def connect(self) -> Client:
        transport = _Transport(hostAddress=HERE, peerAddress=CLIENT)
        return Client(self, self.protocol(transport), transport)

    def protocol(self, transport: StringTransport) -> Any:
        raise NotImplementedError

    def settle(self) -> None:
        """Let everything happen that is due now."""
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def ask(self, request: bytes = GET) -> Response:
        """Send one request on a connection of its own, and read the whole response to it."""
        client = self.connect()
        client.send(request)
        response = client.response()
        assert response.complete, f"half a response: {client.received!r}"
        return response


class StockSite(_Served):
    """`twisted.web.server.Site`."""

    native = False

    def protocol(self, transport: StringTransport) -> Any:
        if self._secure:
            alsoProvides(transport, ISSLTransport)
        site = server.Site(self._resource, reactor=self.clock)
        return site.buildProtocol(CLIENT)


class KproxySite(_Served):
    """kproxy's own engine."""

    native = True

    def protocol(self, transport: StringTransport) -> Any:
        site = Site(self._resource, Refusal(), self.clock)
        return Carrier(site.factory(self._secure)())


SITES = (StockSite, KproxySite)
Serve = Callable[..., _Served]


class Threads:
    """In place of a pool of threads: work is done when the test says so, or at once."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.jobs: list[tuple[Callable[[], Any], Callable[[], None]]] = []

    def __call__(self, work: Callable[[], Any], done: Callable[[], None]) -> None:
        self.jobs.append((work, done))
        if self.at_once and len(self.jobs) == 1:
            self.run()

    def run(self) -> None:
        """Do all the work that waits, and what it leads to."""
        while self.jobs:
            work, done = self.jobs[0]
            work()
            self.jobs.pop(0)
            done()


class Echo(Resource):
    """Tells, as JSON, what arrived; what is not JSON's is escaped as in a Python literal.

    @ivar requests: the requests themselves.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render(self, request: Any) -> bytes:
        self.requests.append(request)
        headers = {
            name.decode().lower(): [value.decode("latin-1") for value in values]
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        told = {
            "method": request.method.decode(),
            "uri": request.uri.decode("latin-1"),
            "path": request.path.decode("latin-1"),
            "headers": headers,
            "body": request.content.read().decode("latin-1"),
        }
        request.setHeader(b"content-type", b"application/json")
        return json.dumps(told).encode()


def echoed(response: Response) -> Any:
    """What `Echo` told, a request that reached it."""
    assert response.code == 200, response
    return json.loads(response.body)


class Held(Resource):
    """Answers when, and as, the test says.

    @ivar request: the last one that came.
    """

    isLeaf = True
    streams = True

    def __init__(self) -> None:
        super().__init__()
        self.rendered = 0
        self.request: Any = None

    def render(self, request: Any) -> int:
        self.rendered += 1
        self.request = request
        return NOT_DONE_YET


class Says(Resource):
    """Answers with a body, in as many writes as there are pieces."""

    isLeaf = True

    def __init__(self, *pieces: bytes, code: int = 200, **headers: bytes) -> None:
        super().__init__()
        self.pieces = pieces
        self.code = code
        self.headers = headers

    def render(self, request: Any) -> Any:
        request.setResponseCode(self.code)
        for name, value in self.headers.items():
            request.setHeader(name.replace("_", "-").encode(), value)
        if len(self.pieces) == 1:
            return self.pieces[0]
        for piece in self.pieces:
            request.write(piece)
        request.finish()
        return NOT_DONE_YET


class Producer:
    """A push producer that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")
