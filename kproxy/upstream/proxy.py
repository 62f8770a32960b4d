"""The leaf of a service's chain: it picks a target, passes the request on and the response back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import classImplements

from kproxy.config.model import Target
from kproxy.errors import answer_error
from kproxy.http.chunked import encode_chunk, encode_last_chunk
from kproxy.http.deadlines import Deadlines, TimedDeadlines
from kproxy.http.headers import Pairs
from kproxy.http.heads import ResponseHead
from kproxy.http.lifecycle import answer_with, lend, request_fields
from kproxy.interfaces import IBodyReceiver
from kproxy.streaming import streaming
from kproxy.upstream.balancer import Balancer
from kproxy.upstream.connection import Received, TargetFailed, UpstreamConnection
from kproxy.upstream.pool import TargetPool

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""RFC 9110 section 9.2.2."""

_log = Logger()


class ReverseProxy(Resource):
    """Answers with what a target of the balancer answers.

    @param response_timeout: seconds from the request having been sent to the response's headers.
    @param refused: told of each target that a connection could not be made to.
    @param took: told the seconds of each response, from the request having been sent to the headers.
    """

    isLeaf = True
    streams = True

    def __init__(
        self,
        balancer: Balancer,
        clock: IReactorTime,
        response_timeout: float,
        refused: Callable[[Target], object] = lambda target: None,
        took: Callable[[float], object] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.balancer = balancer
        self.refused = refused
        limit = response_timeout, Exchange.timed_out
        if took is None:
            self.answers = Deadlines(clock, *limit)
        else:
            self.answers = TimedDeadlines(clock, *limit, took)

    def render(self, request: Any) -> int:
        Exchange(self, streaming(request)).start()
        return NOT_DONE_YET


class Exchange:
    """One request on its way to a target, and the response on its way back.

    @ivar sent: the request has been passed on whole.
    @ivar pool: the target that has it; None before and behind that.
    """

    __slots__ = (
        "_answers",
        "_body_started",
        "_chunked",
        "_connection",
        "_done",
        "_ended",
        "_failed_pools",
        "_give_up",
        "_leaf",
        "_producing",
        "_repeated",
        "_request",
        "pool",
        "sent",
    )

    def __init__(self, leaf: ReverseProxy, request: Any) -> None:
        self._leaf = leaf
        self._answers = leaf.answers
        self._request = request
        self.pool: TargetPool | None = None
        self._connection: UpstreamConnection | None = None
        self._give_up: Callable[[], object] | None = None
        self._failed_pools: tuple[TargetPool, ...] = ()
        self._body_started = False
        self._chunked = False
        self._done = False
        self._ended: tuple[Callable[[Exchange], object], ...] = ()
        self._producing = False
        self._repeated = False
        self.sent = False

    # To the target.

    def start(self) -> None:
        self._request.on_finish(self._request_ended)
        balancer = self._leaf.balancer
        choice = balancer.choice
        self._to_target(balancer.pick() if choice is None else choice.pick(self._request))

    def _pick_other(self, but: tuple[TargetPool, ...] = ()) -> TargetPool | None:
        """A target in the place of the one that was picked first."""
        balancer = self._leaf.balancer
        choice = balancer.choice
        return balancer.pick(but) if choice is None else choice.pick(self._request, but)

    def _to_target(self, pool: TargetPool | None, *, fresh: bool = False) -> None:
        if pool is None:
            self._answer(503)
            return
        if pool is not self.pool:
            self._move_to(pool)
            self._request.notes["target"] = pool.address
        connection = None if fresh else pool.acquire()
        if connection is not None:
            self._send(connection)
        else:
            self._give_up = pool.connect(self._send, self._not_connected)

    def _not_connected(self, error: TargetFailed) -> None:
        """Nothing was sent, so that any other target may have the request."""
        self._give_up = None
        pool: TargetPool = self.pool  # type: ignore[assignment]
        self._failed_pools += (pool,)
        self._leaf.refused(pool.target)
        other = self._pick_other(self._failed_pools)
        if other is None:
            self.failed(error)
        else:
            self._warn(error)
            self._to_target(other)

    def _send(self, connection: UpstreamConnection) -> None:
        if self._done:
            connection.drop()  # it came to be just as it was given up
            return
        self._give_up = None
        self._connection = connection
        request = self._request
        pool: TargetPool = self.pool  # type: ignore[assignment]
        connection.begin(self, request.method, head_for(request, pool.address_bytes))
        body = request.body
        if body.length == 0:
            self.sent = True
            self._answers.add(self)
        else:
            self.sent = False
            self._chunked = body.length is None
            self._body_started = True
            body.start(self)

    # IBodyReceiver: the request's body.

    def body_data(self, data: bytes) -> None:
        connection = self._connection
        if connection is None:
            return
        if self._chunked:
            connection.transport.writelines(encode_chunk(data))
        else:
            connection.transport.write(data)

    def body_end(self, trailers: Pairs) -> None:
        if self._connection is None:
            return
        if self._chunked:
            self._connection.transport.write(encode_last_chunk(trailers))
        self.sent = True
        if not self._producing:
            self._answers.add(self)

    def body_lost(self, reason: Exception) -> None:
        self._drop()

    def pause_body(self) -> None:
        if self._body_started:
            self._request.body.pause()

    def resume_body(self) -> None:
        if self._body_started:
            self._request.body.resume()

    # From the target.

    def interim(self, head: ResponseHead) -> None:
        """An interim response. 100 is no news: the proxy says it itself, when the body is wanted."""
        if head.code != 100:
            self._request.inform(
                head.code, [(name, v) for name, vs in head.headers.getAllRawHeaders() for v in vs]
            )

    def _take_head(self, head: ResponseHead) -> None:
        self._answers.done(self)
        request = self._request
        request.code = head.code
        request.code_message = head.reason
        answer_with(request, head.fields)
        request.defaultContentType = None

    def whole_response(self, head: ResponseHead, body: Received) -> None:
        """The response came in one piece: nothing to be paused or cancelled any more."""
        self._connection = None
        self._take_head(head)
        request = self._request
        try:
            lend(request, body)
            if not self._done:
                request.finish()
        except Exception:
            self._broken()

    def response_begins(self, head: ResponseHead) -> None:
        self._take_head(head)
        self._producing = True
        self._request.registerProducer(self, True)

    def response_data(self, data: Received) -> None:
        lend(self._request, data)

    def response_ends(self, trailers: Pairs) -> None:
        self._connection = None
        request = self._request
        if trailers:
            request.response_trailers = trailers
        try:
            request.unregisterProducer()
            request.finish()
        except Exception:
            self._broken()

    def upgraded(self, transport: Any, head: ResponseHead, early: bytes) -> None:
        self._answers.remove(self)
        self._connection = None
        request = self._request
        if not request.upgrade:
            transport.abort()
            self.failed(TargetFailed("it switched protocols unasked"))
            return
        headers = [(b"Connection", b"Upgrade"), (b"Upgrade", head.upgrade or request.upgrade)]
        for name, values in head.headers.getAllRawHeaders():
            headers += [(name, value) for value in values]
        if not request.switch_protocols(head.code, headers, transport, early):
            transport.abort()

    @property
    def upgraded_away(self) -> bool:
        """Whether client and target speak another protocol now, whose end nobody can foresee."""
        return bool(self._request.code == 101 and self._request.begun())

    # IPushProducer: a slow client slows the target; and `kproxy.transfer.Source`.

    def pauseProducing(self) -> None:
        if self._connection is not None:
            self._connection.read(False)

    def resumeProducing(self) -> None:
        if self._connection is not None:
            self._connection.read(True)

    def stopProducing(self) -> None:
        self._drop()

    def lend_socket(self) -> tuple[int, int] | None:
        return None if self._connection is None else self._connection.lend_socket()

    def taken(self, size: int) -> None:
        if self._connection is not None:
            self._connection.taken(size)

    # Ends.

    def failed(self, error: TargetFailed) -> None:
        """The target did not answer, or not to the end."""
        self._connection = None
        self._answers.remove(self)
        if error.unused and self._may_repeat():
            self._repeated = True
            pool = self.pool
            if pool is not None and pool.closed:  # it was replaced, and gets no request any more
                pool = self._pick_other()
            self._to_target(pool, fresh=True)
            return
        self._warn(error)
        self._answer(502)

    def _broken(self) -> None:
        """What stands between target and client has failed, and the target's connection, which would
        tell of anything before its end, knows nothing of this any more."""
        _log.failure("{request} failed", request=self._request)
        self._answer(500)

    def _may_repeat(self) -> bool:
        request = self._request
        return (
            not self._repeated
            and not self._done
            and request.method in IDEMPOTENT
            and (request.body.replayable or not self._body_started)
        )

    def timed_out(self) -> None:
        """The response's headers, or room for the request, did not come in time."""
        self._warn(TargetFailed("it did not answer in time"))
        self._drop()
        self._answer(504)

    def on_end(self, callback: Callable[[Exchange], object]) -> None:
        """Call back when this has left its target, for another (`pool`) or for good; for draining."""
        self._ended += (callback,)

    def cancel(self) -> None:
        """Draining is over: end this now."""
        self._drop()
        self._answer(504)

    def _warn(self, error: TargetFailed) -> None:
        _log.warn(
            "{target} failed {request}: {error}",
            target=self.pool.address if self.pool else "",
            request=self._request,
            error=error,
        )

    def _answer(self, code: int) -> None:
        """Answer with an error page; half a response is cut off instead."""
        if self._done:
            return
        request = self._request
        if self._producing:
            self._producing = False
            request.unregisterProducer()
        if self._body_started:
            request.body.stop()
        answer_error(request, code)

    def _drop(self) -> None:
        """Want nothing more of the target."""
        self._answers.remove(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        give_up, self._give_up = self._give_up, None
        if give_up is not None:
            give_up()

    def _request_ended(self, request: Any, failure: Failure | None) -> None:
        self._done = True
        self._move_to(None)
        if failure is not None or self._connection is not None or self._give_up is not None:
            self._drop()

    def _move_to(self, pool: TargetPool | None) -> None:
        if self.pool is not None:
            self.pool.active.discard(self)
        self.pool = pool
        if pool is not None:
            pool.active.add(self)
        ended, self._ended = self._ended, ()
        for callback in ended:
            callback(self)


# Not a decorator, since the compiled build makes a type of it that takes none.
classImplements(Exchange, IBodyReceiver, IPushProducer)


def head_for(request: Any, address: bytes) -> bytes:
    """A request as the target at an address gets it, framed afresh from what was parsed."""
    fields = request_fields(request)
    length = request.body.length
    named = address
    extra = b""
    skip: tuple[bytes, ...] = ()
    if b"x-kamal-target" in fields:
        named = b", ".join((*fields[b"x-kamal-target"][1:], address))
        skip = (b"x-kamal-target",)
    if length != 0:
        skip += (b"content-length",)
        if length is None:
            extra = b"Transfer-Encoding: chunked\r\n"
        else:
            extra = b"Content-Length: %d\r\n" % length
    elif b"content-length" in fields and fields[b"content-length"][1] != b"0":
        skip += (b"content-length",)
    if request.upgrade:
        extra += b"Connection: Upgrade\r\nUpgrade: " + request.upgrade + b"\r\n"
    if b"host" not in fields:
        extra += b"Host: " + address + b"\r\n"
    lines = [request.method + b" " + request.uri + b" HTTP/1.1"]
    if skip:
        lines += [field[0] for key, field in fields.items() if key not in skip]
    else:
        lines += [field[0] for field in fields.values()]
    lines.append(b"X-Kamal-Target: " + named)
    lines.append(extra + b"\r\n")
    return b"\r\n".join(lines)
