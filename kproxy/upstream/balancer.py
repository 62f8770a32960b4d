"""Which target gets the next request of a service."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from kproxy.upstream.pool import TargetPool

if TYPE_CHECKING:
    from kproxy.upstream.choice import Choice


class Balancer:
    """Round robin over the healthy targets of one service.

    It outlives changes of the service: a request that was still being buffered when its targets were
    replaced is given one of the new ones.

    @ivar choice: what picks instead, where requests are not all alike; None: they are.
    """

    def __init__(self, pools: Sequence[TargetPool] = ()) -> None:
        self._pools: tuple[TargetPool, ...] = tuple(pools)
        self._next = 0
        self.choice: Choice | None = None

    def use(self, pools: Sequence[TargetPool]) -> None:
        """Give every request from now on to these, the healthy ones."""
        self._pools = tuple(pools)

    def pick(self, but: Collection[TargetPool] = ()) -> TargetPool | None:
        """The target whose turn it is.

        @param but: targets that have failed the request at hand.
        @return: None if there is no other.
        """
        pools = self._pools
        if len(pools) == 1 and not but:
            return pools[0]
        for _ in pools:
            self._next = (self._next + 1) % len(pools)
            pool = pools[self._next]
            if pool not in but:
                return pool
        return None

    def peek(self) -> TargetPool | None:
        """What `pick` would give, without its taking anybody's turn."""
        pools = self._pools
        return pools[(self._next + 1) % len(pools)] if pools else None
