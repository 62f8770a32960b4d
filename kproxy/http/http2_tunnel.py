"""WebSocket over HTTP/2 (RFC 8441): a stream in the place of a connection.

The target gets an ordinary HTTP/1.1 upgrade. What that needs and the client does not send, the key
and the check of its echo (RFC 6455 section 4), is done here.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from kproxy.http.headers import Pairs
from kproxy.http.tunnel import tie
from kproxy.interfaces import IBodyReceiver

if TYPE_CHECKING:
    from kproxy.http.bodies import ArrivingBody
    from kproxy.http.http2_stream import HTTP2Stream

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def new_key(random: Callable[[int], bytes]) -> bytes:
    """A Sec-WebSocket-Key."""
    return b64encode(random(16))


def accept_key(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that shows that the key was read."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


@implementer(IBodyReceiver, IPushProducer)
class StreamTransport:
    """A stream, to a protocol of asyncio's shape: its transport. To the stream it is what takes the
    data that come in, and what makes those that go out."""

    def __init__(self, stream: HTTP2Stream, body: ArrivingBody) -> None:
        self._stream = stream
        self._body = body
        self._protocol: Any = None
        self._closing = False
        self._gone = False

    def tie(self, target: Any, early: bytes) -> None:
        """Tie the stream to a target's transport, both ways.

        @param early: what the target has already sent.
        """

        def closed(received: int) -> None:
            self._stream.tunnel_closed(received + len(early))

        tie(self, target, closed)
        self._stream.register_producer(self)
        if early:
            self.write(early)

    # asyncio's transport.

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._body.pause()

    def resume_reading(self) -> None:
        if not self._body.started:
            self._body.start(self)
        else:
            self._body.resume()

    def write(self, data: bytes) -> None:
        if not self._closing:
            self._stream.send_data(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._stream.send_end()

    def close(self) -> None:
        """Send what was written, and take nothing more."""
        if not self._closing:
            self._closing = True
            self._body.stop()
            self._stream.send_end()
            self._stream.site.clock.callLater(0, self._lose, None)

    def abort(self) -> None:
        self._closing = True
        self._stream.abort()

    def lost(self) -> None:
        """The stream is gone before its end."""
        self._closing = True
        self._lose(ConnectionResetError("the stream was reset"))

    def _lose(self, error: Exception | None) -> None:
        if not self._gone:
            self._gone = True
            self._protocol.connection_lost(error)

    # IBodyReceiver

    def body_data(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def body_end(self, trailers: Pairs) -> None:
        self._protocol.eof_received()

    def body_lost(self, reason: Exception) -> None:
        """`lost` says so, too."""

    # IPushProducer

    def pauseProducing(self) -> None:
        self._protocol.pause_writing()

    def resumeProducing(self) -> None:
        self._protocol.resume_writing()

    def stopProducing(self) -> None:
        """`lost` says so, too."""
