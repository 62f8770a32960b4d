"""Which of a service's targets may have a request, where that depends on the request.

A service has writers, perhaps read targets, and perhaps a second set of both for a rollout. Here is
one rule, in one order: the rollout's targets before the others if the request is in the rollout,
and on each side the read targets before the writers if it only reads. Whatever comes later stands
in for what came before when that has no healthy target, or none that takes the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from kproxy.affinity import has_written, reads
from kproxy.cookies import cookie
from kproxy.snapshot import Split
from kproxy.upstream.balancer import Balancer
from kproxy.upstream.pool import TargetPool
from kproxy.upstream.rollout import COOKIE, in_rollout


@dataclass(frozen=True)
class Side:
    """The healthy targets of one version of an application."""

    writers: Balancer
    readers: Balancer = field(default_factory=Balancer)


@dataclass
class Choice:
    """Picks targets for the requests of one service.

    @ivar websockets: whether WebSockets go to read targets.
    @ivar now: seconds since the epoch.
    @ivar split: who goes to the `rollout`.
    """

    active: Side
    websockets: bool
    now: Callable[[], float]
    rollout: Side | None = None
    split: Split = field(default_factory=Split)

    def pick(self, request: Any, but: Collection[TargetPool] = ()) -> TargetPool | None:
        """Like `Balancer.pick`."""
        for balancer in self._balancers(request):
            pool = balancer.pick(but)
            if pool is not None:
                return pool
        return None

    def peek(self, request: Any) -> TargetPool | None:
        """Like `Balancer.peek`."""
        return next(filter(None, (each.peek() for each in self._balancers(request))), None)

    def _balancers(self, request: Any) -> Iterator[Balancer]:
        read_only = reads(request, self.websockets) and not has_written(request, self.now())
        if self.rollout is not None and in_rollout(cookie(request, COOKIE), self.split):
            if read_only:
                yield self.rollout.readers
            yield self.rollout.writers
        if read_only:
            yield self.active.readers
        yield self.active.writers
