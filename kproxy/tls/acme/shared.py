"""Work that is done once for everybody who waits for it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()

Waiting = list["Deferred[None]"]


def waiter(waiting: Waiting) -> Deferred[None]:
    """One more who waits. Whoever cancels leaves, and the work goes on."""

    def leave(deferred: Deferred[None]) -> None:
        if deferred in waiting:
            waiting.remove(deferred)

    joined: Deferred[None] = Deferred(leave)
    waiting.append(joined)
    return joined


def answer(waiting: Waiting, result: Exception | Failure | None = None) -> None:
    """Tell all of them how it ended."""
    told, waiting[:] = list(waiting), []
    for deferred in told:
        if result is None:
            deferred.callback(None)
        else:
            deferred.errback(result)


class Shared:
    """Pieces of work by name, each done once at a time."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        self._doing: dict[str, Deferred[None]] = {}

    def run(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> Deferred[None]:
        """Do the work, unless it is being done.

        @return: fires when it has ended, and fails as it does.
        """
        begun = name in self._waiting
        joined = waiter(self._waiting.setdefault(name, []))
        if not begun:
            doing: Deferred[None] = Deferred.fromCoroutine(work())
            self._doing[name] = doing
            doing.addBoth(self._ended, name)
        return joined

    def stop(self) -> None:
        """Break everything off."""
        for doing in list(self._doing.values()):
            doing.cancel()

    def _ended(self, result: Any, name: str) -> None:
        del self._doing[name]
        answer(self._waiting.pop(name), result)


class Chore:
    """Work that nobody waits for, done once at a time."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._doing: Deferred[None] = succeed(None)
        self.busy = False

    def start(self) -> None:
        """Do it, unless it is being done."""
        if not self.busy:
            self.busy = True
            self._doing = Deferred.fromCoroutine(self._do())

    def ended(self) -> Deferred[None]:
        """@return: fires when it is not being done (any more)."""
        ended: Deferred[None] = Deferred()
        self._doing.addCallback(ended.callback)
        return ended

    def stop(self) -> Deferred[None]:
        """Break it off. @return: fires when it has ended."""
        self._doing.cancel()
        return self.ended()

    async def _do(self) -> None:
        try:
            await self._work()
        except CancelledError:
            pass
        except Exception:
            _log.failure("certificates are not looked after as they should be")
        finally:
            self.busy = False
