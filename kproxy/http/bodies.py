"""Bodies of requests: those that arrive at a connection or a stream, and none at all."""

from __future__ import annotations

from typing import Protocol

from zope.interface import classImplements

from kproxy.http.chunked import ChunkedDecoder
from kproxy.http.headers import Pairs
from kproxy.http.heads import CHUNKED
from kproxy.interfaces import IBody, IBodyReceiver


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
    """What an `ArrivingBody` asks of the connection, or the stream, that it comes from."""

    def want_body(self, wanted: bool) -> None:
        """Read on, or leave what comes to the kernel's buffers or the client's window."""

    def send_continue(self) -> None:
        """Tell the client that its body is welcome."""

    def consumed(self, size: int) -> None:
        """So many bytes that waited are held here no longer."""


class ArrivingBody:
    """The body of a request while it arrives at what feeds it here.

    @ivar complete: all of it has arrived.
    @ivar started: somebody wants it.
    @ivar received: bytes of it that have arrived.
    """

    __slots__ = (
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

    def __init__(self, source: BodySource, length: int | None, expects_continue: bool) -> None:
        self.length = length
        self.complete = False
        self.received = 0
        self.expects_continue = expects_continue
        self.started = False
        self._source = source
        self._receiver: IBodyReceiver | None = None
        self._paused = True
        self._waiting: list[bytes] = []
        self._trailers: Pairs = []

    # What the source tells.

    def take(self, pieces: list[bytes]) -> None:
        """Pieces have come; if they are the last, `complete` says so."""
        self.expects_continue = False
        for piece in pieces:
            self.received += len(piece)
        self._waiting += pieces
        if self._paused and not self.complete:
            self._source.want_body(False)
        self._deliver()

    def end(self, trailers: Pairs) -> None:
        """All of it has come."""
        self.complete = True
        self._trailers = trailers
        self._deliver()

    def _deliver(self) -> None:
        taken = 0
        while self._waiting and not self._paused:
            data = self._waiting.pop(0)
            taken += len(data)
            self._receiver.body_data(data)  # type: ignore[union-attr]
        if taken:
            self._source.consumed(taken)
        if self.complete and not self._paused and self._receiver is not None:
            receiver, self._receiver = self._receiver, None
            receiver.body_end(self._trailers)

    def lose(self, reason: Exception) -> None:
        """The rest will not come."""
        receiver = self._receiver
        self.stop()
        if receiver is not None:
            receiver.body_lost(reason)

    # IBody

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
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._source.consumed(sum(map(len, waiting)))


class ReceivedBody(ArrivingBody):
    """One that ends as HTTP/1's framing says, fed with what the connection reads."""

    __slots__ = ("_decoder", "_left")

    def __init__(self, source: BodySource, length: int, expects_continue: bool) -> None:
        chunked = length == CHUNKED
        super().__init__(source, None if chunked else length, expects_continue)
        self._decoder = ChunkedDecoder() if chunked else None
        self._left = length

    def feed(self, data: bytes) -> bytes:
        """Take what the connection received.

        @return: what follows the body.
        @raise kproxy.http.chunked.BadChunk: the chunked coding is broken.
        """
        decoder = self._decoder
        unused = b""
        if decoder is not None:
            pieces = decoder.feed(data)
            if decoder.finished:
                self.complete = True
                self._trailers = decoder.trailers
                unused = decoder.unused
        else:
            if len(data) > self._left:
                data, unused = data[: self._left], data[self._left :]
            self._left -= len(data)
            self.complete = self._left == 0
            pieces = [data]
        self.take(pieces)
        return unused


classImplements(ArrivingBody, IBody)
