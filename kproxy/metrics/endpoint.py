"""``GET /metrics``, on a port of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.errors import answer_error
from kproxy.http.site import Site
from kproxy.metrics.catalog import Measured
from kproxy.metrics.exposition import CONTENT_TYPE, exposition
from kproxy.network import Listener, Network
from kproxy.streaming import streaming
from kproxy.threads import InThread, result_of
from kproxy.wrappers.base import Tree
from kproxy.wrappers.refusal import Refusal

MOST_CONNECTIONS = 32
"""More wait in the backlog, so that whoever can reach the port can't take all file descriptors."""

Measure = Callable[[], "Deferred[Measured]"]
_log = Logger()


class MetricsPage(Resource):
    """Answers with what is measured when it is asked.

    @param measure: fires with everything that is to be shown.
    """

    isLeaf = True

    def __init__(self, measure: Measure, in_thread: InThread) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._measure = measure
        self._in_thread = in_thread
        self._waiting: list[Any] = []

    def render_GET(self, request: Any) -> int:
        """Those who ask while an answer is being made get the same one."""
        self._waiting.append(request)
        if len(self._waiting) == 1:
            text = self._measure().addCallback(self._text)
            text.addCallbacks(self._answer, self._fail)
        return NOT_DONE_YET

    def busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._waiting)

    def _text(self, measured: Measured) -> Deferred[bytes]:
        """In a thread: no request should wait for that."""
        return result_of(lambda: exposition(measured), self._in_thread)

    def _answer(self, text: bytes) -> None:
        for request in self._asked():
            request.setHeader(b"content-type", CONTENT_TYPE)
            request.setHeader(b"content-length", b"%d" % len(text))
            request.write(b"" if request.method == b"HEAD" else text)
            request.finish()

    def _fail(self, failure: Failure) -> None:
        _log.failure("the metrics can't be shown", failure)
        for request in self._asked():
            answer_error(streaming(request), 500)

    def _asked(self) -> list[Any]:
        """Who asked, and has not left."""
        waiting, self._waiting = self._waiting, []
        return [request for request in waiting if not request._disconnected]


class _Root(Resource):
    """Has nothing but what is put there."""

    def getChild(self, path: bytes, request: Any) -> IResource:
        return notFound()


class MetricsPort:
    """The port that Prometheus asks.

    @param sockets: bound, and listening.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        measure: Measure,
        clock: IReactorTime,
        in_thread: InThread,
    ) -> None:
        root = _Root()  # type: ignore[no-untyped-call]
        page = MetricsPage(measure, in_thread)
        root.putChild(b"metrics", page)
        self.busy = page.busy
        self._sockets = sockets
        self._site = Site(Tree(root), Tree(Refusal()), clock)  # type: ignore[no-untyped-call]
        self._site.connections_changed = self._mind_the_limit
        self._listeners: list[Listener] = []

    def start(self, network: Network) -> None:
        """Accept connections."""
        for sock in self._sockets:
            address, port = sock.getsockname()[:2]
            _log.info("metrics are on {address} port {port}", address=address, port=port)
            self._listeners.append(network.listen(sock, self._site.factory(secure=False)))

    def _mind_the_limit(self) -> None:
        accepting = len(self._site.connections) < MOST_CONNECTIONS
        for listener in self._listeners:
            (listener.resume if accepting else listener.pause)()

    def stop(self) -> None:
        """Accept no more, and cut who is there."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        self._site.abort_all()
        self._site.stop()
