"""What every wrapper shares: that it wraps."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.logger import Logger
from twisted.web import http
from twisted.web.error import UnsupportedMethod
from twisted.web.resource import IResource, Resource, _IEncodingResource, getChildForRequest
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from kproxy.errors import answer_error
from kproxy.interfaces import IBody, IBodyReceiver, IResponseSink
from kproxy.stored import FileBody
from kproxy.streaming import streaming

_log = Logger()


class Wrapper(Resource):
    """A resource around another. Subclasses define `render(request)`, which answers itself, or
    returns ``self.wrapped.render(request)``, as this one does.

    @ivar wrapped: what is inside. It is always a leaf: a stock resource with children is wrapped in
        `Tree`, so that no wrapper has to know of the difference.
    """

    isLeaf = True
    streams = True

    def __init__(self, wrapped: IResource, options: object = None) -> None:
        """@param options: what the wrapper's plug-in made of its options; this class has none."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.wrapped = as_leaf(wrapped)

    def render(self, request: Any) -> Any:
        return self.wrapped.render(request)

    def render_later(self, request: Any) -> None:
        """Go on with a request whose `render` has returned NOT_DONE_YET.

        Nothing happens if it has been answered meanwhile, or the client has left.
        """
        if not request.finished and not request._disconnected:
            render_later(self.wrapped, request)


@implementer(IResponseSink)
class Filter:
    """Something between a resource and its client, for `IStreamingRequest.add_filter`.

    It passes everything on. Subclasses override what they change, and call ``super()`` for what
    they pass on. One that holds a piece of the body back passes it on in `finish`, and lets go of
    it in `stop`.

    @ivar request: the `IStreamingRequest`: status and headers, before `begin` is passed on.
    @ivar sink: what comes next, an `IResponseSink`.
    """

    def __init__(self, request: Any, sink: Any) -> None:
        self.request = request
        self.sink = sink

    def begin(self) -> None:
        self.sink.begin()

    def write(self, data: bytes) -> None:
        self.sink.write(data)

    def finish(self) -> None:
        self.sink.finish()

    def stop(self) -> None:
        self.sink.stop()

    def register_producer(self, producer: Any) -> None:
        self.sink.register_producer(producer)

    def unregister_producer(self) -> None:
        self.sink.unregister_producer()


@implementer(IBody, IBodyReceiver)
class BodyFilter:
    """Something between the body of a request and whoever takes it, to be set as ``request.body``.

    It passes everything on as it comes. Subclasses override `body_data`, `body_end` or `body_lost`,
    and call ``super()`` for what they pass on. One that changes how long the body is sets `length`
    to None. It is taken once: what counts or changes bytes on their way would do so twice.

    @ivar body: what it gets the body from, an `IBody`.
    @ivar receiver: what takes it, an `IBodyReceiver`; None before `start`, and after `stop`.
    """

    replayable = False

    def __init__(self, body: Any) -> None:
        self.body = body
        self.length: int | None = body.length
        self.receiver: Any = None

    def start(self, receiver: IBodyReceiver) -> None:
        self.receiver = receiver
        self.body.start(self)

    def pause(self) -> None:
        self.body.pause()

    def resume(self) -> None:
        self.body.resume()

    def stop(self) -> None:
        self.receiver = None
        self.body.stop()

    def body_data(self, data: bytes) -> None:
        if self.receiver is not None:
            self.receiver.body_data(data)

    def body_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        if self.receiver is not None:
            self.receiver.body_end(trailers)

    def body_lost(self, reason: Exception) -> None:
        if self.receiver is not None:
            self.receiver.body_lost(reason)


def as_leaf(resource: Any) -> Any:
    """The resource, if it says (``streams``) that it is a leaf and takes requests whose body has
    not arrived; else something that renders it and its children."""
    return resource if getattr(resource, "streams", False) else Tree(resource)


def render_later(resource: Any, request: Any) -> None:
    """Render outside of the engine's own call of `render`: write what it returns, tell errors."""
    try:
        request.render(resource)
    except Exception:  # of a stock request: kproxy's own ones tell by themselves
        _log.failure("{request} failed", request=request)
        if not request.finished and not request._disconnected:
            answer_error(streaming(request), 500)


class Tree(Resource):
    """Any resource of Twisted's as a leaf: bodies are collected, children found, errors told."""

    isLeaf = True
    streams = True

    def __init__(self, root: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.root = root

    def render(self, request: Any) -> Any:
        body = getattr(request, "body", None)
        if body is not None and not body.replayable:
            body.start(_Collector(self, request))
            return NOT_DONE_YET
        if request.method == b"POST" and getattr(request, "form_pending", False):
            try:
                _read_form(request)
            except http._MultiPartParseException:
                answer_error(request, 400)
                return NOT_DONE_YET
        resource = getChildForRequest(self.root, request)
        if _IEncodingResource.providedBy(resource):
            encoder = resource.getEncoder(request)
            if encoder is not None:
                streaming(request).add_filter(lambda *between: _Encoded(encoder, *between))
        try:
            return resource.render(request)
        except UnsupportedMethod as error:
            if request.method == b"HEAD" and b"GET" in error.allowedMethods:
                return self._fake_head(resource, request)
            request.setResponseCode(http.NOT_ALLOWED)
            request.setHeader(b"allow", b", ".join(error.allowedMethods))
            request.setHeader(b"content-type", b"text/plain; charset=utf-8")
            return b"405 Method Not Allowed\n"

    def _fake_head(self, resource: Any, request: Any) -> Any:
        """As Twisted's own Site does for a resource that knows GET only."""
        streaming(request).add_filter(_HeadAfterAll)
        request.method = b"GET"
        try:
            return resource.render(request)
        finally:
            request.method = b"HEAD"


class _HeadAfterAll(Filter):
    """Lets a HEAD request be one again when its response begins."""

    def begin(self) -> None:
        self.request.method = b"HEAD"
        self.sink.begin()


class _Encoded(Filter):
    """Passes a response through the encoder of a stock `EncodingResourceWrapper`."""

    def __init__(self, encoder: Any, request: Any, sink: Any) -> None:
        super().__init__(request, sink)
        self._encoder = encoder

    def begin(self) -> None:
        self.request.responseHeaders.removeHeader(b"content-length")
        super().begin()

    def write(self, data: bytes) -> None:
        self._pass_on(self._encoder.encode(data))

    def finish(self) -> None:
        self._pass_on(self._encoder.finish())
        super().finish()

    def _pass_on(self, data: bytes) -> None:
        if data:
            super().write(data)


def _read_form(request: Any) -> None:
    """Add what a form holds to the arguments of a request, as a stock Site does before it asks.

    @raise twisted.web.http._MultiPartParseException: the body is not what its type says.
    """
    request.form_pending = False
    content_type = request.requestHeaders.getRawHeaders(b"content-type", [b""])[0]
    kind = http._parseContentType(content_type)
    if kind == b"application/x-www-form-urlencoded":
        request.args.update(http.parse_qs(request.content.read(), True))
    elif kind == b"multipart/form-data":
        request.args.update(http._getMultiPartArgs(request.content.read(), content_type))
    request.content.seek(0)


@implementer(IBodyReceiver)
class _Collector:
    def __init__(self, tree: Tree, request: Any) -> None:
        self._tree = tree
        self._request = request
        self._content = BytesIO()

    def body_data(self, data: bytes) -> None:
        self._content.write(data)

    def body_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        content = self._content
        length = content.tell()
        content.seek(0)
        self._request.content = content
        self._request.body = FileBody(content, length, trailers)
        render_later(self._tree, self._request)

    def body_lost(self, reason: Exception) -> None:
        pass
