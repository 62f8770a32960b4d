"""One connection to a target, used for one exchange after the other.

The rules that keep it right:

1. A response is read as strictly as a request. What is not one fails the exchange, and the connection
   is never used again.
2. It goes back to the pool only when the request was sent whole and the response ended where its
   framing said, with nothing behind it.
3. An idle connection that says anything at all is closed.
4. A target that sends large pieces is read from without copying them (`_LargeReads`), where the loop
   can do that. For small ones that costs more than it saves, so that they end it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from fcntl import ioctl
from termios import FIONREAD
from typing import TYPE_CHECKING, Any, Protocol

from kproxy.http.chunked import BadChunk, ChunkedDecoder
from kproxy.http.headers import Pairs
from kproxy.http.heads import CHUNKED, MAX_HEAD, UNTIL_CLOSE, BadHead, HeadParser, ResponseHead

if TYPE_CHECKING:
    from kproxy.upstream.pool import TargetPool


class AnyExchange(Protocol):
    """What a connection works for: `kproxy.upstream.proxy.Exchange`, or a health check."""

    @property
    def sent(self) -> bool: ...
    def interim(self, head: ResponseHead) -> None: ...
    def whole_response(self, head: ResponseHead, body: Received) -> None: ...
    def response_begins(self, head: ResponseHead) -> None: ...
    def response_data(self, data: Received) -> None: ...
    def response_ends(self, trailers: Pairs) -> None: ...
    def upgraded(self, transport: Any, head: ResponseHead, early: bytes) -> None: ...
    def failed(self, error: TargetFailed) -> None: ...
    def timed_out(self) -> None: ...
    def pause_body(self) -> None: ...
    def resume_body(self) -> None: ...


Received = bytes | memoryview
"""What a connection has read. A view is of memory that the next connection reads into: it is to be
done with, or copied, before the call returns that it came with."""
SMALL = 16 * 1024
"""Bytes up to which a copy costs less than a view."""
MOST_SMALL_READS = 16
"""Reads without a large one, after which none is expected."""


class TargetFailed(Exception):
    """A target refused, broke off, or spoke nonsense; the text says which.

    @ivar unused: not one byte of an answer had come, over a connection that had been used before:
        the target had most likely closed it when the request was on its way.
    """

    def __init__(self, reason: str, *, unused: bool = False) -> None:
        super().__init__(reason)
        self.unused = unused


class UpstreamConnection:
    """The client side of one HTTP/1.1 connection: a protocol in asyncio's shape."""

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_decoder",
        "_exchange",
        "_heads",
        "_left",
        "_made",
        "_method",
        "_persistent",
        "_reading",
        "_room",
        "_small_reads",
        "_unsent",
        "_used",
        "pool",
        "transport",
    )

    def __init__(
        self,
        pool: TargetPool,
        heads: HeadParser,
        room: memoryview | None,
        made: Callable[[UpstreamConnection], object],
    ) -> None:
        """@param room: where to read large pieces to; see `kproxy.network.Network`."""
        self.pool = pool
        self._made: Callable[[UpstreamConnection], object] | None = made
        self.transport: Any = None
        self._heads = heads
        self._room = room
        self._small_reads = 0
        self._exchange: AnyExchange | None = None
        self._buffer = b""
        self._method = b""
        self._left: int | None = None
        self._decoder: ChunkedDecoder | None = None
        self._persistent = True
        self._reading = True
        self._used = False
        self._unsent = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        made, self._made = self._made, None
        made(self)  # type: ignore[misc]

    def begin(self, exchange: AnyExchange, method: bytes, head: bytes) -> None:
        """Send a request's head; its answer goes to the exchange."""
        self._exchange = exchange
        self._method = method
        self._left = None
        self._buffer = b""
        self.transport.write(head)

    def data_received(self, data: bytes) -> None:
        if len(data) > SMALL and self._room is not None:
            self._small_reads = 0
            self.transport.set_protocol(_LargeReads(self, self._room))
        self._received(data)

    def buffer_updated(self, size: int) -> None:
        """So much has been read into the room."""
        data: memoryview = self._room[:size]  # type: ignore[index]
        if size > SMALL:
            self._small_reads = 0
            self._received(data)
            return
        self._small_reads += 1
        if self._small_reads == MOST_SMALL_READS:
            self.transport.set_protocol(self)
        self._received(data.tobytes())

    def _received(self, data: Received) -> None:
        exchange = self._exchange
        if exchange is None:
            self.transport.abort()
        elif self._left is None:
            self._head(exchange, data)
        else:
            self._body(exchange, data)

    def _head(self, exchange: AnyExchange, data: Received) -> None:
        if self._buffer:
            data = self._buffer + data
        while True:
            text, end, rest = _partition(data)
            if not end or len(text) > MAX_HEAD:
                data = bytes(data)
                if len(data) > MAX_HEAD or data.count(b"\n") != data.count(b"\r\n"):
                    self.fail("it did not answer in HTTP/1")
                else:
                    self._buffer = data
                return
            try:
                head = self._heads.response(text, self._method)
            except BadHead as error:
                self.fail(str(error))
                return
            data = rest
            if head.code >= 200 or head.code == 101:
                break
            self._used = False  # not one to be closed before a byte of an answer has come
            exchange.interim(head)
            if not data:
                self._buffer = b""
                return
        self._buffer = b""
        if head.code == 101:
            self._exchange = None
            self.pool.stalled.remove(self)
            exchange.upgraded(self.transport, head, bytes(data))
            return
        self._response(exchange, head, data)

    def _response(self, exchange: AnyExchange, head: ResponseHead, data: Received) -> None:
        length = head.length
        self._persistent = head.keep_alive and length != UNTIL_CLOSE
        if length >= 0 and len(data) >= length:
            if len(data) > length:
                self._persistent = False
                data = data[:length]
            self._release()
            exchange.whole_response(head, data)
            return
        self._left = length
        self._decoder = ChunkedDecoder() if length == CHUNKED else None
        exchange.response_begins(head)
        if self._exchange is exchange:
            if data:
                self._body(exchange, data)
            else:
                exchange.response_data(b"")  # the head is worth knowing by itself

    def _body(self, exchange: AnyExchange, data: Received) -> None:
        left: int = self._left  # type: ignore[assignment]
        if left >= 0:
            if len(data) > left:
                self._persistent = False
                data = data[:left]
            self._left = left - len(data)
            exchange.response_data(data)
            if not self._left and self._exchange is exchange:
                self._end(exchange, [])
        elif left == UNTIL_CLOSE:
            exchange.response_data(data)
        else:
            decoder: ChunkedDecoder = self._decoder  # type: ignore[assignment]
            try:
                pieces = decoder.feed(bytes(data))
            except BadChunk as error:
                self.fail(str(error))
                return
            if pieces:
                exchange.response_data(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            if decoder.finished and self._exchange is exchange:
                if decoder.unused:
                    self._persistent = False
                self._end(exchange, decoder.trailers)

    def lend_socket(self) -> tuple[int, int] | None:
        """For `kproxy.transfer.Source`: if it is known how much is left of the body, and some is there.

        It is a copy of the socket, so that a thread which still reads when this one is closed does not
        read from another one that has got its number.
        """
        left = self._left
        if not left or left < 0 or self.transport.is_closing():
            return None
        socket = self.transport.get_extra_info("socket")
        if socket is None:
            return None
        try:
            number = socket.fileno()
            return (os.dup(number), left) if _unread(number) else None
        except OSError:
            return None

    def taken(self, size: int) -> None:
        """So much of the body was read from the socket that was lent."""
        exchange = self._exchange
        if exchange is not None:
            self._left -= size  # type: ignore[operator]
            if not self._left:
                self._end(exchange, [])

    def _end(self, exchange: AnyExchange, trailers: Pairs) -> None:
        self._release()
        exchange.response_ends(trailers)

    def _release(self) -> None:
        """The response has been read."""
        exchange, self._exchange = self._exchange, None
        self._decoder = None
        self._used = True
        if self._persistent and exchange.sent:  # type: ignore[union-attr]
            self.read(True)
            self.pool.release(self)
        else:
            self.transport.close()

    def eof_received(self) -> None:
        """The transport closes, and `connection_lost` says what that means."""

    def connection_lost(self, error: Exception | None) -> None:
        self.pool.lost(self)
        exchange = self._exchange
        if exchange is None:
            return
        if self._left == UNTIL_CLOSE and error is None:
            self._exchange = None
            exchange.response_ends([])
        else:
            unused = self._used and self._left is None and not self._buffer
            self.fail("it closed the connection before its answer was complete", unused=unused)

    def fail(self, reason: str, *, unused: bool = False) -> None:
        """Give up on the exchange and the connection."""
        exchange, self._exchange = self._exchange, None
        self.transport.abort()
        if exchange is not None:
            exchange.failed(TargetFailed(reason, unused=unused))

    def drop(self) -> None:
        """The exchange does not want its answer any more."""
        self._exchange = None
        self.transport.abort()

    def read(self, wanted: bool) -> None:
        """Read on, or leave what comes to the kernel's buffers."""
        if wanted != self._reading and not self.transport.is_closing():
            self._reading = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def pause_writing(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self.pool.stalled.add(self)
        if self._exchange is not None:
            self._exchange.pause_body()

    def resume_writing(self) -> None:
        self.pool.stalled.remove(self)
        if self._exchange is not None:
            self._exchange.resume_body()

    def write_overdue(self) -> None:
        """The target has not taken anything for long."""
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent = unsent
            self.pool.stalled.add(self)
        elif self._exchange is not None:
            self._exchange.timed_out()
        else:
            self.transport.abort()


class _LargeReads(asyncio.BufferedProtocol):
    """The protocol of a transport, in place of a connection, while large pieces are expected of it."""

    __slots__ = ("_connection", "_room")

    def __init__(self, connection: UpstreamConnection, room: memoryview) -> None:
        self._connection = connection
        self._room = room

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.buffer_updated(nbytes)

    def eof_received(self) -> None:
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()


def _unread(descriptor: int) -> int:
    """Bytes that have come over a socket and wait in the kernel."""
    return int.from_bytes(ioctl(descriptor, FIONREAD, bytes(4)), sys.byteorder)


def _partition(data: Received) -> tuple[bytes, bytes, Received]:
    """A head, its end, and what follows: of a view, that is a view."""
    if isinstance(data, bytes):
        return data.partition(b"\r\n\r\n")
    text, end, _ = bytes(data[:SMALL]).partition(b"\r\n\r\n")
    if not end:
        return bytes(data).partition(b"\r\n\r\n")
    return text, end, data[len(text) + len(end) :]
