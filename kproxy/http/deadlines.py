"""Time limits that cost a dictionary entry each, not a timer each.

All entries of one queue have the same limit, so they expire in the order in which they were added,
and one timer for the oldest serves them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_log = Logger()


class Deadlines:
    """Calls `expired(item)` for each item that was added `limit` seconds ago and not removed since."""

    __slots__ = ("_clock", "_entries", "_expired", "_now", "_timer", "limit")

    def __init__(self, clock: IReactorTime, limit: float, expired: Callable[[Any], object]) -> None:
        self.limit = limit
        self._clock = clock
        self._now = clock.seconds
        self._expired = expired
        self._entries: dict[Any, float] = {}
        self._timer: IDelayedCall | None = None

    def add(self, item: Any) -> None:
        """Give the item its whole limit, from now on; also where it had been added before."""
        entries = self._entries
        entries.pop(item, None)  # it goes to the end
        entries[item] = self._now() + self.limit
        if self._timer is None:
            self._timer = self._clock.callLater(self.limit, self._check)

    def remove(self, item: Any) -> None:
        """Let the item be; it need not be here."""
        self._entries.pop(item, None)

    def done(self, item: Any) -> None:
        """As `remove`, when what was waited for has come."""
        self._entries.pop(item, None)

    def _check(self) -> None:
        self._timer = None
        now = self._now()
        due = []
        for item, deadline in self._entries.items():
            if deadline > now:
                self._timer = self._clock.callLater(deadline - now, self._check)
                break
            due.append(item)
        for item in due:
            del self._entries[item]
        for item in due:
            try:
                self._expired(item)
            except Exception:
                _log.failure("what was to be done when time was over failed")

    def stop(self) -> None:
        """Forget everything."""
        self._entries.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class TimedDeadlines(Deadlines):
    """The same, for who wants to know how long it took until then."""

    __slots__ = ("_took",)

    def __init__(
        self,
        clock: IReactorTime,
        limit: float,
        expired: Callable[[Any], object],
        took: Callable[[float], object],
    ) -> None:
        """@param took: called with the seconds from when an item was added until it was `done`."""
        super().__init__(clock, limit, expired)
        self._took = took

    def done(self, item: Any) -> None:
        deadline = self._entries.pop(item, None)
        if deadline is not None:
            self._took(self._now() + self.limit - deadline)
