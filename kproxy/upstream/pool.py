"""The connections to one target, and the exchanges that are under way with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from kproxy.config.model import Target
from kproxy.http.deadlines import Deadlines
from kproxy.http.heads import HeadParser
from kproxy.network import Network
from kproxy.upstream.connection import TargetFailed, UpstreamConnection

if TYPE_CHECKING:
    from kproxy.metrics.counts import ServiceCounts
    from kproxy.upstream.proxy import Exchange

IDLE = 60.0
"""Seconds that a connection is kept for the next request."""
STALLED = 60.0
"""Seconds without progress that a target gets to take a request."""
MOST_IDLE = 256
"""Idle connections to one target; more are closed when they come back."""


class TargetPool:
    """Everything that the data plane holds for one target.

    @ivar target: where it is.
    @ivar address: the same as the X-Kamal-Target header and the log have it.
    @ivar active: exchanges that were given to this target and have not ended.
    """

    __slots__ = (
        "_clock",
        "_counts",
        "_heads",
        "_idle",
        "_idle_limit",
        "_network",
        "active",
        "address",
        "address_bytes",
        "closed",
        "stalled",
        "target",
    )

    def __init__(
        self,
        target: Target,
        network: Network,
        clock: IReactorTime,
        heads: HeadParser,
        counts: ServiceCounts | None = None,
    ) -> None:
        """@param counts: where to count new connections; None: nowhere."""
        self.target = target
        self.address = str(target)
        self.address_bytes = self.address.encode("utf-8")
        self.active: set[Exchange] = set()
        self.stalled = Deadlines(clock, STALLED, UpstreamConnection.write_overdue)
        self.closed = False
        self._network = network
        self._clock = clock
        self._heads = heads
        self._counts = counts
        self._idle: dict[UpstreamConnection, None] = {}
        self._idle_limit = Deadlines(clock, IDLE, lambda connection: connection.transport.close())

    @property
    def idle(self) -> int:
        """Connections that wait for the next request."""
        return len(self._idle)

    def acquire(self) -> UpstreamConnection | None:
        """A connection that was used before, the last one first; None if there is none."""
        idle = self._idle
        while idle:
            connection, _ = idle.popitem()
            self._idle_limit.remove(connection)
            if not connection.transport.is_closing():
                return connection
        return None

    def connect(
        self,
        made: Callable[[UpstreamConnection], object],
        failed: Callable[[TargetFailed], object],
    ) -> Callable[[], object]:
        """Make a new connection.

        @return: gives up when called.
        """
        if self._counts is not None:
            made, failed = self._counted(self._counts, made, failed)
        return self._network.connect(
            self.target.host,
            self.target.port,
            lambda: UpstreamConnection(self, self._heads, self._network.room, made),
            lambda error: failed(TargetFailed(f"no connection: {_reason(error)}")),
        )

    def _counted(
        self,
        counts: ServiceCounts,
        made: Callable[[UpstreamConnection], object],
        failed: Callable[[TargetFailed], object],
    ) -> tuple[Callable[[UpstreamConnection], object], Callable[[TargetFailed], object]]:
        """The same callbacks, with what they are told counted first."""
        began = self._clock.seconds()

        def count_made(connection: UpstreamConnection) -> None:
            counts.connects.observe(self._clock.seconds() - began)
            made(connection)

        def count_failed(error: TargetFailed) -> None:
            counts.connect_failures += 1
            failed(error)

        return count_made, count_failed

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next exchange."""
        if self.closed or len(self._idle) >= MOST_IDLE:
            connection.transport.close()
        else:
            self._idle[connection] = None
            self._idle_limit.add(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        self._idle.pop(connection, None)
        self._idle_limit.remove(connection)
        self.stalled.remove(connection)

    def close(self) -> None:
        """Close idle and upgraded connections, and the others when their exchange is done."""
        self.closed = True
        for exchange in [exchange for exchange in self.active if exchange.upgraded_away]:
            exchange.cancel()
        idle, self._idle = self._idle, {}
        for connection in idle:
            connection.transport.close()
        self._idle_limit.stop()


def _reason(error: Exception) -> str:
    """What the system says, without its number."""
    return getattr(error, "strerror", None) or str(error)
