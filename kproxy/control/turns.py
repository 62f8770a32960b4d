"""Operations that wait for each other, one queue for each name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredLock


class Turns:
    """Operations on one service queue up; those on different services run side by side."""

    def __init__(self) -> None:
        self._locks: dict[str, DeferredLock] = {}

    def busy(self, name: str) -> bool:
        """Whether an operation on the service is under way."""
        return name in self._locks

    def any(self) -> bool:
        """Whether an operation on any service is."""
        return bool(self._locks)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait for the turn, and hold it. Cancelling whoever waits gives the place up."""
        lock = self._locks.setdefault(name, DeferredLock())
        await lock.acquire()
        try:
            yield
        finally:
            lock.release()
            if not lock.locked and self._locks.get(name) is lock:
                del self._locks[name]
