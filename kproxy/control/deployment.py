"""One service and its way from what it was to what it is to be."""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kproxy.config.model import Service, Target
from kproxy.control.health import Ask, HealthCheck
from kproxy.control.progress import Tell, untold


class OperationFailed(Exception):
    """What was asked for can't be done, and nothing has changed; the text says why."""


class DeploymentFailed(OperationFailed):
    """The new targets did not become healthy; the text says which, and why."""


def addresses(service: Service) -> list[str]:
    """Those of all its targets."""
    return [str(target) for target in (*service.targets, *service.read_targets)]


class Checks:
    """The health checks of a service's targets and read targets.

    With one target, its checks end once it is healthy. With several they go on, since an unhealthy
    one has others to stand in for it.

    @param changed: called whenever a target turned healthy or unhealthy.
    @param checked: called with each single check.
    @param healthy: addresses of targets that count as healthy until a check says otherwise.
    """

    def __init__(
        self,
        service: Service,
        clock: IReactorTime,
        ask: Ask,
        changed: Callable[[], object],
        checked: Callable[[HealthCheck], object] | None = None,
        *,
        healthy: Collection[str] = (),
    ) -> None:
        self.service = service
        self._changed = changed
        self._stopped = False
        self._checks = {
            target: HealthCheck(
                target,
                service.healthcheck,
                clock,
                ask,
                self._one_changed,
                checked,
                True if str(target) in healthy else None,
            )
            for target in (*service.targets, *service.read_targets)
        }

    def start(self) -> None:
        if len(self._checks) == 1 and self.all_healthy():
            return
        for check in list(self._checks.values()):
            check.start()

    def stop(self) -> None:
        self._stopped = True
        for check in self._checks.values():
            check.stop()

    def follow(self, changed: Callable[[], object]) -> None:
        """Tell another of changes from now on."""
        self._changed = changed

    def all(self) -> tuple[HealthCheck, ...]:
        """The checks, in the order of the targets."""
        return tuple(self._checks.values())

    def healthy(self) -> tuple[Target, ...]:
        """The targets whose last check went well."""
        return tuple(target for target, check in self._checks.items() if check.healthy)

    def all_healthy(self) -> bool:
        return len(self.healthy()) == len(self._checks)

    def why_not(self) -> str:
        """Which targets are not healthy, in words."""
        return "; ".join(
            f"{target}: {check.failure or 'no answer yet'}"
            for target, check in self._checks.items()
            if not check.healthy
        )

    def refused(self, target: Target) -> None:
        """A request could not be brought to a target. That is a failed check, if another one can
        stand in for it: the only one is of more use if it is tried again with each request. So that
        one stays, in doubt."""
        check = self._checks.get(target)
        if check is None or not check.healthy or self._stopped:
            return
        writers = self.service.targets
        stand_ins = [
            other
            for other in self.healthy()
            if other != target and (other in writers or target not in writers)
        ]
        if stand_ins:
            check.refused()
        elif len(self._checks) == 1:
            check.doubt()

    def _one_changed(self, check: HealthCheck) -> None:
        if check.healthy and len(self._checks) == 1:
            check.stop()
        self._changed()


class Deployment:
    """Waits until all targets of a service are healthy.

    @param force: do not wait: they count as healthy.
    @ivar done: fires with the `Checks` once they are; fails with `DeploymentFailed` after
        ``deploy_timeout``, or when cancelled.
    """

    def __init__(
        self,
        service: Service,
        clock: IReactorTime,
        ask: Ask,
        tell: Tell = untold,
        *,
        force: bool = False,
    ) -> None:
        self.service = service
        self.done: Deferred[Checks] = Deferred(lambda _: self.fail("it was cancelled"))
        self._tell = tell
        healthy = addresses(service) if force else ()
        self._checks = Checks(service, clock, ask, self._changed, self._checked, healthy=healthy)
        self._timer: IDelayedCall | None = clock.callLater(service.deploy_timeout, self._time_out)
        self._checks.start()
        self._changed()

    def _checked(self, check: HealthCheck) -> None:
        if self._timer is not None:
            event = {"attempt": check.attempts, "healthy": check.healthy, "failure": check.failure}
            self._tell({"event": "check", "target": str(check.target), **event})

    def _changed(self) -> None:
        if self._timer is not None and self._checks.all_healthy():
            self._timer.cancel()
            self._timer = None
            self.done.callback(self._checks)

    def _time_out(self) -> None:
        self._timer = None
        self.fail(f"not healthy within {self.service.deploy_timeout:g} s: {self._checks.why_not()}")

    def fail(self, reason: str) -> None:
        """Give up; what was there before stays."""
        if self.done.called:
            return
        self._checks.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.done.errback(DeploymentFailed(f"{self.service.name}: {reason}"))
