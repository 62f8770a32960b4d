"""What happens to every request, from its head to its end; and nothing that only some need.

`kproxy.http.request.Request` adds the rest of Twisted's interface. This part stands apart because the
compiled build makes a C structure of it (`lifecycle.pxd`): each request touches most of it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet._producer_helpers import _PullToPush
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http_headers import Headers

from kproxy.errors import REASONS
from kproxy.http.bodies import NO_BODY
from kproxy.http.headers import Field, FieldMap, Pairs
from kproxy.http.heads import RequestHead
from kproxy.interfaces import IBody

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

Ended = Callable[[Any, Failure | None], object]
"""Hears of a request's end; see `kproxy.interfaces.IStreamingRequest.on_finish`."""

_DEFAULT_TYPE: bytes | None = server.Request.defaultContentType
_log = Logger()


class Stream(Protocol):
    """What a request asks of the connection, or the HTTP/2 stream, that it came on.

    It is the last `IResponseSink`; the status and headers are those of the request.
    """

    secure: bool
    transport: Any

    @property
    def client(self) -> IAddress: ...
    @property
    def host(self) -> IAddress: ...

    def begin(self) -> None: ...
    def write(self, data: bytes) -> None: ...
    def flush(self) -> None: ...
    def finish(self) -> None: ...
    def stop(self) -> None: ...
    def register_producer(self, producer: Any) -> None: ...
    def unregister_producer(self) -> None: ...
    def inform(self, code: int, headers: Pairs) -> None: ...
    def switch_protocols(self, transport: Any, early: bytes) -> bool: ...
    def abort(self) -> None: ...


class Lifecycle:
    """A request that is rendered once, answered once, and ends once.

    @ivar fields: the headers of the request; `requestHeaders` is the same as Twisted has it.
    @ivar query: what follows the ``?`` of the target, byte for byte; empty if there is none.
    @ivar began: when its head had come; nanoseconds of a clock that never jumps.
    @ivar took: nanoseconds from then to its end; 0 before that.
    """

    __slots__ = (
        "_callbacks",
        "_cookies",
        "_disconnected",
        "_inFakeHead",
        "_pull",
        "_replaced",
        "_request_headers",
        "_response_fields",
        "_response_headers",
        "_sink",
        "_trailers",
        "began",
        "body",
        "channel",
        "client",
        "clientproto",
        "code",
        "code_message",
        "defaultContentType",
        "fields",
        "finished",
        "host",
        "method",
        "notes",
        "path",
        "producer",
        "query",
        "response_begun",
        "sentLength",
        "site",
        "startedWriting",
        "took",
        "upgrade",
        "uri",
    )

    def __init__(self, stream: Stream, site: Any, head: RequestHead) -> None:
        self.began = perf_counter_ns()
        self.took = 0
        self.channel: Any = stream
        self.site = site
        self.method = head.method
        self.uri = head.target
        self.clientproto = head.version
        self.fields = head.fields
        self.upgrade = head.upgrade
        self.path, _, self.query = self.uri.partition(b"?")
        self.client = stream.client
        self.host = stream.host
        self.body: IBody = NO_BODY
        self.notes: dict[str, object] = {}
        self.code = 200
        self.code_message: Any = b"OK"
        self.defaultContentType: bytes | None = _DEFAULT_TYPE
        self.finished = 0
        self.startedWriting = 0
        self.sentLength = 0
        self.response_begun = False
        self.producer: Any = None
        self._callbacks: list[Ended] = []
        self._sink: Any = stream
        self._request_headers: FieldMap | None = None
        self._response_headers: FieldMap | None = None
        self._response_fields: dict[bytes, Field] | None = None
        self._cookies: list[bytes] | None = None
        self._trailers: Pairs | None = None
        self._pull: _PullToPush | None = None
        self._disconnected = False
        self._replaced = False
        self._inFakeHead = False

    # What is made only when asked for.

    @property
    def requestHeaders(self) -> FieldMap:
        if self._request_headers is None:
            self._request_headers = FieldMap.of(self.fields)
        return self._request_headers

    @requestHeaders.setter
    def requestHeaders(self, headers: Headers) -> None:
        self._request_headers = own = _field_map(headers)
        self.fields = own.fields

    @property
    def responseHeaders(self) -> FieldMap:
        if self._response_headers is None:
            self._response_headers = FieldMap.of(self.answered())
        return self._response_headers

    @responseHeaders.setter
    def responseHeaders(self, headers: Headers) -> None:
        self._response_headers = own = _field_map(headers)
        self._response_fields = own.fields

    def answered(self) -> dict[bytes, Field]:
        """The headers of the response; `responseHeaders` is the same as Twisted has it."""
        if self._response_fields is None:
            self._response_fields = {}
        return self._response_fields

    def answer_with(self, fields: dict[bytes, Field]) -> None:
        """Set all headers of the response."""
        self._response_fields = fields
        self._response_headers = None

    @property
    def response_trailers(self) -> Pairs:
        if self._trailers is None:
            self._trailers = []
        return self._trailers

    @response_trailers.setter
    def response_trailers(self, trailers: Pairs) -> None:
        self._trailers = trailers

    @property
    def cookies(self) -> list[bytes]:
        if self._cookies is None:
            self._cookies = []
        return self._cookies

    @cookies.setter
    def cookies(self, cookies: list[bytes]) -> None:
        self._cookies = cookies

    # The request.

    def getHeader(self, key: bytes | str) -> Any:
        field = self.fields.get(key)  # type: ignore[arg-type]  # str: not there
        if field is not None:
            return field[-1]
        values = self.requestHeaders.getRawHeaders(key)
        return values[-1] if values else None

    def getClientAddress(self) -> IAddress:
        return self.client

    def getHost(self) -> IAddress:
        return self.host

    def isSecure(self) -> bool:
        return bool(self.channel.secure)

    # The response.

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        self.code = code
        self.code_message = REASONS.get(code, b"Unknown") if message is None else message

    def add_filter(self, make: Callable[[Any, Any], Any]) -> None:
        self._sink = make(self, self._sink)

    def maker_for(self, sink: Any) -> Any:
        """The producer of the response, if nobody stands between it and a sink; else None."""
        return self.producer if self._sink is sink else None

    def begun(self) -> bool:
        return self.response_begun

    def write(self, data: bytes) -> None:
        if self.finished:
            if self._replaced:
                return
            raise RuntimeError("Request.write called on a request after Request.finish was called.")
        if self._disconnected or self._inFakeHead:
            return
        if not self.startedWriting:
            self._begin()
        if data:
            self._sink.write(data)
        else:
            self.channel.flush()

    def write_lent(self, data: memoryview) -> None:
        """As `write`, for memory that is only lent; see `IResponseSink`."""
        if self.finished or self._disconnected or self._inFakeHead:
            self.write(bytes(data))
            return
        if not self.startedWriting:
            self._begin()
        lend(self._sink, data)

    def finish(self) -> None:
        if self._disconnected:
            raise RuntimeError(
                "Request.finish called on a request after its connection was lost; "
                "use Request.notifyFinish to keep track of this."
            )
        if self.finished:
            if self._replaced:
                return
            raise RuntimeError("Request.finish called twice.")
        if not self.startedWriting and not self._inFakeHead:
            self._begin()
        self.finished = 1
        self._sink.finish()

    def _begin(self) -> None:
        """Status and headers are decided, but for what is to be completed here."""
        self.startedWriting = 1
        if self.code_message is None:
            self.code_message = REASONS.get(self.code, b"Unknown")
        if self.defaultContentType is not None and self.code not in (204, 304):
            fields = self.answered()
            if b"content-type" not in fields and fields.get(b"content-length", b"  ")[1] != b"0":
                self.responseHeaders.setRawHeaders(b"content-type", [self.defaultContentType])
        if self._cookies is not None:
            for cookie in self._cookies:
                self.responseHeaders.addRawHeader(b"set-cookie", cookie)
        self._sink.begin()

    def restart_response(self) -> None:
        if self.startedWriting:
            self.startedWriting = 0
            self.finished = 0
            self._replaced = True
            self._sink.stop()
            self._sink = self.channel
        self._response_headers = None
        self._response_fields = None
        self._trailers = None
        self._cookies = None

    def abort(self) -> None:
        if not self._disconnected:
            self.channel.abort()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if not streaming:
            producer = _PullToPush(producer, self)
            producer.startStreaming()
            self._pull = producer
        self.producer = producer
        self._sink.register_producer(producer)

    def unregisterProducer(self) -> None:
        self.producer = None
        if self._pull is not None:
            self._pull.stopStreaming()
            self._pull = None
        self._sink.unregister_producer()

    # The end.

    def on_finish(self, callback: Ended) -> None:
        self._callbacks.append(callback)

    def ended(self, failure: Failure | None) -> None:
        """The response has been written, or (with a failure) will never be."""
        # Once, for all who want to know: to ask for the time takes as long as much of what they do.
        self.took = perf_counter_ns() - self.began
        if failure is not None:
            self._disconnected = True
            if self.producer is not None:
                self.producer.stopProducing()
            self._sink.stop()
        callbacks = self._callbacks
        self._callbacks = []
        tell(callbacks, self, failure)
        # Filters and callbacks know the request, and it them; what is not a cycle needs no collector.
        self._sink = self.channel


def tell(callbacks: list[Ended], request: Any, failure: Failure | None) -> None:
    """Call all who want to know of a request's end. One that fails keeps nobody else waiting."""
    for callback in callbacks:
        try:
            callback(request, failure)
        except Exception:
            _log.failure("{request}: what was to be done at its end failed", request=request)


# The quick way to the headers of any request: a wrapper also gets those of a stock Site, whose headers
# become a `FieldMap` then.


def request_fields(request: Any) -> dict[bytes, Field]:
    """The headers of a request as fields, to be read and changed in place."""
    if isinstance(request, Lifecycle):
        own: Lifecycle = request
        return own.fields
    request.requestHeaders = headers = _field_map(request.requestHeaders)
    return headers.fields


def response_fields(request: Any) -> dict[bytes, Field]:
    """The headers of a response as fields, to be read and changed in place."""
    if isinstance(request, Lifecycle):
        own: Lifecycle = request
        return own.answered()
    request.responseHeaders = headers = _field_map(request.responseHeaders)
    return headers.fields


def answer_with(request: Any, fields: dict[bytes, Field]) -> None:
    """Set all headers of a response."""
    if isinstance(request, Lifecycle):
        own: Lifecycle = request
        own.answer_with(fields)
    else:
        request.responseHeaders = FieldMap.of(fields)


def lend(sink: Any, data: bytes | memoryview) -> None:
    """Write to a sink, or to a request.

    @param data: a view is of memory that is only lent (see `IResponseSink`); who does not say that it
        can take such a thing gets a copy.
    """
    if isinstance(data, bytes):
        sink.write(data)
        return
    write_lent = getattr(sink, "write_lent", None)
    if write_lent is None:
        sink.write(bytes(data))
    else:
        write_lent(data)


def _field_map(headers: Headers) -> FieldMap:
    if isinstance(headers, FieldMap):
        return headers
    return FieldMap(dict(headers.getAllRawHeaders()))
