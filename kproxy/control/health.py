"""Is a target up? (behaviour.md section 2: healthcheck)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kproxy.config.model import Healthcheck, Target

Ask = Callable[[Target, Healthcheck], "Deferred[int]"]
"""Fires with the status that a target answers its health check with, or fails."""

_log = Logger()


def traced(ask: Ask, trace: Callable[..., object]) -> Ask:
    """The same asker, but every answer is told."""

    def ask_and_tell(target: Target, check: Healthcheck) -> Deferred[int]:
        def tell(result: Any) -> Any:
            answer = result.getErrorMessage() if isinstance(result, Failure) else result
            trace(
                "health check of {target}{path}: {answer}",
                target=target,
                path=check.path,
                answer=answer,
            )
            return result

        asked: Deferred[int] = ask(target, check).addBoth(tell)
        return asked

    return ask_and_tell


class HealthCheck:
    """Checks one target at once, and then every interval.

    @param changed: called with the check when its target turned healthy or unhealthy.
    @param checked: called with the check after every single one.
    @param healthy: True: it counts as healthy until a check says otherwise.
    @ivar healthy: what the last check said; None before it.
    @ivar in_doubt: it has refused a request since then. It counts as healthy, having nobody to stand
        in for it, and is checked until it answers again.
    @ivar failure: why the last check failed, in a sentence; empty when it did not.
    @ivar attempts: how many checks there have been.
    """

    def __init__(
        self,
        target: Target,
        options: Healthcheck,
        clock: IReactorTime,
        ask: Ask,
        changed: Callable[[HealthCheck], object],
        checked: Callable[[HealthCheck], object] | None = None,
        healthy: bool | None = None,
    ) -> None:
        self.target = target
        self.options = options
        self.healthy = healthy
        self.in_doubt = False
        self.failure = ""
        self.attempts = 0
        self._clock = clock
        self._ask = ask
        self._changed = changed
        self._checked = checked
        self._timer: IDelayedCall | None = None
        self._asking: Deferred[Any] | None = None
        self._stopped = False

    @property
    def state(self) -> str:
        """``unknown``, ``healthy`` or ``unhealthy``, for people."""
        if self.healthy is None:
            return "unknown"
        return "healthy" if self.healthy and not self.in_doubt else "unhealthy"

    def start(self) -> None:
        """Begin, with a check at once."""
        self._timer = None
        began = self._clock.seconds()
        self.attempts += 1
        self._asking = asking = maybeDeferred(self._ask, self.target, self.options)
        asking.addCallbacks(self._answered, self._failed)
        asking.addBoth(self._next, began)

    def stop(self) -> None:
        """Check no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._asking is not None:
            self._asking.cancel()

    def refused(self) -> None:
        """A request could not be brought to the target, which says as much as a check."""
        self._result("it refused a connection")

    def doubt(self) -> None:
        """The same, of a target that nobody can stand in for, and whose checks have ended."""
        if not self.in_doubt:
            self.in_doubt = True
            self.failure = "it refused a connection"
            self._say()
            self._stopped = False
            self.start()

    def _answered(self, code: int) -> None:
        if 200 <= code < 300:
            self._result("")
            return
        redirects = ", and redirects are not followed" if 300 <= code < 400 else ""
        self._result(f"it answered {code} to {self.options.path}{redirects}")

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) and self._stopped:
            return
        self._result(failure.getErrorMessage() or type(failure.value).__name__)

    def _result(self, why_not: str) -> None:
        if self._stopped:
            return
        self.failure = why_not
        if self.in_doubt:
            if not why_not:
                self.in_doubt = False
                self.stop()
                self._say()
            return
        was, self.healthy = self.healthy, not why_not
        if self.healthy != was and (self.healthy or was):
            self._say()
        if self._checked is not None:
            self._checked(self)
        if self.healthy != was:
            self._changed(self)

    def _say(self) -> None:
        text = "{target} is {state}: {why}" if self.failure else "{target} is {state}"
        _log.info(text, target=self.target, state=self.state, why=self.failure)

    def _next(self, result: Any, began: float) -> None:
        self._asking = None
        if isinstance(result, Failure):
            _log.failure("a health check of {target} broke", result, target=self.target)
        if not self._stopped:
            wait = max(0.0, began + self.options.interval - self._clock.seconds())
            self._timer = self._clock.callLater(wait, self.start)
