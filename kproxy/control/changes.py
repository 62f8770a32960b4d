"""The steps that operations on services are made of, whoever asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kproxy.config.model import Service, Target
from kproxy.control.booting import Boot
from kproxy.control.certificates import Certificates
from kproxy.control.deployment import Checks, Deployment, DeploymentFailed
from kproxy.control.drains import Drains, shielded
from kproxy.control.handover import Alone, Handover
from kproxy.control.health import Ask
from kproxy.control.progress import Tell
from kproxy.control.saving import Saving
from kproxy.control.serving import Entry, Serving
from kproxy.control.turns import Turns
from kproxy.tls.checked import Checked

_log = Logger()


class Changes:
    """Checks, switches, removes, drains.

    @ivar why_no_https: asked when a service needs HTTPS: why it can't be reached by it, if so.

    @ivar deployments: how many there were, by outcome.
    """

    def __init__(
        self,
        serving: Serving,
        certificates: Certificates,
        boot: Boot,
        saving: Saving,
        drains: Drains,
        clock: IReactorTime,
        ask: Ask,
    ) -> None:
        self.serving = serving
        self.turns = Turns()
        self.why_no_https: Callable[[], str] = lambda: ""
        self.saving = saving
        self.drains = drains
        self._certificates = certificates
        self._boot = boot
        self._clock = clock
        self._ask = ask
        self.deployments = {"succeeded": 0, "failed": 0}
        self._deploying: set[Deployment] = set()
        self._closed = False

    def refuse_if_closed(self) -> None:
        """@raise DeploymentFailed: the proxy is stopping."""
        if self._closed:
            raise DeploymentFailed("the proxy is stopping")

    @asynccontextmanager
    async def deploying(self, name: str) -> AsyncIterator[None]:
        """A service's turn to be deployed; how that ends is counted."""
        async with self.turns.turn(name):
            try:
                yield
            except Exception:
                self.deployments["failed"] += 1
                raise
            self.deployments["succeeded"] += 1

    def deployment(self, service: Service, tell: Tell, *, force: bool = False) -> Deployment:
        """Begin to check the targets of a service.

        @param force: do not wait for them to be healthy.
        @raise DeploymentFailed: the proxy is stopping.
        """
        self.refuse_if_closed()
        _log.info("deploying {service}", service=service.name)
        return Deployment(service, self._clock, self._ask, tell, force=force)

    async def healthy(self, deployment: Deployment) -> Checks:
        """Wait until all targets are healthy.

        @raise DeploymentFailed: they are not in time.
        """
        self._deploying.add(deployment)
        try:
            return await deployment.done
        except DeploymentFailed as error:
            name = deployment.service.name
            _log.info("deployment of {service} failed: {error}", service=name, error=error)
            raise
        finally:
            self._deploying.discard(deployment)

    async def switch(
        self, checks: Checks, custom: Checked | None, handover: Handover | Alone, tell: Tell
    ) -> tuple[list[Target], Deferred[None]]:
        """All targets of a service are healthy: give them every request from now on. Whoever calls
        has its turn.

        @param custom: the service's certificate, if it has one of its own.
        @return: the targets that get none any more; and what fires when the state is safe.
        @raise DeploymentFailed: that can't be; nothing has changed.
        """
        serving, service = self.serving, checks.service
        name = service.name
        entry, old = Entry(checks, custom=custom), serving.entries.get(name)

        def change() -> None:
            entry.heeded = serving.mark(name)
            if old is not None:
                entry.gate, entry.rollout = old.gate, old.rollout
            serving.entries[name] = entry
            serving.removed.pop(name, None)
            checks.follow(serving.publish_soon)

        try:
            await handover.ready(name, change)
        except Exception:
            checks.stop()
            raise
        self._boot.forget(name)
        self._certificates.retry(service)
        warning = self._lacks_https(service)
        if warning:
            _log.warn("{message}", message=warning)
            tell({"event": "warning", "message": warning})
        targets = [str(target) for target in service.targets]
        _log.info("deployed {service}: {targets}", service=name, targets=", ".join(targets))
        tell({"event": "switched", "service": name, "targets": targets})
        saved = self.saving.now(tell)
        if old is None:
            return [], saved
        old.checks.stop()
        return entry.not_served(old.served()), saved

    def _lacks_https(self, service: Service) -> str:
        """Why a service does not have the HTTPS that it asks for; empty if it has, or asks for none."""
        if not service.ssl:
            return ""
        name = service.name
        if not self.serving.secure(name):
            return f"{name} has no HTTPS: the service on the root path of its host has none"
        reason = self.why_no_https()
        return f"{name} can't be reached by HTTPS: {reason}" if reason else ""

    async def remove(
        self,
        name: str,
        handover: Handover | Alone,
        tell: Tell,
        look_again: Callable[[str], object] = lambda name: None,
    ) -> None:
        """Serve a service no more; after other operations on it, and until its last request has
        ended.

        @param look_again: called when it is its turn; raises if it is to stay after all.
        @raise kproxy.control.serving.UnknownService: there is none.
        """
        serving = self.serving
        serving.entry(name)
        if self.turns.busy(name):
            tell({"event": "queued", "service": name})
        async with self.turns.turn(name):
            entry = serving.entry(name)
            look_again(name)

            def change() -> None:
                del serving.entries[name]
                mark = serving.mark(name)
                if mark is not None:
                    serving.removed[name] = mark

            await handover.ready(name, change)
            entry.stop()
            self._boot.forget(name)
            _log.info("removed {service}", service=name)
            saved = self.saving.now(tell)
        await self.finish(name, entry.served(), entry.service.drain_timeout, saved, tell)

    async def finish(
        self,
        name: str,
        targets: Sequence[Target],
        timeout: float,
        saved: Deferred[None],
        tell: Tell,
    ) -> None:
        """Wait until targets have no requests any more, and the state is safe."""
        drained = self.drains.drain(name, targets, timeout, tell)
        await shielded(saved)
        await drained

    def close(self) -> None:
        """Change nothing more."""
        self._closed = True
        for deployment in list(self._deploying):
            deployment.fail("the proxy is stopping")
