"""Bodies that come in on an HTTP/2 stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from kproxy.http.headers import Pairs
from kproxy.interfaces import IBody, IBodyReceiver

if TYPE_CHECKING:
    from kproxy.http.http2_stream import HTTP2Stream


@implementer(IBody)
class StreamBody:
    """The body of a request while it arrives in DATA frames, which end it, too.

    What waits here is what the client's windows let it send; each piece is given back to them when it
    has been taken.

    @ivar complete: all of it has arrived.
    @ivar started: somebody wants it.
    @ivar received: bytes of it that have arrived.
    """

    __slots__ = (
        "_paused",
        "_receiver",
        "_stream",
        "_trailers",
        "_waiting",
        "complete",
        "expects_continue",
        "length",
        "received",
        "started",
    )
    replayable = False

    def __init__(self, stream: HTTP2Stream, length: int | None, expects_continue: bool) -> None:
        self.length = length
        self.expects_continue = expects_continue
        self.complete = False
        self.received = 0
        self.started = False
        self._stream = stream
        self._receiver: IBodyReceiver | None = None
        self._paused = True
        self._waiting: list[bytes] = []
        self._trailers: Pairs = []

    # What the stream tells.

    def feed(self, data: bytes) -> None:
        """A piece has come."""
        self.expects_continue = False
        self.received += len(data)
        self._waiting.append(data)
        if self._paused:
            self._stream.want_body(False)
        else:
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
            self._stream.consumed(taken)
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
            self._stream.send_continue()
        self.resume()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._receiver is None:
            return  # it has all, or was stopped by somebody that the caller does not know
        self._paused = False
        self._deliver()
        if not self.complete and not self._paused:
            self._stream.want_body(True)

    def stop(self) -> None:
        self._receiver = None
        self._paused = True
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._stream.consumed(sum(map(len, waiting)))
