"""What ``kproxy restart`` asks for, and what there is to tell of it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from kproxy import __version__
from kproxy.control.deployment import OperationFailed
from kproxy.control.progress import Tell, untold
from kproxy.succession.succession import Succession
from kproxy.workers.crew import Crew

_log = Logger()


class Restarts:
    """Lets fresh workers take over; or another program in this process, too.

    @param crew: the workers; None: this process serves clients itself.
    @param succession: None: the process was not started in a way that can be repeated.
    @param generation: how many programs there have been in this process, with this one.
    """

    def __init__(self, crew: Crew | None, succession: Succession | None, generation: int) -> None:
        self._crew = crew
        self._succession = succession
        self._generation = generation

    def restart(self, everything: bool, tell: Tell) -> Deferred[None]:
        """@param everything: another program, too.
        @return: fires when the workers have taken over; fails with `OperationFailed`, and then the
            old ones go on. With `everything` nobody is left for whom it could fire."""
        if self._crew is None:
            return fail(OperationFailed("there are no workers (--workers) that could be restarted"))
        if not everything:
            return self._crew.restart()
        if self._succession is None:
            return fail(OperationFailed("only twistd kproxy, or kproxy run, can be replaced"))
        return self._succession.run(tell)

    def by_signal(self) -> None:
        """Let fresh workers take over; nobody waits for it."""

        def failed(failure: Failure) -> None:
            failure.trap(OperationFailed)
            _log.error("there was no restart: {error}", error=failure.getErrorMessage())

        self.restart(False, untold).addErrback(failed)

    def restarted(self, generation: int) -> Deferred[None]:
        """Wait until the workers of this program have taken over.

        @param generation: of the program before it.
        @return: fails with `OperationFailed` if that still runs, or they have not.
        """
        if self._crew is None or self._generation <= generation:
            return fail(OperationFailed("the old program goes on; its log says why"))
        return self._crew.renewed()

    def describe(self) -> dict[str, Any]:
        """The program and its workers, as plain data."""
        told: dict[str, Any] = {"version": __version__, "generation": self._generation}
        if self._crew is not None:
            told.update(workers=self._crew.describe(), workers_trouble=self._crew.trouble())
        return told
