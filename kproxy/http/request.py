"""The engine's request: Twisted's `Request` to all who look at it, but made lazily.

`twisted.web.server.Request` keeps nearly everything that resources use (cookies, sessions, redirects,
conditional headers, links); it is inherited. What costs time for every request is replaced: it is
made from a parsed head, its bodies stream, and what few requests need is made when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

from twisted.internet._producer_helpers import _PullToPush
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import datetimeToString, parse_qs
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from kproxy.errors import REASONS, answer_error
from kproxy.http.bodies import NO_BODY
from kproxy.http.headers import FieldMap, Pairs
from kproxy.http.heads import RequestHead
from kproxy.interfaces import IBody, IStreamingRequest

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

T = TypeVar("T")
_log = Logger()


class lazy(Generic[T]):  # noqa: N801 - it is written like a decorator
    """An attribute that is made when it is first asked for, and is a plain one from then on."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        value = self._make(instance)
        instance.__dict__[self._name] = value
        return value


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


@implementer(IStreamingRequest)
class Request(server.Request):
    """A request as it walks the tree of resources.

    @ivar query: what follows the ``?`` of the target, byte for byte; empty if there is none.
    """

    streams = True
    channel: Any
    requestHeaders: FieldMap
    code = 200
    code_message: Any = b"OK"
    finished = 0
    startedWriting = 0
    sentLength = 0
    form_pending = True
    body: IBody = NO_BODY
    response_begun = False
    _disconnected = False
    _replaced = False
    _parsePOSTFormSubmission = False

    def __init__(self, stream: Stream, site: Any, head: RequestHead) -> None:
        self.channel = stream
        self.site = site
        (
            self.method,
            self.uri,
            self.clientproto,
            self.requestHeaders,
            _,
            _,
            _,
            _,
            self.upgrade,
        ) = head
        self.path, _, self.query = self.uri.partition(b"?")
        self.client = stream.client
        self.host = stream.host
        self.notes: dict[str, object] = {}
        self._callbacks: list[Any] = []
        self._sink = stream

    # What is made only when asked for.

    responseHeaders = lazy(lambda self: FieldMap())
    response_trailers: lazy[Pairs] = lazy(lambda self: [])
    content = lazy(lambda self: BytesIO())
    cookies: lazy[list[bytes]] = lazy(lambda self: [])
    notifications: lazy[list[Deferred[None]]] = lazy(lambda self: [])
    prepath: lazy[list[bytes]] = lazy(lambda self: [])
    sitepath: lazy[list[bytes]] = lazy(lambda self: [])
    postpath = lazy(lambda self: [unquote_to_bytes(s) for s in self.path[1:].split(b"/")])
    args = lazy(lambda self: parse_qs(self.query, True))
    transport = lazy(lambda self: self.channel.transport)
    _adapterCache: lazy[dict[Any, Any]] = lazy(lambda self: {})

    @lazy
    def received_cookies(self: Any) -> dict[bytes, bytes]:
        self.__dict__["received_cookies"] = {}
        self.parseCookies()
        return self.__dict__["received_cookies"]  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        uri = self.uri.decode("ascii", "backslashreplace")
        return f"<Request {self.method.decode('ascii', 'backslashreplace')} {uri}>"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def getHeader(self, key: bytes | str) -> Any:
        field = self.requestHeaders.fields.get(key)  # type: ignore[arg-type]  # str: not there
        if field is not None:
            return field[-1]
        values = self.requestHeaders.getRawHeaders(key)
        return values[-1] if values else None

    def isSecure(self) -> bool:
        return bool(self.channel.secure)

    # The response.

    def write(self, data: bytes) -> None:
        if self.finished:
            if self._replaced:
                return
            raise RuntimeError("Request.write called on a request after Request.finish was called.")
        if self._disconnected or self._inFakeHead:
            return
        if not self.startedWriting:
            self.startedWriting = 1
            self._complete_headers()
            self._sink.begin()
        if data:
            self._sink.write(data)
        else:
            self.channel.flush()

    def _complete_headers(self) -> None:
        if self.code_message is None:
            self.code_message = REASONS.get(self.code, b"Unknown")
        if self.defaultContentType is not None and self.code not in (204, 304):
            fields = self.responseHeaders.fields
            if b"content-type" not in fields and fields.get(b"content-length", b"  ")[1] != b"0":
                self.responseHeaders.setRawHeaders(b"content-type", [self.defaultContentType])
        for cookie in self.__dict__.get("cookies", ()):
            self.responseHeaders.addRawHeader(b"set-cookie", cookie)

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
            self.startedWriting = 1
            self._complete_headers()
            self._sink.begin()
        self.finished = 1
        self._sink.finish()

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        self.code = code
        self.code_message = REASONS.get(code, b"Unknown") if message is None else message

    def setLastModified(self, when: float) -> Any:
        result = super().setLastModified(when)  # type: ignore[no-untyped-call]
        self.responseHeaders.setRawHeaders(b"last-modified", [datetimeToString(self.lastModified)])
        return result

    def setETag(self, etag: bytes) -> Any:
        if etag:
            self.responseHeaders.setRawHeaders(b"etag", [etag])
        return super().setETag(etag)  # type: ignore[no-untyped-call]

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if not streaming:
            producer = _PullToPush(producer, self)
            producer.startStreaming()
            self._pull = producer
        self.producer = producer
        self._sink.register_producer(producer)

    def unregisterProducer(self) -> None:
        self.producer = None
        pull = self.__dict__.pop("_pull", None)
        if pull is not None:
            pull.stopStreaming()
        self._sink.unregister_producer()

    def loseConnection(self) -> None:
        self.abort()

    # IStreamingRequest

    def on_finish(self, callback: Any) -> None:
        self._callbacks.append(callback)

    def notifyFinish(self) -> Deferred[None]:
        if "notifications" not in self.__dict__:
            self.on_finish(_fire_notifications)
        self.notifications.append(Deferred())
        return self.notifications[-1]

    def add_filter(self, make: Callable[[Any, Any], Any]) -> None:
        self._sink = make(self, self._sink)

    def begun(self) -> bool:
        return self.response_begun

    def restart_response(self) -> None:
        if self.startedWriting:
            self.startedWriting = 0
            self.finished = 0
            self._replaced = True
            self._sink.stop()
            self._sink = self.channel
        self.__dict__.pop("responseHeaders", None)
        self.__dict__.pop("response_trailers", None)
        self.__dict__.pop("cookies", None)

    def inform(self, code: int, headers: Pairs) -> None:
        if not self._disconnected and not self.response_begun and self.clientproto != b"HTTP/1.0":
            self.channel.inform(code, headers)

    def switch_protocols(self, code: int, headers: Pairs, transport: Any, early: bytes) -> bool:
        self.setResponseCode(code)
        self.responseHeaders = FieldMap()
        for name, value in headers:
            self.responseHeaders.add_pair(name, value)
        switched: bool = self.channel.switch_protocols(transport, early)
        return switched

    def abort(self) -> None:
        if not self._disconnected:
            self.channel.abort()

    # What the connection tells.

    def render(self, resource: Any) -> None:
        """Let a resource answer. An error of it is told in the log, and as little as possible of it
        to the client."""
        try:
            result = resource.render(self)
            if result is not NOT_DONE_YET:
                if not isinstance(result, bytes):
                    raise TypeError(f"{resource!r} returned {type(result).__name__}, not bytes")
                if self.method == b"HEAD":
                    if result:
                        self.responseHeaders.setRawHeaders(b"content-length", [b"%d" % len(result)])
                    result = b""
                elif not self.startedWriting:
                    self.responseHeaders.setRawHeaders(b"content-length", [b"%d" % len(result)])
                self.write(result)
                self.finish()
        except Exception:
            _log.failure("{request} failed", request=self)
            if not self.finished and not self._disconnected:
                answer_error(self, 500)

    def ended(self, failure: Failure | None) -> None:
        """The response has been written, or (with a failure) will never be."""
        if failure is not None:
            self._disconnected = True
            if self.producer is not None:
                self.producer.stopProducing()
            self._sink.stop()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self, failure)
        # Filters and callbacks know the request, and it them; what is not a cycle needs no collector.
        self._sink = self.channel


def _fire_notifications(request: Request, failure: Failure | None) -> None:
    for notification in request.notifications:
        if failure is None:
            notification.callback(None)
        else:
            notification.errback(failure)


def client_left() -> Failure:
    """Why a request ended that the client did not wait for."""
    return Failure(ConnectionDone("the client went away"))
