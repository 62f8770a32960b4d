"""Request bodies are collected before they are passed on, so that a slow client keeps no target busy."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from kproxy.errors import answer_error
from kproxy.interfaces import IBodyReceiver
from kproxy.spool import Spool
from kproxy.streaming import streaming
from kproxy.threads import InThread, reactor_threads
from kproxy.wrappers.base import Wrapper

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Options:
    in_thread: InThread = reactor_threads
    memory: int = MIB
    """Bytes of one body that may be held in memory; the rest goes to an unlinked temporary file."""
    max_body: int = GIB
    """Bytes of a body, past which the answer is 413; 0: no limit."""


class RequestBuffer(Wrapper):
    """Renders what it wraps when the body of the request is complete."""

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:
        super().__init__(wrapped)
        self.options = options

    def render(self, request: Any) -> Any:
        body = streaming(request).body
        length = body.length
        if length == 0:
            return self.wrapped.render(request)
        limit = self.options.max_body
        if limit and length is not None and length > limit:
            answer_error(request, 413)
        elif body.replayable:
            return self.wrapped.render(request)
        else:
            body.start(_Collector(self, request))
        return NOT_DONE_YET


@implementer(IBodyReceiver)
class _Collector:
    __slots__ = ("_buffer", "_limit", "_request", "_spool", "_trailers")

    def __init__(self, buffer: RequestBuffer, request: Any) -> None:
        options = buffer.options
        self._buffer = buffer
        self._request = request
        self._limit = options.max_body
        self._trailers: list[tuple[bytes, bytes]] = []
        body = request.body
        self._spool = Spool(options.memory, options.in_thread, body.pause, body.resume)

    def body_data(self, data: bytes) -> None:
        self._spool.write(data)
        if self._limit and self._spool.size > self._limit:
            self._request.body.stop()
            answer_error(self._request, 413)

    def body_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self._trailers = trailers
        self._spool.finish(self._collected)

    def body_lost(self, reason: Exception) -> None:
        """The engine has ended the request."""

    def _collected(self) -> None:
        request = self._request
        if request.begun() or request.finished or request._disconnected:
            return
        if self._spool.error is not None:
            answer_error(request, 500)
            return
        data = self._spool.in_memory()
        request.content = BytesIO(data) if data is not None else self._spool.file()
        request.content.seek(0)
        request.body = self._spool.body(self._trailers)
        self._buffer.render_later(request)
