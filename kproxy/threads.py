"""Work that may block, away from the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")
InThread = Callable[[Callable[[], Any], Callable[[], None]], None]
"""(work, done): do the work in another thread, then call `done` in the reactor's."""


def threads_of(reactor: Any) -> InThread:
    """A function that does work in the reactor's pool of threads."""

    def in_thread(work: Callable[[], Any], done: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            finally:
                reactor.callFromThread(done)

        reactor.callInThread(run)

    return in_thread


def result_of(work: Callable[[], T], in_thread: InThread) -> Deferred[T]:
    """Do the work in another thread.

    @return: fires with what the work returns or raises. It can't be cancelled.
    """
    result: Deferred[T] = Deferred()
    outcome: list[T | Failure] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception:
            outcome.append(Failure())

    in_thread(run, lambda: result.callback(outcome[0]))
    return result


def at_once(work: Callable[[], Any], done: Callable[[], None]) -> None:
    """An `InThread` for where nothing else goes on: the work is done when it is asked for."""
    work()
    done()


def reactor_threads(work: Callable[[], Any], done: Callable[[], None]) -> None:
    """The same, for the reactor that runs: the default of wrappers in somebody else's Site."""
    from twisted.internet import reactor

    threads_of(reactor)(work, done)
