"""Listening and connecting, on whichever reactor runs.

The engine's protocols have asyncio's shape. Where the reactor is an asyncio one, uvloop's or the
standard library's transports carry them directly (`LoopNetwork`). On any other reactor, and over
Twisted's in-memory transports, `Carrier` translates (`ReactorNetwork`). TLS is the same on all of
them: `kproxy.tls.layer`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import interfaces
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory as TwistedFactory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kproxy.sockets import BACKLOG, RETRY

ProtocolFactory = Callable[[], Any]
_log = Logger()


class Listener(Protocol):
    """A listening socket that gives its connections to protocols."""

    def pause(self) -> None:
        """Leave new connections in the backlog."""

    def resume(self) -> None:
        """Accept again after `pause`."""

    def close(self) -> None:
        """Stop for good, and close the socket."""


ROOM = 256_000
"""Bytes that are read at a time, at most: as many as uvloop reads by itself."""


class Network(Protocol):
    """What kproxy needs of an event loop to speak to the world.

    @ivar room: memory that protocols may have their transports read into (asyncio's
        `BufferedProtocol`). One is enough for all connections: what is read has to be done with before
        the next one reads. None: the transports do no such thing.
    """

    room: memoryview | None

    def listen(self, sock: socket.socket, factory: ProtocolFactory) -> Listener:
        """Accept connections of a socket that is bound and listening, which is taken over."""

    def connect(
        self, host: str, port: int, factory: ProtocolFactory, failed: Callable[[Exception], object]
    ) -> Callable[[], object]:
        """Connect to a name (looked up now, without blocking) or an address.

        @param factory: makes the protocol once the connection stands.
        @param failed: called with the reason, an `OSError` or `TimeoutError`, if it can't be had.
        @return: gives up when called; `failed` is not called then.
        """


class LoopNetwork:
    """asyncio's own transports, uvloop's above all."""

    CONNECT_TIMEOUT = 5.0

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.room: memoryview | None = memoryview(bytearray(ROOM))
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, sock: socket.socket, factory: ProtocolFactory) -> LoopListener:
        listener = LoopListener(self._loop, sock, factory)
        listener.resume()
        return listener

    def connect(
        self, host: str, port: int, factory: ProtocolFactory, failed: Callable[[Exception], object]
    ) -> Callable[[], object]:
        given_up = timed_out = False

        async def connect() -> None:
            try:
                await self._loop.create_connection(factory, host, port)
            except asyncio.CancelledError:
                if timed_out and not given_up:
                    failed(TimeoutError(f"no connection within {self.CONNECT_TIMEOUT:g} s"))
            except Exception as error:  # OSError, UnicodeError, ValueError: names can be anything
                failed(error)
            finally:
                timer.cancel()

        def time_out() -> None:
            nonlocal timed_out
            timed_out = True
            task.cancel()

        def give_up() -> None:
            nonlocal given_up
            given_up = True
            task.cancel()

        task = self._loop.create_task(connect())
        timer = self._loop.call_later(self.CONNECT_TIMEOUT, time_out)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return give_up


class LoopListener:
    """Pausing closes the loop's own copy of the socket; the kernel goes on filling the backlog."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, factory: ProtocolFactory
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._factory = factory
        self._wanted = False
        self._task: asyncio.Task[None] | None = None
        self._server: asyncio.AbstractServer | None = None

    def resume(self) -> None:
        self._wanted = True
        self._settle()

    def pause(self) -> None:
        self._wanted = False
        self._settle()

    def _settle(self) -> None:
        if self._wanted and self._server is None and self._task is None:
            self._task = self._loop.create_task(self._serve())
        elif not self._wanted and self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self) -> None:
        try:
            if self._wanted:
                copy = self._sock.dup()
                try:
                    self._server = await self._loop.create_server(
                        self._factory, sock=copy, backlog=BACKLOG
                    )
                except OSError:
                    copy.close()
                    raise
        except OSError as error:
            _log.error("no connections are accepted for {s} s: {error}", s=RETRY, error=error)
            self._loop.call_later(RETRY, self._settle)
            return
        finally:
            self._task = None
        self._settle()

    def close(self) -> None:
        self.pause()
        self._sock.close()


@implementer(interfaces.IPushProducer, interfaces.IHalfCloseableProtocol)
class Carrier(TwistedProtocol):
    """Carries a protocol of asyncio's shape over a transport of Twisted's shape.

    To the protocol it is the transport; to the transport it is protocol and producer.
    """

    transport: Any

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._closing = False

    # Twisted's protocol and producer.

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        self._protocol.connection_made(self)

    def dataReceived(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def readConnectionLost(self) -> None:
        if not self._protocol.eof_received():
            self.close()

    def writeConnectionLost(self) -> None:
        """Both sides said all they had, or the other can't be written to any more."""

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self._closing = True
        error = None if reason.check(ConnectionDone) else reason.value
        self._protocol.connection_lost(error)

    def pauseProducing(self) -> None:
        self._protocol.pause_writing()

    def resumeProducing(self) -> None:
        self._protocol.resume_writing()

    def stopProducing(self) -> None:
        """`connectionLost` says the same."""

    # asyncio's transport.

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def writelines(self, parts: Any) -> None:
        self.transport.writeSequence(list(parts))

    def can_write_eof(self) -> bool:
        return interfaces.IHalfCloseableDescriptor.providedBy(self.transport) or hasattr(
            self.transport, "loseWriteConnection"
        )

    def write_eof(self) -> None:
        if self.can_write_eof():
            self.transport.loseWriteConnection()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        self._closing = True
        self.transport.abortConnection()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        if not self._closing:
            self.transport.resumeProducing()

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_write_buffer_size(self) -> int:
        buffered = getattr(self.transport, "_tempDataLen", 0)
        return buffered + len(getattr(self.transport, "dataBuffer", b""))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name not in ("peername", "sockname"):
            return default
        address = self.transport.getPeer() if name == "peername" else self.transport.getHost()
        if isinstance(address, IPv4Address):
            return (address.host, address.port)
        if isinstance(address, IPv6Address):
            return (address.host, address.port, address.flowInfo, address.scopeID)
        return getattr(address, "name", "") or ""


class _CarrierFactory(TwistedFactory):
    noisy = False

    def __init__(self, factory: ProtocolFactory) -> None:
        self._factory = factory

    def buildProtocol(self, addr: Any) -> Carrier:
        return Carrier(self._factory())


class ReactorNetwork:
    """Any reactor's own transports."""

    CONNECT_TIMEOUT = 5.0

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.room: memoryview | None = None

    def listen(self, sock: socket.socket, factory: ProtocolFactory) -> ReactorListener:
        # adoptStreamPort works on a copy of the socket.
        port = self._reactor.adoptStreamPort(sock.fileno(), sock.family, _CarrierFactory(factory))
        sock.close()
        return ReactorListener(port)

    def connect(
        self, host: str, port: int, factory: ProtocolFactory, failed: Callable[[Exception], object]
    ) -> Callable[[], object]:
        from twisted.internet.endpoints import HostnameEndpoint  # with all that it imports

        endpoint = HostnameEndpoint(self._reactor, host, port, timeout=self.CONNECT_TIMEOUT)
        connecting: Deferred[Any] = endpoint.connect(_CarrierFactory(factory))
        given_up = False

        def cannot(failure: Failure) -> None:
            if not given_up:
                failed(OSError(failure.getErrorMessage()))

        def give_up() -> None:
            nonlocal given_up
            given_up = True
            connecting.cancel()

        connecting.addErrback(cannot)
        return give_up


class ReactorListener:
    def __init__(self, port: Any) -> None:
        self._port = port

    def pause(self) -> None:
        self._port.stopReading()

    def resume(self) -> None:
        self._port.startReading()

    def close(self) -> None:
        self._port.stopListening()


def network_of(reactor: Any) -> Network:
    """The quickest network that a reactor allows."""
    loop = getattr(reactor, "_asyncioEventloop", None)
    return ReactorNetwork(reactor) if loop is None else LoopNetwork(loop)
