"""A client's HTTP/1 connection: bytes to requests, responses to bytes.

The rules that keep it right:

1. One request at a time. What a client sends ahead (pipelining) waits in `_ahead`, which is bounded
   by not reading on, and is looked at when the response before it has been written.
2. A request is rendered when its head is complete. Its body flows through a `ReceivedBody`, which
   decides whether the connection is read.
3. A connection is used again only if both request and response ended where their framing said.
   A response that is shorter or longer than its Content-Length cuts the connection.
4. An answer that may come before its request was read ends with a lingering close: a close with bytes
   unread resets the connection, and the reset destroys the answer on its way (RFC 9112 section 9.6).

It is a protocol in asyncio's shape, since the fastest transports (uvloop's) are that;
`kproxy.network` runs it over Twisted's transports too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kproxy.errors import answer_error
from kproxy.http.bodies import BodyLost, ReceivedBody
from kproxy.http.chunked import BadChunk
from kproxy.http.heads import MAX_HEAD, BadHead, RequestHead, refuse_early
from kproxy.http.http1_response import ResponseHalf
from kproxy.http.lifecycle import Lifecycle
from kproxy.http.request import Request, client_left
from kproxy.http.tunnel import tie

if TYPE_CHECKING:
    from kproxy.http.site import Site

MAX_AHEAD = 64 * 1024
"""Bytes of pipelined requests that wait here; more wait in the kernel."""


class HTTP1Connection(ResponseHalf):
    """The server side of one connection."""

    __slots__ = (
        "_ahead",
        "_checked",
        "_heads",
        "_reading",
        "_rendering",
        "_waiting",
    )

    def __init__(self, site: Site, secure: bool) -> None:
        super().__init__(site, secure)
        self._heads = site.heads
        self._waiting = site.waiting
        self._ahead: bytes | bytearray = b""
        self._checked = 0
        self._reading = True
        self._rendering = False

    # What the transport tells.

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.site.opened(self)
        self._waiting.add(self)

    def data_received(self, data: bytes) -> None:
        if self._request is None and not self._closing:
            if self._ahead:
                if isinstance(self._ahead, bytes):
                    self._ahead = bytearray(self._ahead)
                self._ahead += data
            else:
                self._ahead = data
            self._next_requests()
        elif self._closing:
            pass  # read and forgotten: the lingering close
        elif self._body is not None and not self._body.complete:
            self._feed_body(data)
        else:
            self._ahead = bytes(self._ahead) + data
            if len(self._ahead) > MAX_AHEAD:
                self._read(False)

    def eof_received(self) -> None:
        """The client has closed its side. It does not wait for an answer then, as far as can be
        told: most clients close both sides at once."""
        self._client_left()

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self.site.closed(self)
        self._client_left()

    # Time limits.

    def head_overdue(self) -> None:
        """The head of the next request has not come in time."""
        if self._ahead:
            self._refuse(BadHead("the headers did not come in time", 408))
        else:
            self._close(linger=False)

    def body_overdue(self) -> None:
        """The body of the request has stopped moving."""
        request = self._request
        if request is None or self._body is None or self._body.complete or not self._reading:
            return
        if not self._body.started:
            self.site.stalled_reads.add(self)  # nobody has asked for it yet
            return
        self._body.lose(BodyLost("the request's body stopped coming"))
        if self._request is request and not request.finished:
            self._keep_alive = False
            answer_error(request, 408)

    # Requests.

    def _next_requests(self) -> None:
        """Render what has come, as long as each is answered at once."""
        if self._rendering:
            return
        self._rendering = True
        try:
            while self._request is None and self._ahead and not self._closing:
                checked = self._checked
                if checked and self._ahead.find(b"\r\n\r\n", max(0, checked - 3)) < 0:
                    end = b""
                else:
                    head, end, rest = bytes(self._ahead).partition(b"\r\n\r\n")
                if end:
                    self._checked = 0
                    self._ahead = b""
                    self._request_head(head, rest)
                elif not self._await_rest():
                    break
        finally:
            self._rendering = False

    def _await_rest(self) -> bool:
        """Look at an incomplete head. Whether there is something to go on with at once."""
        ahead = self._ahead
        if ahead[:2] == b"\r\n":
            # RFC 9112 section 2.2: an empty line before a request is to be ignored.
            self._ahead = ahead[2:]
            return True
        if len(ahead) < 2048 or len(ahead) - self._checked > 4096:
            error = refuse_early(ahead)
            if error is not None:
                self._refuse(error)
                return False
            self._checked = len(ahead)
        return False

    def _request_head(self, text: bytes, rest: bytes) -> None:
        """Render a request.

        @param text: the head, without its last CRLFCRLF.
        @param rest: what follows it.
        """
        if text[:2] == b"\r\n":
            text = text[2:]  # as in `_await_rest`
        if not text:
            self._ahead = rest
            return
        site = self.site
        try:
            if len(text) > MAX_HEAD:
                raise refuse_early(text) or BadHead("the headers are too long", 431)
            head = self._heads.request(text)
        except BadHead as error:
            self._refuse(error)
            return
        self._waiting.remove(self)
        self._request = request = Request(self, site, head)
        self._keep_alive = head.keep_alive
        if head.length:
            self._body = body = ReceivedBody(self, head.length, head.expects_continue)
            request.body = body
            if rest:
                try:
                    unused = body.feed(rest)
                except BadChunk as error:
                    self._body = None
                    self._refuse(BadHead(str(error)))
                    return
                self._fed(body, unused)
            else:
                site.stalled_reads.add(self)
        elif rest:
            self._ahead = rest
        request.render(site.resource)

    def _refuse(self, error: BadHead) -> None:
        """Answer what could not be read as a request; nothing that follows it can be trusted."""
        self._waiting.remove(self)
        self._ahead = b""
        self._keep_alive = False
        head = RequestHead(b"", b"", b"HTTP/1.1", {}, b"", 0, False, False, b"")
        self._request = request = Request(self, self.site, head)
        request.notes["refusal"] = error
        request.render(self.site.refusals)

    def _feed_body(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        try:
            unused = body.feed(data)
        except BadChunk as error:
            self._keep_alive = False
            request = self._request
            body.lose(BodyLost(str(error)))
            if self._request is request and request is not None and not request.finished:
                answer_error(request, 400)
            return
        self._fed(body, unused)

    def _fed(self, body: ReceivedBody, unused: bytes) -> None:
        if body.complete:
            self.site.stalled_reads.remove(self)
        else:
            self.site.stalled_reads.add(self)
        if unused:
            self._ahead = unused
            if self._request is None:
                self._next_requests()

    # What an ArrivingBody asks.

    def want_body(self, wanted: bool) -> None:
        self._read(wanted)
        if wanted:
            self.site.stalled_reads.add(self)
        else:
            self.site.stalled_reads.remove(self)

    def send_continue(self) -> None:
        if not self._request.response_begun:  # type: ignore[union-attr]
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def consumed(self, size: int) -> None:
        """Nobody is told: there is no window, and `want_body` holds the client back."""

    def _read(self, wanted: bool) -> None:
        if wanted != self._reading and not self.transport.is_closing():
            self._reading = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def switch_protocols(self, target: Any, early: bytes) -> bool:
        request: Lifecycle = self._request  # type: ignore[assignment]
        request.response_begun = True
        lines = b"".join([line + b"\r\n" for line in request.responseHeaders.lines()])
        self.transport.write(
            b"HTTP/1.1 %d %b\r\n%b\r\n" % (request.code, request.code_message, lines) + early
        )
        ahead, self._ahead = self._ahead, b""

        def closed(received: int) -> None:
            request.sentLength = received + len(early)
            self.site.closed(self)
            self._request = None
            request.ended(None)

        tie(self.transport, target, closed)
        self.site.stalled_writes.remove(self)
        if self._write_paused:
            target.pause_reading()
        if ahead:
            target.write(bytes(ahead))
        return True

    def close_when_idle(self) -> None:
        """Close once the request at hand, if there is one, has been answered; an upgraded
        connection, whose end nobody can foresee, at once."""
        request = self._request
        if request is not None and request.response_begun and request.code == 101:
            self.transport.close()
        elif request is None and not self._closing:
            self._close(linger=False)

    # The end of a request.

    def _request_done(self, request: Lifecycle) -> None:
        body = self._body
        unread = body is not None and not body.complete
        self._request = None
        self._body = None
        self._producer = None
        if unread:
            body.stop()  # type: ignore[union-attr]
        if body is not None:
            self.site.stalled_reads.remove(self)
        request.ended(None)
        if self._keep_alive and not unread and not self.site.draining:
            self._waiting.add(self)
            if not self._reading:
                self._read(True)
            if self._ahead:
                self._next_requests()
        else:
            self._close(linger=unread or bool(self._ahead) or "refusal" in request.notes)

    def _close(self, linger: bool) -> None:
        """Close when all has been sent; a client that does not take it is cut off in the end."""
        self._closing = True
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            self._unsent = unsent
            self.site.stalled_writes.add(self)
        if self.secure:
            # TLS has no half-close. Its close says goodbye, and reads on until the client does too.
            if not unsent:
                self.site.lingering.add(self)
            self.transport.close()
        elif not linger:
            self.transport.close()
        elif not self.transport.is_closing():
            if not unsent:
                self.site.lingering.add(self)
            self._read(True)
            self.transport.write_eof()

    def _client_left(self) -> None:
        request = self._request
        if request is None:
            return
        self._request = None
        self._closing = True
        body, self._body = self._body, None
        failure = client_left()
        if body is not None:
            body.lose(BodyLost("the client went away"))
        request.ended(failure)
