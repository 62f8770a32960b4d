"""Holds what should run, and brings the data plane there.

The configuration file and the command line both say what a service is; what was said last wins,
for each service on its own. A file that is read again has said something new of a service only if
it differs there from what it said before. So for each service the fingerprint of the file's last
word is kept with it (`Entry.heeded`), across restarts too.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kproxy.config.model import Acme, Configuration, Service, Target
from kproxy.control.certificates import Certificates, Nobody
from kproxy.control.custom import CustomCertificates, Reading
from kproxy.control.deployment import Checks, Deployment, DeploymentFailed, OperationFailed
from kproxy.control.drains import Drains, shielded
from kproxy.control.handover import Alone, Handover, handovers
from kproxy.control.health import Ask, traced
from kproxy.control.listing import describe, describe_tls
from kproxy.control.marshal import fingerprint
from kproxy.control.progress import Tell, untold
from kproxy.control.restoring import restore, restored_rollout
from kproxy.control.rollouts import Rollouts
from kproxy.control.serving import DataPlane, Entry, Serving, holder
from kproxy.control.state import Gate, NoStore, State, Store
from kproxy.control.turns import Turns
from kproxy.snapshot import Snapshot
from kproxy.threads import InThread, at_once
from kproxy.tls.certificates import Checked

HOST_IN_USE = "host is used by another service"
SAVE_AFTER = 1.0
"""Seconds that a change which nobody waits for may wait to be saved with others."""
_log = Logger()


class HostInUse(DeploymentFailed):
    """Another service has a host and path that were asked for."""


class Controller:
    """The services of one proxy.

    A service is served by what its last finished deployment says. One that has none yet (at boot)
    is served by those of its targets that are up, and answers 503 while there is none.
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
    ) -> None:
        """@param trace: takes an event for every single health check, for debugging.
        @param store: where the state is kept; by default nowhere.
        @param certificates: by default there are none from a CA.
        @param environ: for the secrets of services, which are read `in_thread`.
        @param now: the time, in UTC."""
        self._data_plane = data_plane
        self._clock = clock
        self._ask = ask if trace is None else traced(ask, trace)
        self._store = store or NoStore()
        self._certificates = certificates or Certificates(Nobody)
        self._certificates.changed = self._publish_certificates
        self._serving = Serving(data_plane, clock, self._certificates)
        self._drains = Drains(data_plane, clock)
        self._turns = Turns()
        self._custom = CustomCertificates(
            self._serving, self._certificates, self._turns, clock, in_thread, environ, now
        )
        self._now = now
        self._declared: dict[str, Service] = {}
        self._deploying: set[Deployment] = set()
        self._from_file: dict[str, Deployment] = {}
        self._late: dict[str, IDelayedCall] = {}
        self._closed = False
        self._saving: IDelayedCall | None = None
        data_plane.target_refused = self._target_refused
        self.rollouts = Rollouts(
            self._serving, self._turns, self._healthy_targets, self._save, self._finish
        )

    # What there is.

    def services(self) -> list[Service]:
        """What is served."""
        return [entry.service for entry in self._serving.entries.values()]

    def declared(self, name: str) -> Service | None:
        """What the configuration file says of a service."""
        return self._declared.get(name)

    def snapshot(self) -> Snapshot:
        """What is served now."""
        return self._serving.snapshot()

    def describe(self) -> list[dict[str, Any]]:
        """Each service and its state, as plain data."""
        report, declared, now = self._data_plane.report(), self._declared, self._now()
        return [
            {
                **describe(entry, report.get(name, ()), self._turns.busy(name), name in declared),
                **describe_tls(entry, self._certificates, self._serving.secure(name), now),
            }
            for name, entry in self._serving.entries.items()
        ]

    def publish(self) -> None:
        """Let the data plane serve what is served now."""
        self._serving.publish()

    def _publish_certificates(self) -> None:
        try:
            self._serving.publish()
        except Exception:
            _log.failure("a certificate can't be served")

    # The beginning.

    def boot(
        self, services: Sequence[Service], state: State | None = None, acme: Acme | None = None
    ) -> None:
        """Serve what the last run did, with all targets taken for healthy; then what the
        configuration file says, as far as that is new: each service as soon as one of its targets
        is healthy, and those that were served before after an ordinary deployment.

        @raise kproxy.tree.WrapperFailed: a wrapper does not take its options.
        """
        self._declared = {service.name: service for service in services}
        self._certificates.use(acme or Acme())
        entries = self._serving.entries
        restore(
            state or State(), self._serving, self._declared, self._data_plane, self._healthy_checks
        )
        unproven = {r.service.name: r for r in (state or State()).records if not r.proven}
        taken = self._serving.held(entries)
        fresh = [
            service
            for service in services
            if service.name not in entries
            and self._serving.heeded(service.name) != fingerprint(service)
            and holder(service, taken) is None
        ]
        for service in fresh:
            checks = Checks(service, self._clock, self._ask, self._changed_of(service.name))
            entry = Entry(checks, fingerprint(service), proven=False)
            before = unproven.get(service.name)
            if before is not None:
                entry.gate = before.gate
                entry.rollout = restored_rollout(service, before.rollout, self._healthy_checks)
            entries[service.name] = entry
        self._serving.publish()
        for entry in entries.values():
            for checks in entry.all_checks():
                checks.start()
        for service in fresh:
            self._late[service.name] = self._clock.callLater(
                service.deploy_timeout, self._report_late, service.name
            )
        self._certificates.start()
        self._follow_file()

    def _healthy_checks(self, service: Service) -> Checks:
        soon = self._serving.publish_soon
        return Checks(service, self._clock, self._ask, soon, healthy=True)

    def _changed_of(self, name: str) -> Callable[[], None]:
        def changed() -> None:
            entry = self._serving.entries.get(name)
            if entry is not None and not entry.proven and entry.checks.all_healthy():
                entry.proven = True
                self._forget_late(name)
                self._save_in_background()
            self._serving.publish_soon()

        return changed

    def _target_refused(self, name: str, target: Target) -> None:
        entry = self._serving.entries.get(name)
        if entry is not None:
            for checks in entry.all_checks():
                checks.refused(target)

    def _report_late(self, name: str) -> None:
        del self._late[name]
        checks = self._serving.entries[name].checks
        if not checks.all_healthy():
            _log.error(
                "{service} is not healthy after {timeout:g} s, and is tried on: {why}",
                service=name,
                timeout=checks.service.deploy_timeout,
                why=checks.why_not(),
            )

    # What the file says.

    def reload(self, configuration: Configuration, tell: Tell = untold) -> Deferred[list[str]]:
        """Deploy what the file says anew; what it said before is not touched.

        @return: fires with what has failed, when all the rest is served.
        """
        for deployment in list(self._from_file.values()):
            deployment.fail("the configuration was read again")
        self._declared = {service.name: service for service in configuration.services}
        if self._certificates.use(configuration.acme):
            self._serving.publish_soon()
        for service in self.services():
            self._certificates.retry(service)
        return self._follow_file(tell)

    def _follow_file(self, tell: Tell = untold) -> Deferred[list[str]]:
        serving, declared = self._serving, self._declared
        for name in [name for name in serving.removed if name not in declared]:
            del serving.removed[name]
        marks = {name: fingerprint(service) for name, service in declared.items()}
        news = [name for name, mark in marks.items() if serving.heeded(name) != mark]
        gone = [
            name
            for name, entry in serving.entries.items()
            if entry.heeded is not None and name not in declared
        ]
        moving = {*news, *gone}
        held = serving.held(name for name in serving.entries if name not in moving)
        together = handovers(self.services(), declared.values(), moving)
        stay = [e.service for name, e in serving.entries.items() if name not in moving]
        reading = self._custom.read([*stay, *(declared[name] for name in news)])

        def start(name: str, work: Coroutine[Any, Any, None]) -> Deferred[None]:
            def failed(failure: Failure) -> Failure:
                together[name].fail(name)
                return failure

            return Deferred.fromCoroutine(work).addErrback(failed)

        waits = [start(name, self._remove(name, tell, together[name])) for name in gone]
        waits += self._custom.renew(stay, reading)
        for name in news:
            entry, service = serving.entries.get(name), declared[name]
            served = entry is not None and entry.service == service
            if entry is not None and served and not self._turns.busy(name):
                entry.heeded = marks[name]
                self._save_in_background()
                waits += self._custom.renew([service], reading)
                continue
            other = holder(service, held)
            if other is not None:
                together[name].fail(name)
                waits.append(fail(HostInUse(f"{name}: {HOST_IN_USE} ({other})")))
            else:
                work = self._deploy_from_file(service, reading, tell, together[name])
                waits.append(start(name, work))
        failures: list[str] = []

        def note(failure: Failure) -> None:
            _log_failure(failure)
            failures.append(failure.getErrorMessage())

        done: Deferred[list[str]] = Deferred()
        DeferredList([wait.addErrback(note) for wait in waits]).addCallback(
            lambda _: done.callback(failures)
        )
        return done

    async def _deploy_from_file(
        self, service: Service, reading: Reading, tell: Tell, handover: Handover | Alone
    ) -> None:
        async with self._turns.turn(service.name):
            custom = await self._custom.of(service, reading, tell)
            if self._closed:
                raise DeploymentFailed("the proxy is stopping")
            if self._declared.get(service.name) is not service:
                raise DeploymentFailed(f"{service.name}: the configuration was read again")
            deployment = Deployment(service, self._clock, self._ask, tell)
            self._from_file[service.name] = deployment
            try:
                checks = await self._healthy(deployment)
            finally:
                del self._from_file[service.name]
            try:
                await handover.ready(service.name)
            except DeploymentFailed:
                checks.stop()
                raise
            gone, saved = self._switch(checks, custom, tell)
        await self._finish(service.name, gone, service.drain_timeout, saved, tell)

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
        name = service.name
        if self._turns.busy(name):
            tell({"event": "queued", "service": name})
        async with self._turns.turn(name):
            custom = await self._custom.of(service, self._custom.read([service]), tell)
            self._refuse_conflict(service)
            deployment = Deployment(service, self._clock, self._ask, tell, force=force)
            checks = await self._healthy(deployment)
            try:
                self._refuse_conflict(service)
            except HostInUse:
                checks.stop()
                raise
            gone, saved = self._switch(checks, custom, tell)
        await self._finish(name, gone, service.drain_timeout, saved, tell)

    def _refuse_conflict(self, service: Service) -> None:
        if self._closed:
            raise DeploymentFailed("the proxy is stopping")
        other = self._serving.holder(service)
        if other is not None:
            raise HostInUse(f"{HOST_IN_USE} ({other})")
        refusal = self._certificates.refusal(service)
        if refusal:
            raise DeploymentFailed(f"{service.name}: {refusal}")

    async def _healthy_targets(self, service: Service, tell: Tell) -> Checks:
        if self._closed:
            raise DeploymentFailed("the proxy is stopping")
        return await self._healthy(Deployment(service, self._clock, self._ask, tell))

    async def _healthy(self, deployment: Deployment) -> Checks:
        name = deployment.service.name
        _log.info("deploying {service}", service=name)
        self._deploying.add(deployment)
        try:
            return await deployment.done
        except DeploymentFailed as error:
            _log.info("deployment of {service} failed: {error}", service=name, error=error)
            raise
        finally:
            self._deploying.discard(deployment)

    def _switch(
        self, checks: Checks, custom: Checked | None, tell: Tell
    ) -> tuple[list[Target], Deferred[None]]:
        """All targets are healthy: give them every request from now on.

        @param custom: the service's certificate, if it has one of its own.
        @return: the targets that get none any more; and what fires when the state is safe.
        """
        service, entries = checks.service, self._serving.entries
        name = service.name
        old = entries.get(name)
        declared = self._declared.get(name)
        entry = Entry(checks, None if declared is None else fingerprint(declared), custom=custom)
        if old is not None:
            entry.gate, entry.rollout = old.gate, old.rollout
        entries[name] = entry
        checks.follow(self._serving.publish_soon)
        try:
            self._serving.publish()
        except Exception as error:
            checks.stop()
            if old is None:
                del entries[name]
            else:
                entries[name] = old
            raise DeploymentFailed(f"{name}: {error}") from error
        self._serving.removed.pop(name, None)
        self._forget_late(name)
        self._certificates.retry(service)
        if service.ssl and not self._serving.secure(name):
            message = f"{name} has no HTTPS: the service on the root path of its host has none"
            _log.warn("{message}", message=message)
            tell({"event": "warning", "message": message})
        targets = [str(target) for target in service.targets]
        _log.info("deployed {service}", service=name, targets=targets)
        tell({"event": "switched", "service": name, "targets": targets})
        saved = self._save(tell)
        if old is None:
            return [], saved
        old.checks.stop()
        return entry.not_served(old.served()), saved

    def remove(self, name: str, tell: Tell = untold) -> Deferred[None]:
        """Serve a service no more; after other operations on it.

        @return: fires when its last request has ended; fails with `UnknownService`.
        """
        return Deferred.fromCoroutine(self._remove(name, tell, Alone()))

    async def _remove(self, name: str, tell: Tell, handover: Handover | Alone) -> None:
        self._serving.entry(name)
        if self._turns.busy(name):
            tell({"event": "queued", "service": name})
        async with self._turns.turn(name):
            self._serving.entry(name)
            await handover.ready(name)
            entry = self._serving.entry(name)
            entry.stop()
            del self._serving.entries[name]
            declared = self._declared.get(name)
            if declared is not None:
                self._serving.removed[name] = fingerprint(declared)
            self._forget_late(name)
            self._serving.publish()
            _log.info("removed {service}", service=name)
            saved = self._save(tell)
        await self._finish(name, entry.served(), entry.service.drain_timeout, saved, tell)

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
        self._serving.publish()
        _log.info("{service} is {state} now", service=name, state=gate.state)
        await shielded(self._save(tell))

    # Private.

    async def _finish(
        self,
        name: str,
        targets: Sequence[Target],
        timeout: float,
        saved: Deferred[None],
        tell: Tell,
    ) -> None:
        drained = self._drains.drain(name, targets, timeout, tell)
        await shielded(saved)
        await drained

    def _save(self, tell: Tell) -> Deferred[None]:
        def failed(failure: Failure) -> None:
            message = f"the state could not be saved: {failure.getErrorMessage()}"
            _log.error("{message}", message=message)
            tell({"event": "warning", "message": message})

        return self._store.save(self._serving.state()).addErrback(failed)

    def _save_in_background(self) -> None:
        """Save what nobody waits for; whatever else changes meanwhile goes along. With thousands of
        services, saving at every first healthy check would be most of a boot."""
        if self._saving is None:
            self._saving = self._clock.callLater(SAVE_AFTER, self._save_now)

    def _save_now(self) -> None:
        self._saving = None
        self._save(untold)

    def _forget_late(self, name: str) -> None:
        late = self._late.pop(name, None)
        if late is not None:
            late.cancel()

    def close(self) -> Deferred[None]:
        """Check and deploy no more.

        @return: fires when what is to be remembered of certificates is safe.
        """
        self._closed = True
        self._custom.stop()
        for name in list(self._late):
            self._forget_late(name)
        for deployment in list(self._deploying):
            deployment.fail("the proxy is stopping")
        for entry in self._serving.entries.values():
            entry.stop()
        self._serving.close()
        if self._saving is not None:
            self._saving.cancel()
            self._save_now()
        return self._certificates.stop()


def _log_failure(failure: Failure) -> None:
    if failure.check(OperationFailed):
        _log.error("deployment failed: {error}", error=failure.value)
    else:
        _log.failure("deployment failed", failure)
