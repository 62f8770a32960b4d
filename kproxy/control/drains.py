"""Waiting for requests to end; whoever stops waiting leaves them to end on their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kproxy.config.model import Target
from kproxy.control.progress import Tell
from kproxy.control.serving import DataPlane

_log = Logger()


@dataclass(frozen=True, eq=False)
class _Drain:
    """Somebody who waits."""

    service: str
    addresses: frozenset[str]
    tell: Tell

    def left(self, reports: Iterable[Any]) -> None:
        """Tell of the requests that are left."""
        requests = sum(each.active for each in reports if each.address in self.addresses)
        if requests:
            self.tell({"event": "draining", "service": self.service, "requests": requests})


class Drains:
    """Drains targets, and tells how many requests are left."""

    def __init__(self, data_plane: DataPlane, clock: IReactorTime) -> None:
        self._data_plane = data_plane
        self._waiting: set[_Drain] = set()
        self._ticks = LoopingCall(self._ask)
        self._ticks.clock = clock

    def drain(
        self, name: str, targets: Sequence[Target], timeout: float, tell: Tell
    ) -> Deferred[None]:
        """Let the requests of a service's targets end.

        @param timeout: seconds, after which those that are left are cut.
        @return: fires when there are none left; cancelling it only ends the waiting.
        """
        ended = self._data_plane.drain(name, targets, timeout)
        if ended.called:
            return ended
        drain = _Drain(name, frozenset(map(str, targets)), tell)
        self._waiting.add(drain)
        if not self._ticks.running:
            self._ticks.start(1.0)

        def drained(result: None) -> None:
            self._waiting.discard(drain)
            if not self._waiting and self._ticks.running:
                self._ticks.stop()
            _log.info("{service} is drained", service=name)

        return shielded(ended.addCallback(drained))

    def _ask(self) -> None:
        """Ask once for all, however many drains there are: a report is one of all services."""
        self._data_plane.refresh().addCallback(self._tell)

    def _tell(self, _: object) -> None:
        reports = self._data_plane.report() if self._waiting else {}
        for drain in list(self._waiting):
            drain.left(reports.get(drain.service, ()))


def shielded(work: Deferred[None]) -> Deferred[None]:
    """The same result; but cancelling this ends the waiting only, and not the work."""
    waiting: Deferred[None] = Deferred()
    work.chainDeferred(waiting)
    return waiting
