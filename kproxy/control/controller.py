"""Holds what should run, and brings the data plane there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kproxy.config.model import Configuration, Service, Target
from kproxy.control.deployment import Checks, Deployment, DeploymentFailed
from kproxy.control.health import Ask, traced
from kproxy.snapshot import ServiceState, Snapshot

_log = Logger()


class DataPlane(Protocol):
    """The only way from here to the data plane (`kproxy.dataplane.DataPlane`)."""

    def apply(self, snapshot: Snapshot) -> None: ...
    def drain(self, service: str, targets: Sequence[Target], timeout: float) -> Deferred[None]: ...


class Controller:
    """The services of one proxy.

    A service is served by what its last finished deployment says. One that has none yet (at boot) is
    served by those of its targets that are up, and answers 503 while there is none.
    """

    def __init__(
        self,
        data_plane: DataPlane,
        clock: IReactorTime,
        ask: Ask,
        trace: Callable[..., object] | None = None,
    ) -> None:
        """@param trace: takes an event for every single health check, for debugging."""
        self._data_plane = data_plane
        self._clock = clock
        self._ask = ask if trace is None else traced(ask, trace)
        self._serving: dict[str, Checks] = {}
        self._deploying: dict[str, Deployment] = {}
        self._late: dict[str, IDelayedCall] = {}
        self._states: dict[str, ServiceState] = {}
        self._soon: IDelayedCall | None = None

    def boot(self, services: Sequence[Service]) -> None:
        """Serve these from now on, each as soon as one of its targets is healthy.

        @raise kproxy.tree.WrapperFailed: a wrapper does not take its options.
        """
        for service in services:
            self._serving[service.name] = Checks(
                service, self._clock, self._ask, self._publish_soon
            )
        self.publish()
        for service in services:
            self._serving[service.name].start()
            self._late[service.name] = self._clock.callLater(
                service.deploy_timeout, self._report_late, service.name
            )

    def _report_late(self, name: str) -> None:
        del self._late[name]
        checks = self._serving[name]
        if not checks.all_healthy():
            _log.error(
                "{service} is not healthy after {timeout:g} s, and is tried on: {why}",
                service=name,
                timeout=checks.service.deploy_timeout,
                why=checks.why_not(),
            )

    def snapshot(self) -> Snapshot:
        """What is served now."""
        states = {}
        for name, checks in self._serving.items():
            old = self._states.get(name)
            healthy = checks.healthy()
            if old is not None and old.service is checks.service and old.healthy == healthy:
                states[name] = old
            else:
                states[name] = ServiceState(checks.service, healthy)
        self._states = states
        return Snapshot(tuple(states.values()))

    def publish(self) -> None:
        """Let the data plane serve what is served now."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._data_plane.apply(self.snapshot())

    def _publish_soon(self) -> None:
        """The health of a target has changed; whatever else changes at the same time goes along."""
        if self._soon is None:
            self._soon = self._clock.callLater(0, self._publish_now)

    def _publish_now(self) -> None:
        self._soon = None
        self.publish()

    def reload(self, configuration: Configuration) -> Deferred[None]:
        """Deploy what differs from what is served; what does not is not touched.

        @return: fires when all of it is served, or has failed; each failure is in the log.
        """
        for deployment in list(self._deploying.values()):
            deployment.fail("the configuration was read again")
        wanted = {service.name: service for service in configuration.services}
        waits = [self.remove(name) for name in list(self._serving) if name not in wanted]
        for name, service in wanted.items():
            serving = self._serving.get(name)
            if serving is None or serving.service != service:
                waits.append(self.deploy(service).addErrback(self._log_failure))
        done: Deferred[None] = Deferred()
        DeferredList(waits).addCallback(lambda _: done.callback(None))
        return done

    def deploy(self, service: Service) -> Deferred[None]:
        """Serve a service, new or changed, once all of its targets are healthy.

        @return: fires when the requests of targets that it does not have any more have ended; fails
            with `DeploymentFailed`, and then the service is served as it was.
        """
        before = self._deploying.pop(service.name, None)
        if before is not None:
            before.fail("a newer deployment took its place")
        _log.info("deploying {service}", service=service.name)
        deployment = Deployment(service, self._clock, self._ask)
        self._deploying[service.name] = deployment
        return deployment.done.addCallback(self._switch, deployment)

    def _switch(self, checks: Checks, deployment: Deployment) -> Deferred[None]:
        """All targets are healthy: give them every request from now on, and drain the old ones."""
        service = checks.service
        self._deploying.pop(service.name, None)
        old = self._serving.get(service.name)
        self._serving[service.name] = checks
        checks.follow(self._publish_soon)
        try:
            self.publish()
        except Exception as error:
            checks.stop()
            if old is None:
                del self._serving[service.name]
            else:
                self._serving[service.name] = old
            raise DeploymentFailed(f"{service.name}: {error}") from error
        self._forget_late(service.name)
        _log.info("deployed {service}", service=service.name)
        if old is None:
            return _done()
        old.stop()
        gone = [target for target in old.service.targets if target not in service.targets]
        return self._data_plane.drain(service.name, gone, service.drain_timeout)

    def remove(self, name: str) -> Deferred[None]:
        """Serve a service no more.

        @return: fires when its last request has ended.
        """
        checks = self._serving.pop(name)
        checks.stop()
        self._forget_late(name)
        self.publish()
        _log.info("removed {service}", service=name)
        return self._data_plane.drain(name, checks.service.targets, checks.service.drain_timeout)

    def _forget_late(self, name: str) -> None:
        late = self._late.pop(name, None)
        if late is not None:
            late.cancel()

    def _log_failure(self, failure: Failure) -> None:
        if failure.check(DeploymentFailed):
            _log.error("deployment failed: {error}", error=failure.value)
        else:
            _log.failure("deployment failed", failure)

    def stop(self) -> None:
        """Check and deploy no more."""
        for name in list(self._late):
            self._forget_late(name)
        for deployment in list(self._deploying.values()):
            deployment.fail("the proxy is stopping")
        for checks in self._serving.values():
            checks.stop()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None


def _done() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    done.callback(None)
    return done
