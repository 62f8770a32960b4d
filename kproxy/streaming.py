"""`IStreamingRequest` for any request, so that one wrapper works in kproxy's engine and in a stock Site.

The engine's own requests offer it natively. A request of a stock ``twisted.web.server.Site`` is taught
it in place, once: its body has all arrived (in ``content``), and what is written to it passes through
the filters first.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from twisted.internet._producer_helpers import _PullToPush
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from zope.interface import alsoProvides, implementer

from kproxy.http.headers import Pairs
from kproxy.http.lifecycle import Ended, Lifecycle, tell
from kproxy.interfaces import IResponseSink, IStreamingRequest
from kproxy.stored import FileBody


def streaming(request: Any) -> Any:
    """The request, offering `IStreamingRequest`. It is the same object."""
    if not isinstance(request, Lifecycle) and not getattr(request, "streams", False):
        _StockRequest(request)
    return request


@implementer(IResponseSink)
class _StockRequest:
    """What a stock request lacks; the last sink of its filters."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._write, self._finish = request.write, request.finish
        self._register, self._unregister = request.registerProducer, request.unregisterProducer
        self._sink: Any = self
        self._begun = False
        self._began_filters = False
        self._finished = False
        self._producer: Any = None
        self._pull: Any = None
        self._callbacks: list[Ended] = []
        request.notifyFinish().addCallbacks(lambda _: self._ended(None), self._ended)
        content = request.content
        if content is None:
            length = 0
        else:
            length = content.seek(0, 2)
            content.seek(0)
        request.body = FileBody(content, length)
        request.streams = True
        request.form_pending = False
        request.upgrade = b""
        request.response_trailers = []
        request.notes = {}
        for name in ("on_finish", "add_filter", "begun", "restart_response", "inform"):
            setattr(request, name, getattr(self, name))
        request.switch_protocols = self.switch_protocols
        request.abort = self.abort
        request.query = request.uri.partition(b"?")[2]
        request.began = perf_counter_ns()
        request.took = 0
        alsoProvides(request, IStreamingRequest)

    # What the request gains.

    def on_finish(self, callback: Ended) -> None:
        self._callbacks.append(callback)

    def _ended(self, failure: Failure | None) -> None:
        self._request.took = perf_counter_ns() - self._request.began
        if failure is not None:
            if self._producer is not None:
                self._producer.stopProducing()
            self._sink.stop()
        callbacks, self._callbacks = self._callbacks, []
        tell(callbacks, self._request, failure)

    def add_filter(self, make: Callable[[Any, Any], Any]) -> None:
        request = self._request
        if self._sink is self:
            request.write, request.finish = self._filtered_write, self._filtered_finish
            request.registerProducer = self._filtered_register
            request.unregisterProducer = self._filtered_unregister
        self._sink = make(request, self._sink)

    def _filtered_register(self, producer: Any, is_push: bool) -> None:
        if not is_push:
            self._pull = producer = _PullToPush(producer, self._request)
            producer.startStreaming()
        self._producer = producer
        self._sink.register_producer(producer)

    def _filtered_unregister(self) -> None:
        self._producer = None
        if self._pull is not None:
            self._pull.stopStreaming()
            self._pull = None
        self._sink.unregister_producer()

    def _filtered_write(self, data: bytes) -> None:
        if self._request._disconnected:
            return
        if not self._began_filters:
            self._began_filters = True
            self._complete_headers()
            self._sink.begin()
        if data:
            self._sink.write(data)

    def _complete_headers(self) -> None:
        """What a stock request adds only when it writes, which is behind the filters."""
        request = self._request
        headers = request.responseHeaders
        if request.lastModified is not None:
            when = datetimeToString(request.lastModified)
            headers.setRawHeaders(b"last-modified", [when])
        if request.etag is not None:
            headers.setRawHeaders(b"etag", [request.etag])
        request.lastModified = request.etag = None
        if (
            request.defaultContentType is not None
            and not headers.hasHeader(b"content-type")
            and headers.getRawHeaders(b"content-length") != [b"0"]
            and request.code not in (204, 304)
        ):
            headers.setRawHeaders(b"content-type", [request.defaultContentType])

    def _filtered_finish(self) -> None:
        if self._request._disconnected:
            self._finish()  # It raises the error that a stock request raises.
        elif not self._finished:
            self._finished = True
            self._filtered_write(b"")
            self._sink.finish()

    def begun(self) -> bool:
        return self._begun or bool(getattr(self._request, "startedWriting", 0))

    def restart_response(self) -> None:
        request = self._request
        if self._began_filters:
            self._began_filters = self._finished = False
            self._sink.stop()
            self._sink = self
            request.write, request.finish = self._replaced_write, self._replaced_finish
            request.registerProducer, request.unregisterProducer = self._register, self._unregister
        for name, _ in list(request.responseHeaders.getAllRawHeaders()):
            request.responseHeaders.removeHeader(name)
        request.cookies.clear()
        request.lastModified = request.etag = None

    def _replaced_write(self, data: bytes) -> None:
        if not self._request.finished:  # What comes then is of the response that was replaced.
            self._write(data)

    def _replaced_finish(self) -> None:
        if not self._request.finished:
            self._finish()

    def inform(self, code: int, headers: Pairs) -> None:
        """A stock channel has no way to send an interim response."""

    def switch_protocols(self, code: int, headers: Pairs, transport: Any, early: bytes) -> bool:
        return False

    def abort(self) -> None:
        self._request.transport.abortConnection()

    # The last sink.

    def begin(self) -> None:
        self._begun = True
        self._write(b"")

    def write(self, data: bytes) -> None:
        if self._request.method != b"HEAD" and self._request.code not in (204, 304):
            self._write(data)

    def finish(self) -> None:
        self._finish()

    def stop(self) -> None:
        pass

    def register_producer(self, producer: Any) -> None:
        self._producer = None  # The channel stops it from now on.
        self._register(producer, True)

    def unregister_producer(self) -> None:
        self._unregister()
