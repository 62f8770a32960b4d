"""One stream of an HTTP/2 connection: what a request has that came on one, in place of a connection.

The rules that keep it right:

1. What the client's windows or its transport do not take now waits in `_queue`, and whoever makes it
   is asked to pause: a stream holds little more than one write.
2. The connection says when the stream may go on (`send_turn`), one frame at a time, so that streams
   take turns.
3. A stream ends once: when its END_STREAM has been sent (`_complete`), or when either side has
   reset it or the connection is gone (`lost`). The connection knows it until then.
4. Half a response ends with RST_STREAM, never with END_STREAM.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from h2.errors import ErrorCodes
from twisted.logger import Logger

from kproxy.errors import answer_error
from kproxy.http.bodies import BodyLost, ReceivedBody
from kproxy.http.headers import Pairs
from kproxy.http.heads import RequestHead
from kproxy.http.http2_heads import CONNECTION_SPECIFIC, StreamHead
from kproxy.http.http2_tunnel import StreamTransport, accept_key, new_key
from kproxy.http.request import Request, client_left

if TYPE_CHECKING:
    from h2.stream import H2Stream
    from twisted.internet.interfaces import IAddress

    from kproxy.http.http2 import HTTP2Connection
    from kproxy.http.site import Site

_NOT_SENT: Final = CONNECTION_SPECIFIC | {b"te", b"trailer"}
_log = Logger()


class StreamBody(ReceivedBody):
    """The body of a request while it arrives in DATA frames, which end it, too."""

    __slots__ = ("_held",)
    _source: HTTP2Stream

    def __init__(self, source: HTTP2Stream, length: int | None, expects_continue: bool) -> None:
        super().__init__(source, 0, expects_continue)
        self.length = length
        self._held = 0

    def feed(self, data: bytes) -> bytes:
        self.expects_continue = False
        self._held += len(data)
        self._waiting.append(data)
        if self._paused:
            self._source.want_body(False)
        self._deliver()
        return b""

    def end(self, trailers: Pairs) -> None:
        """All of it has come."""
        self.complete = True
        self._trailers = trailers
        self._deliver()

    def _deliver(self) -> None:
        super()._deliver()
        self._consumed()

    def lose(self, reason: Exception) -> None:
        self._paused = True
        super().lose(reason)
        self._consumed()

    def stop(self) -> None:
        super().stop()
        self._consumed()

    def _consumed(self) -> None:
        """Let the client send as much again as has been taken from here."""
        held = sum(map(len, self._waiting))
        taken, self._held = self._held - held, held
        if taken:
            self._source.consumed(taken)


class HTTP2Stream:
    """The server side of one stream.

    @ivar body: what comes in on it, if it was open for that.
    @ivar left_to_come: bytes of the body that the client has announced and not sent; None: not known.
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
        "_over",
        "_paused",
        "_producer",
        "_queue",
        "_reading",
        "_tunnel",
        "_websocket_key",
        "body",
        "id",
        "in_turn",
        "left_to_come",
        "request",
        "secure",
        "site",
        "transport",
    )

    def __init__(self, connection: HTTP2Connection, stream_id: int, machine: H2Stream) -> None:
        self._connection = connection
        self._machine = machine  # of h2; it keeps the stream's window
        self.id = stream_id
        self.secure = connection.secure
        self.site: Site = connection.site
        self.transport = connection.transport
        self.request: Request | None = None
        self.body: StreamBody | None = None
        self.left_to_come: int | None = None
        self.in_turn = False
        self._reading = True
        self._tunnel: StreamTransport | None = None
        self._websocket_key = b""
        # Of the response:
        self._head: Pairs | None = None  # not sent yet
        self._no_body = False
        self._left: int | None = None  # of Content-Length
        self._queue: deque[bytes | memoryview] = deque()
        self._end_queued = False
        self._ended = False  # END_STREAM was sent
        self._finished = False
        self._over = False
        self._producer: Any = None
        self._paused = False

    @property
    def open(self) -> bool:
        """Whether one side has not ended it; h2 knows that before the request does."""
        return not self._machine.closed

    # The request.

    def begin_request(self, head: StreamHead) -> None:
        """Render a request that begins."""
        request_head = head.head
        self.request = request = Request(self, self.site, request_head)
        length = request_head.length
        if head.tunnel:
            self.body = StreamBody(self, None, False)
            self._websocket_key = key = new_key(self._connection.random)
            request.requestHeaders.setRawHeaders(b"sec-websocket-key", [key])
        elif length:
            self.left_to_come = None if length < 0 else length
            self.body = StreamBody(self, self.left_to_come, request_head.expects_continue)
            request.body = self.body
            self.site.stalled_reads.add(self)
        request.render(self.site.resource)

    def refuse(self, error: Exception, ended: bool) -> None:
        """Answer what is a request, but not one that is served.

        @param ended: there is no body.
        """
        if not ended:
            self.body = StreamBody(self, None, False)
        head = RequestHead(b"", b"", b"HTTP/2.0", {}, b"", 0, True, False, b"")
        self.request = request = Request(self, self.site, head)
        request.notes["refusal"] = error
        request.render(self.site.refusals)

    def receive(self, data: bytes) -> None:
        """A piece of the body."""
        body = self.body
        if body is None:
            return
        if self.left_to_come is not None:
            self.left_to_come -= len(data)
        if data:
            body.feed(data)
            if self._tunnel is None and self._reading:
                self.site.stalled_reads.add(self)

    def receive_end(self, trailers: Pairs) -> None:
        """The client has nothing more to send."""
        body = self.body
        if body is not None and not body.complete:
            self.site.stalled_reads.remove(self)
            body.end(trailers)

    def body_overdue(self) -> None:
        """The body of the request has stopped moving."""
        body, request = self.body, self.request
        if self._over or body is None or body.complete or not self._reading or request is None:
            return
        if not body.started:
            self.site.stalled_reads.add(self)  # nobody has asked for it yet
            return
        body.lose(BodyLost("the request's body stopped coming"))
        if not self._over and not request.finished:
            answer_error(request, 408)
        self._connection.flush()

    # What a ReceivedBody asks.

    def want_body(self, wanted: bool) -> None:
        self._reading = wanted
        if wanted and not self._over and self._tunnel is None:
            self.site.stalled_reads.add(self)
        else:
            self.site.stalled_reads.remove(self)

    def send_continue(self) -> None:
        if not self._over and self._head is None and not self._begun:
            self.inform(100, [])

    def consumed(self, size: int) -> None:
        """So much of the body is held here no longer."""
        self._connection.acknowledge(self.id, size)

    # The response: the last IResponseSink.

    @property
    def _begun(self) -> bool:
        return self.request is not None and self.request.response_begun

    def begin(self) -> None:
        request: Request = self.request  # type: ignore[assignment]
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
        self._head = [(b":status", b"%d" % code), *_pairs(fields)]

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
        self._connection.flush()

    def finish(self) -> None:
        if self._over:
            return
        request: Request = self.request  # type: ignore[assignment]
        if self._left:
            _log.error("{request}: less body than Content-Length", request=request)
            self.abort()
            return
        self._finished = True
        if self._head is not None:
            self._send_head(not self._trailers())
        self._end()
        if self._ended:
            self._complete()
        self._connection.flush()

    def _trailers(self) -> Pairs:
        """What follows the body, once that is known."""
        trailers = self.request.response_trailers if self.request is not None else ()
        if not trailers or self._no_body:
            return []
        fields = [(name.lower(), value.strip(b" \t")) for name, value in trailers]
        return [field for field in fields if field[0] not in _NOT_SENT]

    def flush(self) -> None:
        """Send the head now, although nothing of the body has come yet."""
        if self._head is not None and not self._over:
            self._send_head(self._no_body or self._left == 0)
            self._connection.flush()

    def _send_head(self, end: bool) -> None:
        head: Pairs = self._head  # type: ignore[assignment]
        self._head = None
        self._write_fields(head, end)
        self._ended = end

    def stop(self) -> None:
        """The producer's maker stops it."""
        self._producer = None

    def register_producer(self, producer: Any) -> None:
        self._producer = producer
        self._paused = bool(self._queue)
        if self._paused:
            producer.pauseProducing()

    def unregister_producer(self) -> None:
        self._producer = None

    def inform(self, code: int, headers: Pairs) -> None:
        if not self._over:
            fields = [(name.lower(), value) for name, value in headers]
            fields = [field for field in fields if field[0] not in _NOT_SENT]
            self._write_fields([(b":status", b"%d" % code), *fields], False, interim=True)
            self._connection.flush()

    def abort(self) -> None:
        """Reset the stream now; the request hears of it on the next turn, as from a connection."""
        if not self._over:
            # To a WebSocket, CANCEL says what a TCP reset says (RFC 8441 section 5).
            code = ErrorCodes.CANCEL if self.upgraded else ErrorCodes.INTERNAL_ERROR
            self._connection.reset(self, code)
            self._close()
            self.site.clock.callLater(0, self._tell_lost)

    # Sending.

    def _send(self, data: bytes, end: bool) -> None:
        """Send what can be sent now."""
        self._end_queued = end
        if self._queue:
            self._queue.append(data)
            return
        rest: bytes | memoryview = data
        if not self._connection.in_line:
            while rest and self._room():
                rest = self._send_piece(rest)
        if rest:
            self._queue.append(rest)
            self._wait()

    def _room(self) -> int:
        """Bytes that may be sent now."""
        connection = self._connection
        return 0 if connection.blocked else connection.machine.room(self._machine)

    def _write_fields(self, fields: Pairs, end: bool, *, interim: bool = False) -> None:
        connection = self._connection
        connection.write(
            connection.machine.fields_frames(self._machine, fields, end, interim=interim)
        )

    def _write_data(self, data: bytes | memoryview, end: bool) -> None:
        connection = self._connection
        connection.write(connection.machine.data_header(self._machine, len(data), end), data)

    def _send_piece(self, data: bytes | memoryview) -> bytes | memoryview:
        """Send one frame of this; what is left of it."""
        room = self._room()
        rest: bytes | memoryview = b""
        if len(data) > room:
            view = memoryview(data)
            data, rest = view[:room], view[room:]
        self._ended = (
            self._end_queued and not rest and len(self._queue) <= 1 and not self._trailers()
        )
        self._write_data(data, self._ended)
        return rest

    def _wait(self) -> None:
        """Until there is room for what is queued."""
        if self._tunnel is None:
            self.site.stalled_writes.add(self)
        if self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()
        self._connection.line_up(self)

    def can_send(self) -> bool:
        """Whether something waits that the stream's own window has room for."""
        return bool(self._queue) and self._machine.outbound_flow_control_window > 0

    def send_turn(self) -> None:
        """Send one frame of what is queued: the connection has room for it."""
        rest = self._send_piece(self._queue[0])
        if rest:
            self._queue[0] = rest
        else:
            self._queue.popleft()
        if self._queue:
            if self._tunnel is None:
                self.site.stalled_writes.add(self)
            return
        self.site.stalled_writes.remove(self)
        if self._end_queued:
            self._end()
        if self._finished:
            self._complete()
        elif self._paused:
            self._paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

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

    def write_overdue(self) -> None:
        """The client has not let anything be sent for long."""
        if not self._over:
            self._connection.reset(self, ErrorCodes.CANCEL)
            self.lost()
            self._connection.flush()

    # WebSocket (RFC 8441).

    def switch_protocols(self, target: Any, early: bytes) -> bool:
        request, body = self.request, self.body
        if not self._websocket_key or request is None or body is None or self._over:
            return False
        fields = request.responseHeaders.fields
        accept = fields.pop(b"sec-websocket-accept", (b"", b""))[1]
        if accept != accept_key(self._websocket_key):
            _log.warn("{request}: the target did not accept the WebSocket's key", request=request)
            answer_error(request, 502)
            return False
        request.response_begun = True
        self._write_fields([(b":status", b"200"), *_pairs(fields)], False)
        self.site.stalled_reads.remove(self)
        self._tunnel = tunnel = StreamTransport(self, body)
        tunnel.tie(target, early)
        self._connection.flush()
        return True

    @property
    def upgraded(self) -> bool:
        """Whether something else than HTTP is spoken on the stream, whose end nobody can foresee."""
        return self._tunnel is not None

    def send_data(self, data: bytes) -> None:
        """Data of the tunnel."""
        if not self._over and not self._end_queued:
            self._send(data, False)
            self._connection.flush()

    def send_end(self) -> None:
        """The tunnel has no more data for the client, which may still have some for it."""
        if not self._over and not self._end_queued:
            self._end()
            self._connection.flush()

    def tunnel_closed(self, sent: int) -> None:
        """Both sides of the tunnel have ended."""
        request: Request = self.request  # type: ignore[assignment]
        request.sentLength = sent
        if self._over:
            request.ended(None)
            return
        self._finished = True
        self._end()
        if self._ended:
            self._complete()
        self._connection.flush()

    def close_tunnel(self) -> None:
        """Draining: end it now."""
        if self._tunnel is not None:
            self._tunnel.close()

    # Ends.

    def _close(self) -> None:
        """Nothing is sent or taken any more."""
        self._over = True
        self._queue.clear()
        self._head = None
        self.site.stalled_reads.remove(self)
        self.site.stalled_writes.remove(self)
        self._connection.forget(self)

    def _complete(self) -> None:
        """The response has been sent whole."""
        body = self.body
        if body is not None and not body.complete:
            # RFC 9113 section 8.1: the client may stop sending what nobody reads.
            self._connection.reset(self, ErrorCodes.NO_ERROR)
        self._close()
        self._producer = None
        if body is not None and not body.complete:
            body.stop()
        self.request.ended(None)  # type: ignore[union-attr]

    def lost(self) -> None:
        """The client has left, or reset the stream, or there is no connection any more."""
        if not self._over:
            self._close()
            self._tell_lost()

    def _tell_lost(self) -> None:
        self._producer = None
        if self._tunnel is not None:
            self._tunnel.lost()  # the request ends when the target's side has closed, too
            return
        if self.body is not None and not self.body.complete:
            self.body.lose(BodyLost("the client went away"))
        if self.request is not None:
            self.request.ended(client_left())

    # What a request asks of its connection.

    @property
    def client(self) -> IAddress:
        return self._connection.client

    @property
    def host(self) -> IAddress:
        return self._connection.host


def _pairs(fields: dict[bytes, tuple[bytes, ...]]) -> Pairs:
    """Fields of a response as HTTP/2 has them: without those about an HTTP/1 connection, and without
    white space around values (RFC 9113 section 8.2)."""
    return [
        (key, value.strip(b" \t"))
        for key, field in fields.items()
        if key not in _NOT_SENT
        for value in field[1:]
    ]
