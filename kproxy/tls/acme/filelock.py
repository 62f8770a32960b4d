"""Locks between processes (and within one), which the kernel gives back when a process dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

RETRY = 0.5
"""Seconds. flock() has no way to tell of a lock that became free but to wait in it."""


def file_lock(path: Path, clock: IReactorTime) -> Deferred[Callable[[], None]]:
    """Hold a lock that has a file's name, as soon as nobody else does.

    The file is there only while somebody holds the lock.

    @return: fires with what gives the lock back. Can be cancelled. Fails with `OSError`.
    """
    return _Waiting(path, clock).acquired


class _Waiting:
    def __init__(self, path: Path, clock: IReactorTime) -> None:
        self._path = path
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self.acquired: Deferred[Callable[[], None]] = Deferred(self._cancel)
        self._try()

    def _try(self) -> None:
        self._timer = None
        try:
            number = _try_lock(self._path)
        except OSError as error:
            self.acquired.errback(error)
            return
        if number is None:
            self._timer = self._clock.callLater(RETRY, self._try)
            return
        self.acquired.callback(lambda: _unlock(self._path, number))

    def _cancel(self, acquired: object) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _try_lock(path: Path) -> int | None:
    """The descriptor that holds the lock; None: somebody else does."""
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who held it before has removed the file, so that this may be the lock of nothing.
        if os.path.samestat(os.fstat(number), os.stat(path)):
            return number
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(number)
        raise
    os.close(number)
    return None


def _unlock(path: Path, number: int) -> None:
    path.unlink(missing_ok=True)
    os.close(number)
