"""Asks a target for its health, over the same strict HTTP as requests use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime

from kproxy.config.model import Healthcheck, Target
from kproxy.http.heads import HeadParser, ResponseHead
from kproxy.network import Network
from kproxy.upstream.connection import Received, TargetFailed, UpstreamConnection
from kproxy.upstream.pool import TargetPool

AT_ONCE = 64
"""Checks that may be under way together; a proxy with thousands of targets has a limit of sockets."""


class Prober:
    """Asks targets for their health, each time over a connection of its own."""

    def __init__(self, network: Network, clock: IReactorTime) -> None:
        self._network = network
        self._clock = clock
        self._heads = HeadParser()
        self._places = DeferredSemaphore(AT_ONCE)

    def ask(self, target: Target, check: Healthcheck) -> Deferred[int]:
        """Send a health check.

        @return: fires with the status of the answer; fails with `TargetFailed` if there is none
            within the check's timeout. Redirects are not followed.
        """
        asked: Deferred[int] = self._places.run(self._ask, target, check)
        return asked

    def _ask(self, target: Target, check: Healthcheck) -> Deferred[int]:
        where = Target(target.host, check.port or target.port)
        pool = TargetPool(where, self._network, self._clock, self._heads)
        pool.close()
        return _Probe(pool, check, self._clock).answer


class _Probe:
    """One check: to its connection, it is the exchange."""

    sent = True

    def __init__(self, pool: TargetPool, check: Healthcheck, clock: IReactorTime) -> None:
        self._check = check
        self._pool = pool
        self._connection: UpstreamConnection | None = None
        self.answer: Deferred[int] = Deferred(lambda _: self._drop())
        self._timer = clock.callLater(check.timeout, self.timed_out)
        self._give_up: Callable[[], object] | None = pool.connect(self._send, self.failed)

    def _send(self, connection: UpstreamConnection) -> None:
        self._give_up = None
        self._connection = connection
        host = self._check.host or self._pool.address
        head = (
            f"GET {self._check.path} HTTP/1.1\r\nHost: {host}\r\n"
            "User-Agent: kproxy\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        )
        connection.begin(self, b"GET", head.encode("utf-8"))

    def _drop(self) -> None:
        if self._timer.active():
            self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        give_up, self._give_up = self._give_up, None
        if give_up is not None:
            give_up()

    # What the connection tells.

    def response_begins(self, head: ResponseHead) -> None:
        """The status is all that counts."""
        self._drop()
        if not self.answer.called:
            self.answer.callback(head.code)

    def whole_response(self, head: ResponseHead, body: Received) -> None:
        self._connection = None
        self.response_begins(head)

    def response_data(self, data: Received) -> None:
        """Nothing comes after `response_begins`, which drops the connection."""

    def response_ends(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """Nothing comes after `response_begins`, which drops the connection."""

    def interim(self, head: ResponseHead) -> None:
        pass

    def upgraded(self, transport: Any, head: ResponseHead, early: bytes) -> None:
        transport.abort()
        self.response_begins(head)

    def failed(self, error: TargetFailed) -> None:
        self._connection = self._give_up = None
        self._drop()
        if not self.answer.called:
            self.answer.errback(error)

    def timed_out(self) -> None:
        self._drop()
        if not self.answer.called:
            self.answer.errback(TargetFailed(f"no answer within {self._check.timeout:g} s"))

    def pause_body(self) -> None:
        pass

    def resume_body(self) -> None:
        pass
