"""One stream of an HTTP/2 connection: what a request has that came on one, in place of a connection.

The rules that keep it right:

1. What the client's windows or its transport do not take now waits in `_queue`, and whoever makes it
   is asked to pause, as soon as nothing more would be taken: a stream holds no more than one write.
2. The outbox says when the stream may go on (`go_on`), one frame at a time, so that streams take turns.
3. A stream ends once: when its END_STREAM has been sent (`_complete`), or when either side has
   reset it or the connection is gone (`lost`). The connection knows it until then.
4. Half a response ends with RST_STREAM, never with END_STREAM.

This is the half that reads, and that knows when it is over; `http2_response` is the half that writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from twisted.logger import Logger

from kproxy.errors import answer_error
from kproxy.http.bodies import ArrivingBody, BodyLost
from kproxy.http.headers import Pairs
from kproxy.http.heads import RequestHead
from kproxy.http.http2_heads import StreamHead
from kproxy.http.http2_response import StreamResponse, sendable
from kproxy.http.http2_tunnel import StreamTransport, accept_key, new_key
from kproxy.http.request import Request, client_left

if TYPE_CHECKING:
    from h2.stream import H2Stream
    from twisted.python.failure import Failure

    from kproxy.http.http2 import HTTP2Connection

_log = Logger()


class HTTP2Stream(StreamResponse):
    """The server side of one stream.

    @ivar body: what comes in on it, if it was open for that.
    @ivar left_to_come: bytes of the body that the client has announced and not sent; None: not known.
    """

    __slots__ = ("_reading", "body", "client", "host", "id", "left_to_come", "secure", "transport")

    def __init__(self, connection: HTTP2Connection, stream_id: int, machine: H2Stream) -> None:
        super().__init__(connection, machine)
        self.id = stream_id
        self.secure = connection.secure
        self.client = connection.client
        self.host = connection.host
        self.transport = connection.transport
        self.body: ArrivingBody | None = None
        self.left_to_come: int | None = None
        self._reading = True

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
            self.body = ArrivingBody(self, None, False)
            self._websocket_key = key = new_key(self._connection.random)
            request.requestHeaders.setRawHeaders(b"sec-websocket-key", [key])
        elif length:
            self.left_to_come = None if length < 0 else length
            self.body = ArrivingBody(self, self.left_to_come, request_head.expects_continue)
            request.body = self.body
            self.site.stalled_reads.add(self)
        request.render(self.site.resource)

    def refuse(self, error: Exception, ended: bool) -> None:
        """Answer what is a request, but not one that is served.

        @param ended: there is no body.
        """
        if not ended:
            self.body = ArrivingBody(self, None, False)
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
            body.take([data])
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
        self._outbox.flush()

    # What an ArrivingBody asks.

    def want_body(self, wanted: bool) -> None:
        self._reading = wanted
        if wanted and not self._over and self._tunnel is None:
            self.site.stalled_reads.add(self)
        else:
            self.site.stalled_reads.remove(self)

    def send_continue(self) -> None:
        request = self.request
        if not self._over and request is not None and not request.response_begun:
            self.inform(100, [])

    def consumed(self, size: int) -> None:
        self._connection.acknowledge(self.id, size)

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
        self._write_fields([(b":status", b"200"), *sendable(fields)], False)
        self.site.stalled_reads.remove(self)
        self._tunnel = tunnel = StreamTransport(self, body)
        tunnel.tie(target, early)
        self._outbox.flush()
        return True

    @property
    def upgraded(self) -> bool:
        """Whether something else than HTTP is spoken on the stream, whose end nobody can foresee."""
        return self._tunnel is not None

    def send_data(self, data: bytes) -> None:
        """Data of the tunnel."""
        if not self._over and not self._end_queued:
            self._send(data, False)
            self._outbox.flush()

    def send_end(self) -> None:
        """The tunnel has no more data for the client, which may still have some for it."""
        if not self._over and not self._end_queued:
            self._end()
            self._outbox.flush()

    def tunnel_closed(self, sent: int) -> None:
        """Both sides of the tunnel have ended."""
        self.request.sentLength = sent  # type: ignore[union-attr]
        if self._over:
            self._request_ended(None)
            return
        self._finished = True
        self._end()
        if self._ended:
            self._complete()
        self._outbox.flush()

    def close_tunnel(self) -> None:
        """Draining: end it now."""
        if self._tunnel is not None:
            self._tunnel.close()

    # Ends.

    def _close(self) -> None:
        """Nothing is sent or taken any more."""
        self._over = True
        if self._queue:
            self._outbox.held -= sum(map(len, self._queue))
            self._queue.clear()
        self._outbox.flowing.discard(self)
        self._paused = False
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
        self.unregister_producer()
        if body is not None:
            body.stop()  # what nobody took is given back to the connection's window
        self._request_ended(None)

    def _request_ended(self, failure: Failure | None) -> None:
        request, self.request, self.body = self.request, None, None
        if request is not None:  # which knows this, so that they would need the collector
            request.ended(failure)

    def abort(self) -> None:
        """Reset the stream now; the request hears of it on the next turn, as from a connection."""
        if not self._over:
            # To a WebSocket, CANCEL says what a TCP reset says (RFC 8441 section 5).
            code = ErrorCodes.CANCEL if self.upgraded else ErrorCodes.INTERNAL_ERROR
            self._connection.reset(self, code)
            self._close()
            self.site.clock.callLater(0, self._tell_lost)

    def give_up(self, code: ErrorCodes) -> None:
        if not self._over:
            self._connection.reset(self, code)
            self.lost()
            self._outbox.flush()

    def lost(self) -> None:
        """The client has left, or reset the stream, or there is no connection any more."""
        if not self._over:
            self._close()
            self._tell_lost()

    def _tell_lost(self) -> None:
        self.unregister_producer()
        if self.body is not None:
            self.body.lose(BodyLost("the client went away"))
        if self._tunnel is not None:
            self._tunnel.lost()  # the request ends when the target's side has closed, too
            return
        self._request_ended(client_left())
