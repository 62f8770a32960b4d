"""The engine's request: Twisted's `Request` to all who look at it, but made lazily.

`twisted.web.server.Request` keeps nearly everything that resources use (cookies, sessions, redirects,
conditional headers, links); it is inherited. What costs time for every request is replaced by
`kproxy.http.lifecycle`: it is made from a parsed head, and its bodies stream. What few requests need is
made when asked for, here.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import datetimeToString, parse_qs
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from kproxy.errors import answer_error
from kproxy.http.headers import FieldMap, Pairs
from kproxy.http.lifecycle import Lifecycle
from kproxy.interfaces import IStreamingRequest

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


@implementer(IStreamingRequest)
class Request(Lifecycle, server.Request):  # type: ignore[misc]
    """A request as it walks the tree of resources."""

    streams = True
    form_pending = True
    _parsePOSTFormSubmission = False

    # What is made only when asked for.

    content = lazy(lambda self: BytesIO())
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

    # The response.

    def setLastModified(self, when: float) -> Any:
        result = super().setLastModified(when)  # type: ignore[no-untyped-call]
        self.responseHeaders.setRawHeaders(b"last-modified", [datetimeToString(self.lastModified)])
        return result

    def setETag(self, etag: bytes) -> Any:
        if etag:
            self.responseHeaders.setRawHeaders(b"etag", [etag])
        return super().setETag(etag)  # type: ignore[no-untyped-call]

    def loseConnection(self) -> None:
        self.abort()

    # IStreamingRequest

    def notifyFinish(self) -> Deferred[None]:
        if "notifications" not in self.__dict__:
            self.on_finish(_fire_notifications)
        self.notifications.append(Deferred())
        return self.notifications[-1]

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


def _fire_notifications(request: Request, failure: Failure | None) -> None:
    for notification in request.notifications:
        if failure is None:
            notification.callback(None)
        else:
            notification.errback(failure)


def client_left() -> Failure:
    """Why a request ended that the client did not wait for."""
    return Failure(ConnectionDone("the client went away"))
