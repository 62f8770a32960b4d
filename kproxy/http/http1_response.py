"""The half of a client's HTTP/1 connection that writes: the last `IResponseSink`.

`kproxy.http.http1.HTTP1Connection` is the other half, and says the rules of both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import Logger

from kproxy.errors import REASONS
from kproxy.http.bodies import ReceivedBody
from kproxy.http.chunked import encode_chunk, encode_last_chunk
from kproxy.http.files import FileSender
from kproxy.http.headers import Pairs
from kproxy.http.lifecycle import Lifecycle
from kproxy.sockets import reset_when_closed, send_now, unconfirmed

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from kproxy.http.site import Site
    from kproxy.threads import InThread

SMALL_WRITE = 16 * 1024
"""Up to here, joining a head and a body costs less than passing two buffers."""

_STATUS_LINES: Final = {
    code: (reason, b"HTTP/1.1 %d %b" % (code, reason)) for code, reason in REASONS.items()
}
"""Those that are sent nearly always."""
_NO_STATUS: Final = (None, b"")

_log = Logger()


def _address(sockname: Any) -> IAddress:
    """An address as asyncio tells it, as Twisted has it."""
    if isinstance(sockname, tuple) and len(sockname) == 2:
        return IPv4Address("TCP", *sockname)
    if isinstance(sockname, tuple):
        return IPv6Address("TCP", *sockname)
    return UNIXAddress(sockname or None)


class ResponseHalf:
    """Frames responses and writes them, one after the other.

    It is a protocol in asyncio's shape, but not of its class: what is compiled (`http1_response.pxd`)
    inherits from nothing that is not.
    """

    __slots__ = (
        "__weakref__",
        "_body",
        "_chunked",
        "_client",
        "_closing",
        "_head",
        "_host",
        "_keep_alive",
        "_left",
        "_no_body",
        "_producer",
        "_request",
        "_unsent",
        "_write_paused",
        "secure",
        "site",
        "transport",
    )

    def __init__(self, site: Site, secure: bool) -> None:
        self.site = site
        self.secure = secure
        self.transport: Any = None
        self._client: IAddress | None = None
        self._host: IAddress | None = None
        self._request: Lifecycle | None = None
        self._body: ReceivedBody | None = None
        self._closing = False
        # Of the response at hand:
        self._head = b""  # not written yet
        self._keep_alive = True
        self._chunked = False
        self._no_body = False
        self._left: int | None = None  # of Content-Length
        self._producer: Any = None
        self._write_paused = False
        self._unsent = 0

    def _request_done(self, request: Lifecycle) -> None:
        """The response has been written whole."""
        raise NotImplementedError

    # The response: the last IResponseSink.

    def begin(self) -> None:
        request: Lifecycle = self._request  # type: ignore[assignment]
        request.response_begun = True
        code = request.code
        fields = request.answered()
        if b"connection" in fields and b"close" in fields.pop(b"connection")[1].lower():
            self._keep_alive = False
        if self._body is not None and not self._body.complete and not self._body.started:
            self._keep_alive = False
        self._chunked = False
        self._left = None
        self._no_body = no_body = request.method == b"HEAD" or code == 304 or code == 204
        length = fields.get(b"content-length")
        if length is not None and code == 204:
            del fields[b"content-length"]
        extra = b""
        if length is not None:
            if not no_body:
                self._left = int(length[1])
        elif not no_body:
            if request.clientproto == b"HTTP/1.1":
                self._chunked = True
                extra = b"Transfer-Encoding: chunked\r\n"
            else:
                self._keep_alive = False
        if not self._keep_alive or self.site.draining:
            self._keep_alive = False
            extra += b"Connection: close\r\n"
        elif request.clientproto == b"HTTP/1.0":
            extra += b"Connection: keep-alive\r\n"
        reason, line = _STATUS_LINES.get(code, _NO_STATUS)
        if reason != request.code_message:
            line = b"HTTP/1.1 %d %b" % (code, request.code_message)
        lines = [line]
        lines += [field[0] for field in fields.values()]
        lines.append(extra + b"\r\n")
        self._head = b"\r\n".join(lines)

    def _may_write(self, size: int) -> bool:
        """Count what is written of the body; whether it goes to the client."""
        if self._no_body:
            return False
        self._request.sentLength += size  # type: ignore[union-attr]
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                _log.error("{request}: more body than Content-Length", request=self._request)
                self.abort()
                return False
        return True

    def write(self, data: bytes) -> None:
        size = len(data)
        if not self._may_write(size):
            return
        head = self._head
        if self._chunked:
            parts = encode_chunk(data)
            if head:
                self._head = b""
                parts[0] = head + parts[0]
            self.transport.writelines(parts)
        elif head:
            self._head = b""
            if size <= SMALL_WRITE:
                self.transport.write(head + data)
            else:
                self.transport.writelines((head, data))
        else:
            self.transport.write(data)

    def write_lent(self, data: memoryview) -> None:
        if self._chunked:
            self.write(bytes(data))
            return
        size = len(data)
        if not self._may_write(size):
            return
        head, self._head = self._head, b""
        if self.secure:
            self.transport.writelines((head, data))  # it is encrypted when this returns
            return
        # A transport holds on to what its socket does not take at once: it gets a copy of that alone.
        sent = send_now(self.transport, (head, data))
        if sent < len(head):
            self.transport.write(head[sent:])
            sent = len(head)
        if sent < len(head) + size:
            self.transport.write(bytes(data[sent - len(head) :]))

    def send_file(
        self, file: Any, length: int, in_thread: InThread, done: Callable[[], object]
    ) -> bool:
        """Let the kernel send a body from a file, where there is a socket to send it to as it is."""
        if self.secure or self._left != length or self.transport.get_extra_info("socket") is None:
            return False
        head, self._head = self._head, b""
        if head:
            self.transport.write(head)
        self._left = 0
        self._request.sentLength += length  # type: ignore[union-attr]
        self._producer = sender = FileSender(
            self.transport, file, length, in_thread, self.site.clock, done
        )
        sender.start()
        return True

    def finish(self) -> None:
        request: Lifecycle = self._request  # type: ignore[assignment]
        if self._left:
            _log.error("{request}: less body than Content-Length", request=request)
            self.abort()
            return
        rest = self._head
        self._head = b""
        if self._chunked:
            rest += encode_last_chunk(request.response_trailers)
        if rest:
            self.transport.write(rest)
        self._request_done(request)

    def flush(self) -> None:
        """Send the head now, although nothing of the body has come yet."""
        head, self._head = self._head, b""
        if head:
            self.transport.write(head)

    def stop(self) -> None:
        producer, self._producer = self._producer, None
        if isinstance(producer, FileSender):
            producer.stopProducing()  # its maker is this connection; others' makers stop them

    def register_producer(self, producer: Any) -> None:
        self._producer = producer
        if self._write_paused:
            producer.pauseProducing()

    def unregister_producer(self) -> None:
        self._producer = None

    def inform(self, code: int, headers: Pairs) -> None:
        lines = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
        self.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (code, REASONS.get(code, b""), lines))

    def abort(self) -> None:
        """Cut the connection now."""
        self._closing = True
        request = self._request
        if (
            request is not None
            and request.response_begun
            and request.code != 101
            and self._left is None
            and not self._chunked
        ):
            # A body that ends with its connection would seem to be whole.
            reset_when_closed(self.transport)
        self.transport.abort()

    # Back pressure.

    def pause_writing(self) -> None:
        self._write_paused = True
        self._unsent = self.transport.get_write_buffer_size()
        self.site.stalled_writes.add(self)
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume_writing(self) -> None:
        self._write_paused = False
        self.site.stalled_writes.remove(self)
        if self._closing and not self.transport.is_closing():
            self.site.lingering.add(self)
        if self._producer is not None:
            self._producer.resumeProducing()

    def write_overdue(self) -> None:
        """The client has not taken anything for long."""
        unsent = self.transport.get_write_buffer_size()
        if self.secure and not unsent:
            unsent = unconfirmed(self.transport)
        if unsent < self._unsent:
            self._unsent = unsent
            self.site.stalled_writes.add(self)
        else:
            self.abort()

    def linger_overdue(self) -> None:
        """The client has had the time to read the end of what it got, and to close."""
        unsent = unconfirmed(self.transport) if self.secure else 0
        if unsent:
            # Beneath TLS there may be bytes left that its transport does not tell of.
            self._unsent = unsent
            self.site.stalled_writes.add(self)
        else:
            self.abort()

    # Addresses, in Twisted's form.

    @property
    def client(self) -> IAddress:
        if self._client is None:
            self._client = _address(self.transport.get_extra_info("peername"))
        return self._client

    @property
    def host(self) -> IAddress:
        if self._host is None:
            self._host = _address(self.transport.get_extra_info("sockname"))
        return self._host
