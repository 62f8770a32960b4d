"""The half of an HTTP/2 stream that writes: the last `IResponseSink`.

`kproxy.http.http2_stream.HTTP2Stream` is the other half, and says the rules of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from h2.errors import ErrorCodes
from twisted.logger import Logger

from kproxy.http.headers import Pairs
from kproxy.http.http2_heads import CONNECTION_SPECIFIC

if TYPE_CHECKING:
    from h2.stream import H2Stream

    from kproxy.http.http2 import HTTP2Connection
    from kproxy.http.http2_tunnel import StreamTransport
    from kproxy.http.request import Request
    from kproxy.http.site import Site

_NOT_SENT: Final = CONNECTION_SPECIFIC | {b"te", b"trailer"}
_log = Logger()


class StreamResponse:
    """Makes frames of a response, and sends them as the client takes them.

    @ivar in_line: it is in the outbox's line.
    """

    __slots__ = (
        "_connection",
        "_end_queued",
        "_ended",
        "_finished",
        "_head",
        "_left",
        "_machine",
        "_no_body",
        "_outbox",
        "_over",
        "_paused",
        "_producer",
        "_queue",
        "_tunnel",
        "_websocket_key",
        "in_line",
        "request",
        "site",
    )

    def __init__(self, connection: HTTP2Connection, machine: H2Stream) -> None:
        self._connection = connection
        self._machine = machine  # of h2; it keeps the stream's window
        self._outbox = connection.outbox
        self.site: Site = connection.site
        self.request: Request | None = None
        self.in_line = False
        self._head: Pairs | None = None  # not sent yet
        self._no_body = False
        self._left: int | None = None  # of Content-Length
        self._queue: list[bytes | memoryview] = []
        self._end_queued = False
        self._ended = False  # END_STREAM was sent
        self._finished = False
        self._over = False
        self._producer: Any = None
        self._paused = False
        self._tunnel: StreamTransport | None = None
        self._websocket_key = b""

    def _complete(self) -> None:
        """The response has been sent whole."""
        raise NotImplementedError

    def abort(self) -> None:
        """Reset the stream."""
        raise NotImplementedError

    def give_up(self, code: ErrorCodes) -> None:
        """Reset the stream, and tell the request now."""
        raise NotImplementedError

    # The sink.

    def begin(self) -> None:
        request = self.request
        if request is None:  # it has ended, which a filter may not have heard of yet
            return
        request.response_begun = True
        code = request.code
        fields = request.responseHeaders.fields
        if self._websocket_key and 200 <= code < 300:
            # To the client it would mean that its WebSocket is open (RFC 8441 section 5).
            request.code = code = 502
            fields = {b"content-length": (b"", b"0")}
            self._left = None
            self._no_body = True
        else:
            self._no_body = request.method == b"HEAD" or code == 304 or code == 204
            length = fields.get(b"content-length")
            if length is not None and code == 204:
                del fields[b"content-length"]
            elif length is not None and not self._no_body:
                self._left = int(length[1])
        self._head = [(b":status", b"%d" % code), *sendable(fields)]

    def write(self, data: bytes) -> None:
        if self._no_body or self._over:
            return
        size = len(data)
        self.request.sentLength += size  # type: ignore[union-attr]
        end = False
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                _log.error("{request}: more body than Content-Length", request=self.request)
                self.abort()
                return
            end = not self._left
        if self._head is not None:
            self._send_head(False)
        self._send(data, end)
        self._outbox.flush()

    def finish(self) -> None:
        if self._over:
            return
        if self._left:
            _log.error("{request}: less body than Content-Length", request=self.request)
            self.abort()
            return
        self._finished = True
        if self._head is not None:
            self._send_head(not self._trailers())
        self._end()
        if self._ended:
            self._complete()
        self._outbox.flush()

    def _trailers(self) -> Pairs:
        """What follows the body, once that is known."""
        trailers = self.request.response_trailers if self.request is not None else ()
        if not trailers or self._no_body:
            return []
        fields = [(name.lower(), value) for name, value in trailers]
        return [field for field in fields if field[0] not in _NOT_SENT]

    def flush(self) -> None:
        """Send the head now, although nothing of the body has come yet."""
        if self._head is not None and not self._over:
            self._send_head(self._no_body or self._left == 0)
            self._outbox.flush()

    def _send_head(self, end: bool) -> None:
        head: Pairs = self._head  # type: ignore[assignment]
        self._head = None
        self._write_fields(head, end)
        self._ended = end

    def stop(self) -> None:
        """The producer's maker stops it."""
        self.unregister_producer()

    def register_producer(self, producer: Any) -> None:
        """Let it begin when there is room. (A window that it has just used up does not stop it: the
        end that may follow needs none.)"""
        self._producer = producer
        self._paused = False
        self._outbox.flowing.add(self)
        if self._queue or not self._room():
            self.wait()

    def unregister_producer(self) -> None:
        self._producer = None
        self._outbox.flowing.discard(self)

    def inform(self, code: int, headers: Pairs) -> None:
        if not self._over:
            fields = [(name.lower(), value) for name, value in headers]
            fields = [field for field in fields if field[0] not in _NOT_SENT]
            self._write_fields([(b":status", b"%d" % code), *fields], False, interim=True)
            self._outbox.flush()

    # Sending.

    def _send(self, data: bytes, end: bool) -> None:
        """Send what can be sent now; the rest waits."""
        self._end_queued = end
        if self._queue:
            self._hold(data)
            return
        rest: bytes | memoryview = data
        if not self._outbox.line:
            while rest:
                room = self._room()
                if not room:
                    break
                rest = self._send_piece(rest, room)
        if rest:
            # A small rest shall not keep all of what was read in memory.
            self._hold(rest if len(rest) > len(data) // 2 else bytes(rest))
            self.wait()
        elif self._outbox.blocked and self._producer is not None and not end:
            self.wait()

    def _hold(self, data: bytes | memoryview) -> None:
        self._queue.append(data)
        self._outbox.hold(len(data))

    def _room(self) -> int:
        """Bytes that may be sent now."""
        return 0 if self._outbox.blocked else self._connection.machine.room(self._machine)

    def _write_fields(self, fields: Pairs, end: bool, *, interim: bool = False) -> None:
        machine = self._connection.machine
        self._outbox.write(machine.fields_frames(self._machine, fields, end, interim=interim))

    def _write_data(self, data: bytes | memoryview, end: bool) -> None:
        machine = self._connection.machine
        self._outbox.write(machine.data_header(self._machine, len(data), end), data)

    def _send_piece(self, data: bytes | memoryview, room: int) -> bytes | memoryview:
        """Send one frame of this; what is left of it."""
        rest: bytes | memoryview = b""
        if len(data) > room:
            view = memoryview(data)
            data, rest = view[:room], view[room:]
        self._ended = (
            self._end_queued and not rest and len(self._queue) <= 1 and not self._trailers()
        )
        self._write_data(data, self._ended)
        return rest

    def _end(self) -> None:
        """END_STREAM, with trailers if there are any, behind all that is queued."""
        self._end_queued = True
        if self._queue or self._ended:
            return
        trailers = self._trailers()
        if trailers:
            self._write_fields(trailers, True)
        else:
            self._write_data(b"", True)
        self._ended = True

    # Waiting.

    def wait(self) -> None:
        """Until there is room, for what is queued or for what the producer would make next."""
        if self._tunnel is None:
            self.site.stalled_writes.add(self)
        if self._producer is not None and not self._paused:
            self._paused = True
            self._outbox.flowing.discard(self)
            self._producer.pauseProducing()
        self._outbox.line_up(self)

    def wait_if_full(self) -> None:
        """The connection holds much already."""
        if not self._room():
            self.wait()

    def can_go_on(self) -> bool:
        """Whether it waits, and the stream's own window has room."""
        waits = self._queue or (self._paused and self._producer is not None)
        return bool(waits) and self._machine.outbound_flow_control_window > 0

    def go_on(self) -> None:
        """The connection has room: send one frame of what is queued, or let the producer make more."""
        if self._queue:
            data = self._queue[0]
            rest = self._send_piece(data, self._room())
            self._outbox.held -= len(data) - len(rest)
            if rest:
                self._queue[0] = rest
            else:
                del self._queue[0]
            if self._queue:
                if self._tunnel is None:
                    self.site.stalled_writes.add(self)
                return
            if self._end_queued:
                self._end()
        self.site.stalled_writes.remove(self)
        if self._finished:
            self._complete()
        else:
            self._resume()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._producer is not None:
                self._outbox.flowing.add(self)
                self._producer.resumeProducing()

    def write_overdue(self) -> None:
        """The client has not let anything be sent for long."""
        if self._over:
            return
        if self._queue:
            self.give_up(ErrorCodes.CANCEL)
        else:
            self._resume()  # nobody knows whether there is anything to send


def sendable(fields: dict[bytes, tuple[bytes, ...]]) -> Pairs:
    """Fields of a response as HTTP/2 has them: without those about an HTTP/1 connection."""
    return [
        (key, value) for key, field in fields.items() if key not in _NOT_SENT for value in field[1:]
    ]
