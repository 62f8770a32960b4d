"""Follows the configuration file: what it says anew is deployed, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from kproxy.config.model import Configuration, Service
from kproxy.control.certificates import Certificates
from kproxy.control.changes import Changes
from kproxy.control.custom import CustomCertificates, Reading
from kproxy.control.deployment import Deployment, DeploymentFailed, OperationFailed
from kproxy.control.handover import Alone, Handover, handovers
from kproxy.control.progress import Tell, untold
from kproxy.control.serving import HostInUse, holder

_log = Logger()


class Following:
    """Deploys what the file says (`kproxy.control.serving.Serving.declared`), as far as it is new."""

    def __init__(
        self, changes: Changes, certificates: Certificates, custom: CustomCertificates
    ) -> None:
        self._changes = changes
        self._serving = changes.serving
        self._certificates = certificates
        self._custom = custom
        self._deploying: dict[str, Deployment] = {}

    def reload(self, configuration: Configuration, tell: Tell) -> Deferred[list[str]]:
        """The file has been read again.

        @return: fires with what has failed, when all the rest is served.
        """
        for deployment in list(self._deploying.values()):
            deployment.fail("the configuration was read again")
        self._serving.declared = {service.name: service for service in configuration.services}
        if self._certificates.use(configuration.acme):
            self._serving.publish_soon()
        for entry in self._serving.entries.values():
            self._certificates.retry(entry.service)
        return self.follow(tell)

    def follow(self, tell: Tell = untold) -> Deferred[list[str]]:
        """Deploy what the file says anew.

        @return: fires with what has failed, when all the rest is served.
        """
        serving, declared = self._serving, self._serving.declared
        for name in [name for name in serving.removed if name not in declared]:
            del serving.removed[name]
        news = [name for name in declared if serving.heeded(name) != serving.mark(name)]
        gone = [
            name
            for name, entry in serving.entries.items()
            if entry.heeded is not None and name not in declared
        ]
        moving = {*news, *gone}
        together = handovers(serving, moving)
        stay = [e.service for name, e in serving.entries.items() if name not in moving]
        held = serving.held(name for name in serving.entries if name not in moving)
        reading = self._custom.read([*stay, *(declared[name] for name in news)])

        def start(name: str, work: Coroutine[Any, Any, None]) -> Deferred[None]:
            def failed(failure: Failure) -> Failure:
                together[name].fail(name)
                return failure

            return Deferred.fromCoroutine(work).addErrback(failed)

        remove, still_gone = self._changes.remove, self._refuse_if_declared
        waits = [start(name, remove(name, together[name], tell, still_gone)) for name in gone]
        waits += self._custom.renew(stay, reading)
        for name in news:
            service = declared[name]
            if self._is_served(service):
                serving.entries[name].heeded = serving.mark(name)
                self._changes.saving.soon()
                waits += self._custom.renew([service], reading)
                continue
            other = holder(service, held)
            if other is not None:
                together[name].fail(name)
                waits.append(fail(HostInUse(other, name)))
            else:
                waits.append(start(name, self._deploy(service, reading, tell, together[name])))
        return _failures(waits)

    def _is_served(self, service: Service) -> bool:
        """Whether it is as the file says already, and nobody is about to change it."""
        entry = self._serving.entries.get(service.name)
        served = entry is not None and entry.service == service
        return served and not self._changes.turns.busy(service.name)

    def _refuse_if_declared(self, name: str) -> None:
        if name in self._serving.declared:
            raise DeploymentFailed(f"{name}: the configuration was read again")

    async def _deploy(
        self, service: Service, reading: Reading, tell: Tell, handover: Handover | Alone
    ) -> None:
        name, changes = service.name, self._changes
        async with changes.deploying(name):
            custom = await self._custom.of(service, reading, tell)
            changes.refuse_if_closed()
            if self._serving.declared.get(name) is not service:
                raise DeploymentFailed(f"{name}: the configuration was read again")
            deployment = self._deploying[name] = changes.deployment(service, tell)
            try:
                checks = await changes.healthy(deployment)
            finally:
                del self._deploying[name]
            gone, saved = await changes.switch(checks, custom, handover, tell)
        await changes.finish(name, gone, service.drain_timeout, saved, tell)


def _failures(waits: list[Deferred[None]]) -> Deferred[list[str]]:
    """Fires when all of them have, with what has failed."""
    failures: list[str] = []

    def note(failure: Failure) -> None:
        _log_failure(failure)
        failures.append(failure.getErrorMessage())

    done: Deferred[list[str]] = Deferred()
    DeferredList([wait.addErrback(note) for wait in waits]).addCallback(
        lambda _: done.callback(failures)
    )
    return done


def _log_failure(failure: Failure) -> None:
    if failure.check(OperationFailed):
        _log.error("deployment failed: {error}", error=failure.value)
    else:
        _log.failure("deployment failed", failure)
