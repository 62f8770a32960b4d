"""Locks between processes (and within one), which the kernel gives back when a process dies.

They are flock()'s, which NFS has between servers as well (Linux makes of them locks of the server's;
not if it is mounted with ``nolock`` or ``local_lock``). A lock's file is there only while somebody
holds it. So who gets the lock looks whether the file is still there: whoever had it before may have
removed it. That is told by its number of links, which is asked for afresh once a lock is had, and not
by its name, which NFS may remember for a while.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from kproxy.threads import InThread, result_of
from kproxy.tls.acme.interfaces import Release

RETRY = 0.5
"""Seconds. flock() has no way to tell of a lock that became free but to wait in it."""


def file_lock(path: Path, clock: IReactorTime, in_thread: InThread) -> Deferred[Release]:
    """Hold a lock that has a file's name, as soon as nobody else does.

    @return: fires with what gives the lock back. Can be cancelled. Fails with `OSError`.
    """
    return _Waiting(path, clock, in_thread).acquired


class _Waiting:
    def __init__(self, path: Path, clock: IReactorTime, in_thread: InThread) -> None:
        self._path = path
        self._clock = clock
        self._in_thread = in_thread
        self._timer: IDelayedCall | None = None
        self.acquired: Deferred[Release] = Deferred(self._cancel)
        self._try()

    def _try(self) -> None:
        self._timer = None
        tried = result_of(lambda: _try_lock(self._path), self._in_thread)
        tried.addCallbacks(self._tried, self._failed)

    def _tried(self, number: int | None) -> None:
        if self.acquired.called:  # cancelled while the thread was at it
            if number is not None:
                self._release(number)
        elif number is None:
            self._timer = self._clock.callLater(RETRY, self._try)
        else:
            self.acquired.callback(lambda: self._release(number))

    def _failed(self, failure: Failure) -> None:
        if not self.acquired.called:
            self.acquired.errback(failure)

    def _release(self, number: int) -> Deferred[None]:
        return result_of(lambda: _unlock(self._path, number), self._in_thread)

    def _cancel(self, acquired: Deferred[Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _try_lock(path: Path) -> int | None:
    """The descriptor that holds the lock; None: somebody else does."""
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(number).st_nlink:
            return number
    except BlockingIOError:
        pass
    except OSError as error:
        if error.errno != errno.ESTALE:  # how NFS says that the file is gone
            os.close(number)
            raise
    os.close(number)
    return None


def _unlock(path: Path, number: int) -> None:
    try:
        path.unlink(missing_ok=True)
    finally:
        os.close(number)
