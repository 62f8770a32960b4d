"""Responses are collected before they are passed on, so that a slow client keeps no target busy, and
a target that breaks off half-way is a clean error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web.resource import IResource
from zope.interface import classImplements, implementer

from kproxy.errors import answer_error
from kproxy.http.lifecycle import Lifecycle, lend, response_fields
from kproxy.interfaces import IBodyReceiver, IResponseSink
from kproxy.spool import Spool
from kproxy.stored import StoredBody
from kproxy.streaming import streaming
from kproxy.threads import InThread, reactor_threads
from kproxy.transfer import CAN_FETCH, Source
from kproxy.wrappers.base import Wrapper

MIB = 1 << 20
_log = Logger()


@dataclass(frozen=True)
class Options:
    in_thread: InThread = reactor_threads
    memory: int = MIB
    """Bytes of one body that may be held in memory; the rest goes to an unlinked temporary file."""
    max_body: int = 0
    """Bytes of a body, past which the answer is 500; 0: no limit."""


class ResponseBuffer(Wrapper):
    """Holds each response until it is complete. Event streams are passed on as they come."""

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:
        super().__init__(wrapped)
        self.options = options

    def render(self, request: Any) -> Any:
        streaming(request).add_filter(self._filter)
        return self.wrapped.render(request)

    def _filter(self, request: Any, sink: Any) -> _Held:
        return _Held(self.options, request, sink)


class _Held:
    """A response that is being collected."""

    __slots__ = (
        "_direct",
        "_options",
        "_parts",
        "_producer",
        "_request",
        "_sender",
        "_sink",
        "_size",
        "_spool",
    )

    def __init__(self, options: Options, request: Any, sink: Any) -> None:
        self._options = options
        self._request = request
        self._sink = sink
        self._direct = False
        self._producer: Any = None
        self._sender: _Sender | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._spool: Spool | None = None

    def begin(self) -> None:
        kind = response_fields(self._request).get(b"content-type")
        if kind is not None and kind[1][:17].lower() == b"text/event-stream":
            self._direct = True
            if self._producer is not None:
                self._sink.register_producer(self._producer)
            self._sink.begin()

    def write(self, data: bytes) -> None:
        if self._direct:
            self._sink.write(data)
            return
        options = self._options
        self._size += len(data)
        if options.max_body and self._size > options.max_body:
            self._too_large()
        elif self._spool is not None:
            self._spool.write(data)
        else:
            self._parts.append(data)
            if self._size > options.memory:
                self._spill()

    def write_lent(self, data: memoryview) -> None:
        """Take a piece that may be the last: that one is passed on without a copy."""
        if self._direct:
            lend(self._sink, data)
        elif self._completes(len(data)):
            self._direct = True
            self._size += len(data)
            self._pass_on()
            lend(self._sink, data)
        else:
            self.write(bytes(data))

    def _completes(self, size: int) -> bool:
        """Whether the body is whole with the next so many bytes, and may be held in memory."""
        options = self._options
        size += self._size
        return (
            self._announced() == size <= options.memory
            and (not options.max_body or size <= options.max_body)
        )  # fmt: skip

    def _announced(self) -> int:
        """The Content-Length; -1: there is none."""
        length = response_fields(self._request).get(b"content-length")
        return -1 if length is None else int(length[1])

    def _pass_on(self) -> None:
        """Begin, with what has been collected in memory."""
        sink = self._sink
        sink.begin()
        for part in self._parts:
            sink.write(part)

    def _spill(self) -> None:
        options = self._options
        self._spool = Spool(
            options.memory, options.in_thread, self._pause, self._resume, self._source()
        )
        parts, self._parts = self._parts, []
        for part in parts:
            self._spool.write(part)  # only with the last is it enough to be written

    def _source(self) -> Source | None:
        """Who makes the response, if whoever writes the file may fetch the rest from there."""
        request, limit = self._request, self._options.max_body
        if not CAN_FETCH or not isinstance(request, Lifecycle) or 0 < limit < self._announced():
            return None
        producer = request.maker_for(self)
        return producer if hasattr(producer, "lend_socket") else None

    def _too_large(self) -> None:
        request = self._request
        _log.warn(
            "{request}: the response is over its limit of {limit} bytes",
            request=request,
            limit=self._options.max_body,
        )
        if self._producer is not None:
            self._producer.stopProducing()
        answer_error(request, 500)

    def finish(self) -> None:
        if self._direct:
            self._sink.finish()
        elif self._spool is None:
            self._set_length()
            self._pass_on()
            self._sink.finish()
        else:
            request = self._request
            self._spool.finish(lambda: _attempt(request, self._spooled))

    def _spooled(self) -> None:
        """All of it is in the file now."""
        spool = self._spool
        if spool is None:
            return
        if spool.error is not None:
            _log.error("a response could not be buffered: {error}", error=spool.error)
            answer_error(self._request, 500)
            return
        self._spool = None  # which knows this, so that its file would stay open
        self._size = spool.size
        self._set_length()
        sink = self._sink
        sink.begin()
        send_file = getattr(sink, "send_file", None)
        file, in_thread = spool.file(), self._options.in_thread
        if send_file is None or not send_file(file, self._size, in_thread, sink.finish):
            self._sender = sender = _Sender(self._request, sink, spool.body([]))
            sink.register_producer(sender)
            sender.start()

    def _set_length(self) -> None:
        """The whole is known: tell its length, unless trailers need the chunked coding."""
        request = self._request
        fields = response_fields(request)
        if (
            b"content-length" not in fields
            and request.method != b"HEAD"
            and request.code not in (204, 304)
            and not request.response_trailers
        ):
            size = b"%d" % self._size
            fields[b"content-length"] = (b"Content-Length: " + size, size)

    def stop(self) -> None:
        if self._sender is not None:
            self._sender.stopProducing()
        self._spool = None
        self._parts = []
        self._producer = None
        self._sink.stop()

    def register_producer(self, producer: Any) -> None:
        self._producer = producer
        if self._direct:
            self._sink.register_producer(producer)

    def unregister_producer(self) -> None:
        self._producer = None
        if self._direct:
            self._sink.unregister_producer()

    def _pause(self) -> None:
        if self._producer is not None:
            self._producer.pauseProducing()

    def _resume(self) -> None:
        if self._producer is not None:
            self._producer.resumeProducing()


# Not a decorator, since the compiled build makes a type of it that takes none.
classImplements(_Held, IResponseSink)


@implementer(IBodyReceiver, IPushProducer)
class _Sender:
    """Sends what was collected in a file, at the client's pace."""

    __slots__ = ("_body", "_paused", "_request", "_sink", "_started")

    def __init__(self, request: Any, sink: Any, body: StoredBody) -> None:
        self._request = request
        self._sink = sink
        self._body = body
        self._paused = False
        self._started = False

    def start(self) -> None:
        """Send, or wait until the client wants more of what it has got before."""
        if not self._paused:
            self._started = True
            self._body.start(self)

    def body_data(self, data: bytes) -> None:
        _attempt(self._request, self._sink.write, data)

    def body_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self._sink.unregister_producer()
        _attempt(self._request, self._sink.finish)

    def body_lost(self, reason: Exception) -> None:
        _log.error("a buffered response was lost: {reason}", reason=reason)
        self._request.abort()

    def pauseProducing(self) -> None:
        self._paused = True
        self._body.pause()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._started:
            self._body.resume()
        else:
            self.start()

    def stopProducing(self) -> None:
        self._body.stop()


def _attempt(request: Any, call: Callable[..., object], *arguments: Any) -> None:
    """Call what a wrapper's filter may break, where whoever called this can't tell the client."""
    try:
        call(*arguments)
    except Exception:
        _log.failure("{request} failed", request=request)
        answer_error(request, 500)
