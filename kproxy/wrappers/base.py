"""What every wrapper shares: that it wraps."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.web import http
from twisted.web.error import UnsupportedMethod
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import NOT_DONE_YET

from zope.interface import implementer

from kproxy.errors import answer_error
from kproxy.interfaces import IBodyReceiver
from kproxy.streaming import FileBody, streaming

_log = Logger()


class Wrapper(Resource):
    """A resource around another. Subclasses define `render(request)`, which answers itself or returns
    ``self.wrapped.render(request)``.

    @ivar wrapped: what is inside. It is always a leaf: a stock resource with children is wrapped in
        `Tree`, so that no wrapper has to know of the difference.
    """

    isLeaf = True
    streams = True

    def __init__(self, wrapped: IResource, options: object = None) -> None:
        """@param options: what the wrapper's plug-in made of its options; this class has none."""
        super().__init__()
        self.wrapped = as_leaf(wrapped)

    def render_later(self, request: Any) -> None:
        """Go on with a request whose `render` has returned NOT_DONE_YET."""
        render_later(self.wrapped, request)


def as_leaf(resource: Any) -> Any:
    """The resource, if it says (``streams``) that it is a leaf and takes requests whose body has not
    arrived; else something that renders it and its children."""
    return resource if getattr(resource, "streams", False) else Tree(resource)


def render_later(resource: Any, request: Any) -> None:
    """Render outside of the engine's own call of `render`: write what is returned, report what fails."""
    try:
        result = resource.render(request)
    except Exception:
        _log.failure("{request} failed", request=request)
        answer_error(streaming(request), 500)
        return
    if result is not NOT_DONE_YET:
        if not request.responseHeaders.hasHeader(b"content-length"):
            request.setHeader(b"content-length", b"%d" % len(result))
        request.write(b"" if request.method == b"HEAD" else result)
        request.finish()


class Tree(Resource):
    """Any resource of Twisted's as a leaf: its body is collected, its child is found, its errors told."""

    isLeaf = True
    streams = True

    def __init__(self, root: IResource) -> None:
        super().__init__()
        self.root = root

    def render(self, request: Any) -> Any:
        if getattr(request, "body_pending", False):
            request.body.start(_Collector(self, request))
            return NOT_DONE_YET
        resource = getChildForRequest(self.root, request)
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
        request.method = b"GET"
        try:
            return resource.render(request)
        finally:
            request.method = b"HEAD"


@implementer(IBodyReceiver)
class _Collector:
    def __init__(self, tree: Tree, request: Any) -> None:
        self._tree = tree
        self._request = request

    def body_data(self, data: bytes) -> None:
        self._request.content.write(data)

    def body_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        content = self._request.content
        length = content.tell()
        content.seek(0)
        self._request.body = FileBody(content, length)
        self._request.body_pending = False
        render_later(self._tree, self._request)

    def body_lost(self, reason: Exception) -> None:
        pass

