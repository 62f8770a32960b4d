"""Holds what should run, and brings the data plane there: what commands and signals ask for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kproxy.config.model import Acme, Configuration, Service, Target
from kproxy.control.automatic import Nobody
from kproxy.control.booting import Boot
from kproxy.control.certificates import Certificates
from kproxy.control.changes import Changes
from kproxy.control.custom import CustomCertificates
from kproxy.control.deployment import DeploymentFailed
from kproxy.control.drains import Drains, shielded
from kproxy.control.following import Following
from kproxy.control.handover import Alone
from kproxy.control.health import Ask, traced
from kproxy.control.listing import describe, describe_tls
from kproxy.control.measuring import measure
from kproxy.control.progress import Tell, untold
from kproxy.control.rollouts import Rollouts
from kproxy.control.saving import Saving
from kproxy.control.serving import DataPlane, HostInUse, Serving
from kproxy.control.state import Gate, NoStore, State, Store
from kproxy.metrics.catalog import Measured
from kproxy.snapshot import Snapshot
from kproxy.threads import InThread, at_once

_log = Logger()


class Controller:
    """The services of one proxy.

    A service is served by what its last finished deployment says. One that has none yet (at boot)
    is served by those of its targets that are up, and answers 503 while there is none.

    @ivar changes: the steps that operations are made of.
    @ivar rollouts: operations on those.
    """

    def __init__(
        self,
        data_plane: DataPlane,
        clock: IReactorTime,
        ask: Ask,
        trace: Callable[..., object] | None = None,
        store: Store | None = None,
        certificates: Certificates | None = None,
        in_thread: InThread = at_once,
        environ: Mapping[str, str] = MappingProxyType({}),
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        """@param trace: takes an event for every single health check, for debugging.
        @param store: where the state is kept; by default nowhere.
        @param certificates: by default there are none from a CA.
        @param environ: for the secrets of services, which are read `in_thread`.
        @param now: the time, in UTC.
        @param elapsed: see `kproxy.control.serving.Serving`; by default the clock's seconds."""
        ask = ask if trace is None else traced(ask, trace)
        self._data_plane = data_plane
        self._now = now
        self._certificates = certificates = certificates or Certificates(Nobody)
        self._serving = serving = Serving(data_plane, clock, certificates, elapsed)
        self._saving = saving = Saving(store or NoStore(), serving.state, clock)
        self._drains = drains = Drains(data_plane, clock)
        self._boot = boot = Boot(serving, saving, data_plane, clock, ask)
        self.changes = changes = Changes(serving, certificates, boot, saving, drains, clock, ask)
        self._turns = changes.turns
        self._custom = CustomCertificates(
            serving, certificates, changes.turns, clock, in_thread, environ, now
        )
        self._following = Following(changes, certificates, self._custom)
        self.rollouts = Rollouts(changes)
        certificates.changed = self._publish_certificates
        data_plane.target_refused = self._target_refused

    # What there is.

    def services(self) -> list[Service]:
        """What is served."""
        return [entry.service for entry in self._serving.entries.values()]

    def declared(self, name: str) -> Service | None:
        """What the configuration file says of a service."""
        return self._serving.declared.get(name)

    def snapshot(self) -> Snapshot:
        """What is served now."""
        return self._serving.snapshot()

    def refresh(self) -> Deferred[None]:
        """Ask the data plane what goes on.

        @return: fires when `describe` tells it."""
        return self._data_plane.refresh()

    def describe(self) -> list[dict[str, Any]]:
        """Each service and its state, as plain data; its requests are those of the last `refresh`."""
        serving, busy = self._serving, self._turns.busy
        report, declared, now = self._data_plane.report(), serving.declared, self._now()
        return [
            {
                **describe(entry, report.get(name, ()), busy(name), name in declared),
                **describe_tls(entry, self._certificates, serving.secure(name), now),
            }
            for name, entry in serving.entries.items()
        ]

    def measure(self) -> Measured:
        """The same for metrics: health, certificates, deployments."""
        entries = self._serving.entries.values()
        return measure(entries, self._certificates, self.changes.deployments)

    def publish(self) -> None:
        """Let the data plane serve what is served now."""
        self._serving.publish()

    def _publish_certificates(self) -> Deferred[None]:
        try:
            return self._serving.publish()
        except Exception:
            _log.failure("a certificate can't be served")
            return succeed(None)

    def _target_refused(self, name: str, target: Target) -> None:
        entry = self._serving.entries.get(name)
        if entry is not None:
            for checks in entry.all_checks():
                checks.refused(target)

    # What the configuration file says.

    def boot(
        self,
        services: Sequence[Service],
        state: State | None = None,
        acme: Acme | None = None,
        healthy: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        """Serve what the last run did, with all targets taken for healthy; then what the
        configuration file says, as far as that is new: each service as soon as one of its targets
        is healthy, and those that were served before after an ordinary deployment.

        @param healthy: see `kproxy.control.booting.Boot.prepare`.
        @raise kproxy.tree.WrapperFailed: a wrapper does not take its options.
        """
        self.rehearse(services, state, acme, healthy)
        self._boot.begin()
        self._certificates.start()
        self._following.follow()

    def rehearse(
        self,
        services: Sequence[Service],
        state: State | None = None,
        acme: Acme | None = None,
        healthy: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> list[str]:
        """The first half of `boot`: the data plane is told, and nobody else is asked for anything.

        @return: what can't be served any more, and why.
        """
        self._serving.declared = {service.name: service for service in services}
        self._certificates.use(acme or Acme())
        return self._boot.prepare(state or State(), healthy)

    def healthy(self) -> dict[str, list[str]]:
        """The addresses of the targets of each service that get requests, those of rollouts, too."""
        return {
            name: [str(target) for checks in entry.all_checks() for target in checks.healthy()]
            for name, entry in self._serving.entries.items()
        }

    def busy(self) -> bool:
        """Whether anything is being deployed, or removed."""
        return self._turns.any()

    def save(self) -> Deferred[None]:
        """Keep what a restart should find.

        @return: fires when it is safe, or can't be saved."""
        return self._saving.now(untold)

    def reload(self, configuration: Configuration, tell: Tell = untold) -> Deferred[list[str]]:
        """Deploy what the file says anew; what it said before is not touched.

        @return: fires with what has failed, when all the rest is served.
        """
        return self._following.reload(configuration, tell)

    # What the command line says.

    def deploy(
        self, service: Service, tell: Tell = untold, *, force: bool = False
    ) -> Deferred[None]:
        """Serve a service, new or changed, once all of its targets are healthy. It waits for other
        operations on the service; cancelled, it leaves everything as it was.

        @param force: do not wait for the targets to be healthy.
        @return: fires when the requests of targets that it does not have any more have ended; fails
            with `DeploymentFailed`, and then the service is served as it was.
        """
        return Deferred.fromCoroutine(self._deploy(service, tell, force))

    async def _deploy(self, service: Service, tell: Tell, force: bool) -> None:
        self._refuse_conflict(service)
        name, changes = service.name, self.changes
        if self._turns.busy(name):
            tell({"event": "queued", "service": name})
        async with changes.deploying(name):
            custom = await self._custom.of(service, self._custom.read([service]), tell)
            self._refuse_conflict(service)
            checks = await changes.healthy(changes.deployment(service, tell, force=force))
            try:
                self._refuse_conflict(service)
            except DeploymentFailed:
                checks.stop()
                raise
            gone, saved = await changes.switch(checks, custom, Alone(self._serving), tell)
        await changes.finish(name, gone, service.drain_timeout, saved, tell)

    def _refuse_conflict(self, service: Service) -> None:
        self.changes.refuse_if_closed()
        other = self._serving.holder(service)
        if other is not None:
            raise HostInUse(other)
        refusal = self._certificates.refusal(service)
        if refusal:
            raise DeploymentFailed(f"{service.name}: {refusal}")

    def remove(self, name: str, tell: Tell = untold) -> Deferred[None]:
        """Serve a service no more; after other operations on it.

        @return: fires when its last request has ended; fails with `UnknownService`.
        """
        return Deferred.fromCoroutine(self.changes.remove(name, Alone(self._serving), tell))

    def pause(
        self, name: str, drain_timeout: float, max_pause: float, tell: Tell = untold
    ) -> Deferred[None]:
        """Hold new requests of a service, each for `max_pause` seconds at most.

        @return: fires when the requests before have ended, or were cut after `drain_timeout`.
        """
        return self._close_gate(name, Gate("paused", "", max_pause), drain_timeout, tell)

    def stop(
        self, name: str, drain_timeout: float, message: str, tell: Tell = untold
    ) -> Deferred[None]:
        """Answer requests of a service with 503 and a message.

        @return: fires when the requests before have ended, or were cut after `drain_timeout`.
        """
        return self._close_gate(name, Gate("stopped", message), drain_timeout, tell)

    def resume(self, name: str, tell: Tell = untold) -> Deferred[None]:
        """Let requests of a service pass again, those first that were held.

        @return: fires when that is safe.
        """
        return Deferred.fromCoroutine(self._set_gate(name, Gate(), tell))

    def _close_gate(
        self, name: str, gate: Gate, drain_timeout: float, tell: Tell
    ) -> Deferred[None]:
        async def close() -> None:
            await self._set_gate(name, gate, tell)
            entry = self._serving.entries.get(name)
            if entry is not None:
                await self._drains.drain(name, entry.served(), drain_timeout, tell)

        return Deferred.fromCoroutine(close())

    async def _set_gate(self, name: str, gate: Gate, tell: Tell) -> None:
        self._serving.entry(name).gate = gate
        applied = self._serving.publish()
        _log.info("{service} is {state} now", service=name, state=gate.state)
        await shielded(self._saving.now(tell))
        await shielded(applied)

    # The end.

    def close(self) -> Deferred[None]:
        """Check and deploy no more.

        @return: fires when what is to be remembered of certificates is safe.
        """
        self._custom.stop()
        self._boot.close()
        self.changes.close()
        for entry in self._serving.entries.values():
            entry.stop()
        self._serving.close()
        self._saving.close()
        return self._certificates.stop()
