"""The new program, in a process of its own: it comes up as far as it can without touching anything."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from kproxy.control.state import read_state
from kproxy.service import ProxyService
from kproxy.succession.succession import tell_how_it_went


class Rehearsal(ProxyService):
    """A proxy that ends as soon as it is known whether it could serve what there is."""

    def startService(self) -> None:
        self._reactor.callWhenRunning(self._rehearse)

    def stopService(self) -> Deferred[None]:
        return succeed(None)

    def _rehearse(self) -> None:
        def done(result: object) -> None:
            error = result.getErrorMessage() if isinstance(result, Failure) else ""
            tell_how_it_went(self._legacy, error)
            self._reactor.stop()

        Deferred.fromCoroutine(self._serve_nobody()).addBoth(done)

    async def _serve_nobody(self) -> None:
        """@raise Exception: it could not; the text says why."""
        configuration = self._configuration
        state = read_state(self._state_dir)
        failures = self._controller.rehearse(configuration.services, state, configuration.acme)
        if failures:
            raise RuntimeError("; ".join(failures))
        if self._workers is None:
            raise RuntimeError("there are to be no workers, to which only a new start can lead")
        await self._workers.rehearse()
