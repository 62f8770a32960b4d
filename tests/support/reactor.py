"""The real reactor, for tests that need one: it turns only while a test waits for something.

It is Twisted's global one, since that is what Twisted's own TLS uses whatever it is told. Like
trial, this ends a turn with ``crash``, after which it can run again.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

_PATIENCE = 60.0


class Turns:
    """Turns the reactor."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor

    def run(self, work: Coroutine[Any, Any, T] | Deferred[T]) -> T:
        """Turn the reactor until something is done; what it returns or raises."""
        deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        deferred.addTimeout(_PATIENCE, self.reactor)
        results: list[Any] = []

        def done(result: Any) -> None:
            results.append(result)
            self.reactor.crash()

        # In a turn of its own: crash() before run() would be forgotten.
        self.reactor.callLater(0, deferred.addBoth, done)
        self.reactor.run(installSignalHandlers=False)
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def close(self) -> None:
        """End its threads, which would keep the process from ending."""
        if self.reactor.threadpool is not None:
            self.reactor._stopThreadPool()
