"""Work that may block, away from the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def reactor_threads(work: Callable[[], Any], done: Callable[[], None]) -> None:
    """The same, for the reactor that runs: the default of wrappers in somebody else's Site."""
    from twisted.internet import reactor

    threads_of(reactor)(work, done)
