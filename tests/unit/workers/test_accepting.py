"""Whose turn it is to accept, where several workers can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kproxy.workers.accepting import MOMENT, Turns
from kproxy.workers.shares import Shares, shared_memory
from tests.unit.test_front import Listener


class Timer:
    """What `call_later` returns."""

    def __init__(self, delay: float, action: Callable[[], Any]) -> None:
        self.delay = delay
        self.action: Callable[[], Any] | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    """An event loop whose time does not pass by itself."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, delay: float, action: Callable[[], Any]) -> Timer:
        self.timers.append(Timer(delay, action))
        return self.timers[-1]

    def wait(self) -> None:
        """Let a moment pass."""
        timers, self.timers = self.timers, []
        for timer in timers:
            assert timer.delay == MOMENT
            if timer.action is not None:
                timer.action()


class FairListener(Listener):
    """One that takes turns."""

    def accept_now(self) -> None:
        self.told.append("accept")


class Worker:
    """Turns of one of two workers, and the number of connections that the other one has."""

    def __init__(self) -> None:
        self.shares = Shares(shared_memory(4))
        self.loop = Loop()
        loop: Any = self.loop
        self.turns = Turns(loop, self.shares, 0)
        self.listeners = [FairListener(), FairListener()]
        self.turns.listeners.update(self.listeners)

    def has(self, own: int, other: int | None) -> bool:
        """Whether it is its turn with so many connections."""
        self.turns.count(own, True)
        if other is None:
            self.shares.leave(1)
        else:
            self.shares.say(1, other)
        return self.turns.ours()


@pytest.mark.parametrize(
    ("own", "other"), [(0, 0), (2, 0), (5, 5), (5, 9), (32, 32), (40, 32), (1000, 800), (90, None)]
)
def test_whoever_has_not_clearly_more_than_the_others_accepts(own: int, other: int | None) -> None:
    worker = Worker()
    assert worker.has(own, other)
    assert [listener.told for listener in worker.listeners] == [[], []]


@pytest.mark.parametrize(("own", "other"), [(3, 0), (8, 5), (38, 26), (1100, 800)])
def test_whoever_has_clearly_more_leaves_it_to_the_others_for_a_moment(
    own: int, other: int
) -> None:
    worker = Worker()
    assert not worker.has(own, other)
    assert [listener.told for listener in worker.listeners] == [["pause"]] * 2
    worker.loop.wait()
    # What nobody has taken by then waits no longer.
    assert [listener.told for listener in worker.listeners] == [["pause", "resume", "accept"]] * 2


def test_whoever_has_not_more_any_longer_does_not_wait_for_the_moment_to_pass() -> None:
    worker = Worker()
    assert not worker.has(9, 3)
    worker.turns.count(6, True)
    assert [listener.told for listener in worker.listeners] == [["pause"]] * 2
    worker.turns.count(5, True)
    assert [listener.told for listener in worker.listeners] == [["pause", "resume", "accept"]] * 2
    worker.loop.wait()
    assert worker.listeners[0].told == ["pause", "resume", "accept"]


def test_a_worker_that_accepts_no_more_counts_for_nobody_and_forgets_its_turn() -> None:
    worker = Worker()
    assert not worker.has(9, 3)
    worker.turns.count(9, False)
    worker.loop.wait()
    assert worker.listeners[0].told == ["pause"]
    assert worker.shares.least() == 3
    worker.shares.leave(1)
    assert worker.shares.least() == 0
