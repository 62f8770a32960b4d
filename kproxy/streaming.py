"""`IStreamingRequest` for any request, so that one wrapper works in kproxy's engine and in a stock Site.

The engine's own requests offer it natively. A request of a stock ``twisted.web.server.Site`` is taught
it in place, once: its body has all arrived (in ``content``), and what is written to it passes through
the filters first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from kproxy.interfaces import IBody, IBodyReceiver, IResponseSink, IStreamingRequest

Pairs = list[tuple[bytes, bytes]]
PIECE = 64 * 1024


def streaming(request: Any) -> Any:
    """The request, offering `IStreamingRequest`. It is the same object."""
    if not getattr(request, "streams", False):
        _StockRequest(request)
    return request


@implementer(IBody)
class FileBody:
    """A body that is all there, in a seekable file; it can be sent again and again.

    It reads at the receiver's pace. A receiver that pauses in `body_data` is asked nothing more until
    it resumes.
    """

    replayable = True

    def __init__(self, file: Any, length: int, trailers: Pairs | None = None) -> None:
        self.length = length
        self._file = file
        self._trailers = trailers or []
        self._receiver: IBodyReceiver | None = None
        self._paused = False
        self._position = 0
        self._sending = False

    def start(self, receiver: IBodyReceiver) -> None:
        self._receiver = receiver
        self._position = 0
        self._paused = False
        self._send()

    def _send(self) -> None:
        if self._sending:
            return
        self._sending = True
        try:
            while self._receiver is not None and not self._paused:
                self._file.seek(self._position)
                data = self._file.read(min(PIECE, self.length - self._position))
                if data:
                    self._position += len(data)
                    self._receiver.body_data(data)
                else:
                    receiver, self._receiver = self._receiver, None
                    receiver.body_end(self._trailers)
        finally:
            self._sending = False

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._send()

    def stop(self) -> None:
        self._receiver = None


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
        content = request.content
        if content is None:
            length = 0
        else:
            length = content.seek(0, 2)
            content.seek(0)
        request.body = FileBody(content, length)
        request.streams = True
        request.body_pending = False
        request.upgrade = b""
        request.response_trailers = []
        request.notes = {}
        for name in ("on_finish", "add_filter", "begun", "restart_response", "inform"):
            setattr(request, name, getattr(self, name))
        request.switch_protocols = self.switch_protocols
        request.abort = self.abort
        request.query = request.uri.partition(b"?")[2]
        alsoProvides(request, IStreamingRequest)

    # What the request gains.

    def on_finish(self, callback: Callable[[Any, Failure | None], object]) -> None:
        request = self._request
        request.notifyFinish().addCallbacks(
            lambda _: callback(request, None),
            lambda failure: self._lost(callback, failure),
        )

    def _lost(self, callback: Callable[[Any, Failure | None], object], failure: Failure) -> None:
        if self._sink is not self:
            self._sink.stop()
        callback(self._request, failure)

    def add_filter(self, make: Callable[[Any, Any], Any]) -> None:
        request = self._request
        if self._sink is self:
            request.write, request.finish = self._filtered_write, self._filtered_finish
            request.registerProducer = self._filtered_register
            request.unregisterProducer = lambda: self._sink.unregister_producer()
        self._sink = make(request, self._sink)

    def _filtered_register(self, producer: Any, is_push: bool) -> None:
        self._sink.register_producer(producer)

    def _filtered_write(self, data: bytes) -> None:
        if not self._began_filters:
            self._began_filters = True
            self._sink.begin()
        if data:
            self._sink.write(data)

    def _filtered_finish(self) -> None:
        if not self._finished:
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
            request.write, request.finish = self._write, self._finish
            request.registerProducer, request.unregisterProducer = self._register, self._unregister
        for name, _ in list(request.responseHeaders.getAllRawHeaders()):
            request.responseHeaders.removeHeader(name)

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
        self._register(producer, True)

    def unregister_producer(self) -> None:
        self._unregister()
