"""When the state is saved: at the end of each operation, which waits for it, or soon."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kproxy.control.progress import Tell, untold
from kproxy.control.state import State, Store

SAVE_AFTER = 1.0
"""Seconds that a change which nobody waits for may wait to be saved with others."""

_log = Logger()


class Saving:
    """Keeps what a restart should find.

    @param state: what that is, now.
    """

    def __init__(self, store: Store, state: Callable[[], State], clock: IReactorTime) -> None:
        self._store = store
        self._state = state
        self._clock = clock
        self._soon: IDelayedCall | None = None

    def now(self, tell: Tell) -> Deferred[None]:
        """Save. What can't be saved is served all the same, and whoever waits is told.

        @return: fires when the state is safe, or can't be saved.
        """

        def failed(failure: Failure) -> None:
            message = f"the state could not be saved: {failure.getErrorMessage()}"
            _log.error("{message}", message=message)
            tell({"event": "warning", "message": message})

        return self._store.save(self._state()).addErrback(failed)

    def soon(self) -> None:
        """Save what nobody waits for; whatever else changes meanwhile goes along. With thousands of
        services, saving at every first healthy check would be most of a boot."""
        if self._soon is None:
            self._soon = self._clock.callLater(SAVE_AFTER, self._save_now)

    def _save_now(self) -> None:
        self._soon = None
        self.now(untold)

    def close(self) -> None:
        """Save now what was to be saved soon."""
        if self._soon is not None:
            self._soon.cancel()
            self._save_now()
