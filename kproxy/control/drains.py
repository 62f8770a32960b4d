"""Waiting for requests to end; whoever stops waiting leaves them to end on their own."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kproxy.config.model import Target
from kproxy.control.progress import Tell
from kproxy.control.serving import DataPlane

_log = Logger()


class Drains:
    """Drains targets, and tells how many requests are left."""

    def __init__(self, data_plane: DataPlane, clock: IReactorTime) -> None:
        self._data_plane = data_plane
        self._clock = clock

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
        addresses = {str(target) for target in targets}

        def ask() -> None:
            self._data_plane.refresh().addCallback(left)

        def left(_: object) -> None:
            if ended.called:
                return
            reports = self._data_plane.report().get(name, ())
            requests = sum(each.active for each in reports if each.address in addresses)
            if requests:
                tell({"event": "draining", "service": name, "requests": requests})

        ticks = LoopingCall(ask)
        ticks.clock = self._clock
        ticks.start(1.0)

        def drained(result: None) -> None:
            ticks.stop()
            _log.info("{service} is drained", service=name)

        return shielded(ended.addCallback(drained))


def shielded(work: Deferred[None]) -> Deferred[None]:
    """The same result; but cancelling this ends the waiting only, and not the work."""
    waiting: Deferred[None] = Deferred()
    work.chainDeferred(waiting)
    return waiting
