"""Where clients come in: the limit of connections, and the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kproxy.front import Front


class Listener:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def close(self) -> None:
        self.told.append("close")


class Site:
    """Connections that come and go as told."""

    def __init__(self) -> None:
        self.connections: set[int] = set()
        self.connections_changed: Callable[[], object] = lambda: None
        self.draining = self.drained = self.aborted = False
        self._empty: Deferred[None] = Deferred()

    def factory(self, secure: bool) -> None:
        """Nothing makes connections here."""

    def have(self, count: int) -> None:
        self.connections = set(range(count))
        self.connections_changed()
        if self.drained and not count and not self._empty.called:
            self._empty.callback(None)

    def drain(self) -> Deferred[None]:
        self.draining = self.drained = True
        if not self.connections:
            self._empty.callback(None)
        return self._empty

    def abort_all(self) -> None:
        self.aborted = True
        self.have(0)


class Case:
    """A front with room for three connections."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.site = Site()
        self.tls = self
        self.stopped = False
        self.counted: list[tuple[int, bool]] = []
        self.listeners: list[Listener] = []
        me: Any = self
        sockets: Any = ["socket"]
        self.front = Front(
            me, me, self.clock, 3, sockets, sockets, lambda *count: self.counted.append(count)
        )
        self.front.start()

    # The network.

    def listen(self, sock: Any, factory: Any) -> Listener:
        self.listeners.append(Listener())
        return self.listeners[-1]

    def greet(self) -> None:
        """Nothing makes connections with TLS, either."""

    # The data plane.

    def stop(self) -> None:
        self.stopped = True

    def told(self) -> list[str]:
        """What both listeners were told."""
        first, second = self.listeners
        assert first.told == second.told
        return first.told

    def end(self, timeout: float, grace: float = 0.0) -> list[None]:
        results: list[None] = []
        self.front.stop(timeout, grace).addCallback(results.append)
        return results


def test_past_the_limit_nobody_is_accepted_until_somebody_leaves() -> None:
    case = Case()
    case.site.have(3)
    assert case.told() == ["pause"]
    case.site.have(2)
    assert case.told() == ["pause", "resume"]
    assert case.counted == [(0, True), (3, False), (2, True)]


def test_the_end_comes_when_the_last_connection_has_ended() -> None:
    case = Case()
    case.site.have(2)
    ended = case.end(5.0)
    assert case.told() == ["close"]
    assert case.site.drained
    assert case.counted[-1] == (2, False)
    assert ended == []
    case.site.have(0)
    assert ended == [None]
    assert case.stopped
    assert not case.site.aborted
    assert case.clock.getDelayedCalls() == []


def test_what_is_left_at_the_end_is_cut() -> None:
    case = Case()
    case.site.have(2)
    ended = case.end(5.0, grace=7.0)
    case.clock.advance(5.0)
    assert case.site.aborted
    assert ended == [None]
    assert case.clock.getDelayedCalls() == []


def test_with_grace_idle_connections_may_be_used_once_more() -> None:
    case = Case()
    case.site.have(2)
    ended = case.end(30.0, grace=5.0)
    assert case.site.draining
    assert not case.site.drained
    case.site.have(1)
    case.clock.advance(4.9)
    assert not case.site.drained
    case.clock.advance(0.1)
    assert case.site.drained
    case.site.have(0)
    assert ended == [None]


def test_with_grace_the_end_comes_as_soon_as_all_have_gone() -> None:
    case = Case()
    case.site.have(1)
    ended = case.end(30.0, grace=5.0)
    case.site.have(0)
    assert ended == [None]
    assert case.clock.getDelayedCalls() == []


def test_without_connections_there_is_nothing_to_wait_for() -> None:
    case = Case()
    assert case.end(30.0, grace=5.0) == [None]
    assert case.stopped
    assert case.clock.getDelayedCalls() == []
