"""Certificates of one's own, from their secrets to the entries of the services that have them.

A deployment reads its certificate, and fails if it will not do. What is served, and is not deployed
anew, is read again at boot and with each reload: that is how a certificate is renewed. Keys are kept
in memory only. They stay where their owner keeps them, and are asked for again after a restart; a
certificate that can't be had then is tried again and again, and all the rest is served meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kproxy.config.model import Service
from kproxy.control.certificates import Certificates
from kproxy.control.deployment import DeploymentFailed
from kproxy.control.progress import Tell, untold
from kproxy.control.serving import Serving
from kproxy.control.turns import Turns
from kproxy.threads import InThread, result_of
from kproxy.tls.checked import Checked, warnings
from kproxy.tls.custom import Found, read_custom, source_of

RETRY = 60.0
"""Seconds until secrets are read again that a service has to have before it can serve HTTPS at all."""
LOOK = 24 * 3600.0
"""Seconds from one look for certificates that expire soon to the next."""

_log = Logger()


class Reading:
    """Certificates that are being read, for all who wait for one of them."""

    def __init__(self, found: Deferred[dict[str, Found]]) -> None:
        self._found: dict[str, Found] | Failure | None = None
        self._waiting: list[tuple[str, Deferred[Found | None]]] = []
        found.addBoth(self._done)

    def of(self, name: str) -> Deferred[Found | None]:
        """What was found for a service; it fires with None if it has no certificate of its own."""
        waiting: Deferred[Found | None] = Deferred()
        self._waiting.append((name, waiting))
        if self._found is not None:
            self._tell()
        return waiting

    def _done(self, found: dict[str, Found] | Failure) -> None:
        self._found = found
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for name, each in waiting:
            if each.called:
                continue  # it has been cancelled
            if isinstance(self._found, Failure):
                each.errback(self._found)
            elif self._found is not None:
                each.callback(self._found.get(name))


class CustomCertificates:
    """Reads the certificates that services have of their own.

    @param environ: for secrets that no file defines, and for the commands in the files.
    @param now: the time, in UTC.
    """

    def __init__(
        self,
        serving: Serving,
        certificates: Certificates,
        turns: Turns,
        clock: IReactorTime,
        in_thread: InThread,
        environ: Mapping[str, str],
        now: Callable[[], datetime],
    ) -> None:
        self._serving = serving
        self._certificates = certificates
        self._turns = turns
        self._clock = clock
        self._in_thread = in_thread
        self._environ = environ
        self._now = now
        self._retry: IDelayedCall | None = None
        self._look: IDelayedCall | None = None

    def read(self, services: Iterable[Service]) -> Reading:
        """Begin to read the certificates of those services that have one of their own."""
        wanted = [service for service in services if source_of(service) is not None]
        if not wanted:
            found: Deferred[dict[str, Found]] = Deferred()
            found.callback({})
            return Reading(found)
        environ, now = self._environ, self._now()
        return Reading(result_of(lambda: read_custom(wanted, environ, now), self._in_thread))

    async def of(self, service: Service, reading: Reading, tell: Tell = untold) -> Checked | None:
        """The certificate of a service that is to be deployed; None: it has none of its own.

        @raise DeploymentFailed: it will not do.
        """
        found = await reading.of(service.name)
        if isinstance(found, Exception):
            raise DeploymentFailed(f"{service.name}: {found}")
        if found is not None:
            self._watch()
            for message in self._warnings(service, found):
                _log.warn("{message}", message=message)
                tell({"event": "warning", "message": message})
        return found

    def renew(self, services: Iterable[Service], reading: Reading) -> list[Deferred[None]]:
        """Let services that are served have what has been read for them now.

        @return: each fires when that is so, and fails with `DeploymentFailed` if it will not do; the
            service then goes on with the certificate that it had.
        """
        renewals = []
        for service in services:
            if source_of(service) is None:
                continue
            if self._serving.entries[service.name].custom is None:
                self._certificates.expect(service.name)
            renewals.append(Deferred.fromCoroutine(self._renew(service, reading)))
        return renewals

    async def _renew(self, service: Service, reading: Reading) -> None:
        name = service.name
        try:
            found = await reading.of(name)
            async with self._turns.turn(name):
                self._exchange(service, found)
        finally:
            self._certificates.settle(name)

    def _exchange(self, service: Service, found: Found | None) -> None:
        name = service.name
        entry = self._serving.entries.get(name)
        if entry is None or source_of(entry.service) != source_of(service):
            return  # it has been removed, or deployed with another certificate
        if not isinstance(found, Checked):
            known, entry.custom_failure = entry.custom_failure, str(found)
            if entry.custom is None:
                self._try_again()
                if known == entry.custom_failure:
                    return  # it has been said before
            raise DeploymentFailed(f"{name}: {found}")
        old, entry.custom, entry.custom_failure = entry.custom, found, ""
        if old != found:
            try:
                self._serving.publish()
            except Exception as error:
                entry.custom = old
                raise DeploymentFailed(f"{name}: {error}") from error
            _log.info(
                "{service} has the certificate that expires on {day}",
                service=name,
                day=f"{found.expires:%Y-%m-%d}",
            )
            self._watch()
            for message in self._warnings(service, found):
                _log.warn("{message}", message=message)

    def _warnings(self, service: Service, found: Checked) -> list[str]:
        source = source_of(service)
        what = "" if source is None else source.certificate_name
        found_now = warnings(found, service.hosts, self._now())
        return [f"{service.name}: {what} {warning}" for warning in found_now]

    def _try_again(self) -> None:
        if self._retry is None:
            self._retry = self._clock.callLater(RETRY, self._try_now)

    def _try_now(self) -> None:
        self._retry = None
        entries = self._serving.entries.values()
        services = [entry.service for entry in entries if entry.custom is None]
        for renewal in self.renew(services, self.read(services)):
            renewal.addErrback(_log_failure)

    def _watch(self) -> None:
        """Look once a day whether a certificate expires soon, and say so in the log."""
        if self._look is None:
            self._look = self._clock.callLater(LOOK, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        for entry in self._serving.entries.values():
            if entry.custom is not None:
                self._watch()
                for message in self._warnings(entry.service, entry.custom):
                    _log.warn("{message}", message=message)

    def stop(self) -> None:
        """Read and look no more."""
        for timer in (self._retry, self._look):
            if timer is not None:
                timer.cancel()
        self._retry = self._look = None


def _log_failure(failure: Failure) -> None:
    if failure.check(DeploymentFailed):
        _log.error("{error}", error=failure.getErrorMessage())
    else:
        _log.failure("a certificate could not be read", failure)
