"""Bodies of requests: that which a connection receives, and none at all."""

from __future__ import annotations

from typing import Protocol

from zope.interface import classImplements

from kproxy.http.chunked import ChunkedDecoder
from kproxy.http.heads import CHUNKED
from kproxy.interfaces import IBody, IBodyReceiver

Pairs = list[tuple[bytes, bytes]]


class BodyLost(Exception):
    """The client left, or sent nonsense, before its request was complete."""


class NoBody:
    """The body of a request that has none. It has no state: one serves all requests."""

    __slots__ = ()
    length = 0
    replayable = True

    def start(self, receiver: IBodyReceiver) -> None:
        receiver.body_end([])

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def stop(self) -> None:
        pass


# Not decorators, here and below: the compiled build makes types of these that take none.
classImplements(NoBody, IBody)
NO_BODY = NoBody()


class BodySource(Protocol):
    """What a `ReceivedBody` asks of the connection that it comes from."""

    def want_body(self, wanted: bool) -> None:
        """Read on, or leave what comes to the kernel's buffers."""

    def send_continue(self) -> None:
        """Tell the client that its body is welcome."""


class ReceivedBody:
    """The body of a request while it arrives at a connection, which feeds it here.

    @ivar complete: all of it has arrived.
    @ivar started: somebody wants it.
    @ivar received: bytes of it that have arrived.
    """

    __slots__ = (
        "_decoder",
        "_left",
        "_paused",
        "_receiver",
        "_source",
        "_trailers",
        "_waiting",
        "complete",
        "expects_continue",
        "length",
        "received",
        "started",
    )
    replayable = False

    def __init__(self, source: BodySource, length: int, expects_continue: bool) -> None:
        chunked = length == CHUNKED
        self.length: int | None = None if chunked else length
        self.complete = False
        self.received = 0
        self.expects_continue = expects_continue
        self._source = source
        self._decoder = ChunkedDecoder() if chunked else None
        self._left = length
        self._receiver: IBodyReceiver | None = None
        self.started = False
        self._paused = True
        self._waiting: list[bytes] = []
        self._trailers: Pairs = []

    def feed(self, data: bytes) -> bytes:
        """Take what the connection received.

        @return: what follows the body.
        @raise kproxy.http.chunked.BadChunk: the chunked coding is broken.
        """
        self.expects_continue = False
        decoder = self._decoder
        unused = b""
        if decoder is not None:
            pieces = decoder.feed(data)
            self.received += sum(map(len, pieces))
            if decoder.finished:
                self.complete = True
                self._trailers = decoder.trailers
                unused = decoder.unused
        else:
            if len(data) > self._left:
                data, unused = data[: self._left], data[self._left :]
            self.received += len(data)
            self._left -= len(data)
            self.complete = self._left == 0
            pieces = [data]
        if self._paused or self._waiting:
            self._waiting += pieces
            if not self.complete and self._paused:
                self._source.want_body(False)
        elif len(pieces) == 1:
            self._receiver.body_data(pieces[0])  # type: ignore[union-attr]
        else:
            self._waiting = pieces
        self._deliver()
        return unused

    def _deliver(self) -> None:
        while self._waiting and not self._paused:
            self._receiver.body_data(self._waiting.pop(0))  # type: ignore[union-attr]
        if self.complete and not self._paused and self._receiver is not None:
            receiver, self._receiver = self._receiver, None
            receiver.body_end(self._trailers)

    def lose(self, reason: Exception) -> None:
        """The rest will not come."""
        receiver, self._receiver = self._receiver, None
        self._waiting = []
        if receiver is not None:
            receiver.body_lost(reason)

    def start(self, receiver: IBodyReceiver) -> None:
        if self.started:
            raise RuntimeError("a body that was not buffered can be taken only once")
        self.started = True
        self._receiver = receiver
        if self.expects_continue:
            self.expects_continue = False
            self._source.send_continue()
        self.resume()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._receiver is None:
            return  # it has all, or was stopped by somebody that the caller does not know
        self._paused = False
        self._deliver()
        if not self.complete and not self._paused:
            self._source.want_body(True)

    def stop(self) -> None:
        self._receiver = None
        self._paused = True
        self._waiting = []


classImplements(ReceivedBody, IBody)
