"""The certificate of each name that TLS is served for (`kproxy.control.names`).

It comes from secrets or files (`kproxy.control.custom` reads them, and keeps them with the service's
entry), or from a CA, which `kproxy.tls.acme.automatic` talks to: here it is told which names to care
for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import is_
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.logger import Logger

from kproxy.config.model import LETS_ENCRYPT_STAGING, Acme, Service, Target
from kproxy.control.automatic import Automatic, MakeAutomatic, Status
from kproxy.control.names import Authority, Plan, authority_of, is_on_demand, make_plan
from kproxy.snapshot import Certificate, HTTPChallenge, TLSChallenge, TLSName
from kproxy.tls.checked import Checked

_log = Logger()


class Served(Protocol):
    """What is needed of `kproxy.control.serving.Entry`."""

    custom: Checked | None
    custom_failure: str

    @property
    def service(self) -> Service: ...
    def healthy(self) -> tuple[Target, ...]: ...


class Certificates:
    """The part of the snapshot that TLS needs.

    @ivar changed: called when it is another than it was; when it returns, or the Deferred that it
        returns has fired, it has been applied.
    """

    changed: Callable[[], object]

    def __init__(self, make: MakeAutomatic, folder: Path = Path("acme")) -> None:
        """@param make: called for each CA and folder that a service needs.
        @param folder: where certificates of CAs are kept, unless a service says otherwise."""
        self.changed = _nothing
        self._folder = folder
        self._make = make
        self._acme = Acme()
        self._authorities: dict[Authority, Automatic] = {}
        self._acme_of: dict[Authority, Acme] = {}
        self._entries: Mapping[str, Served] = {}
        self._services: Sequence[Service] = ()
        self._customs: Sequence[Checked | None] = ()
        self._plan = self._cared_for = Plan()
        self._stale = False
        self._names: dict[str, TLSName] = {}
        self._tls: tuple[TLSName, ...] = ()
        self._awaited: dict[str, list[Deferred[None]]] = {}
        self._started = False

    # What the snapshot says.

    def tls(
        self, entries: Mapping[str, Served], services: Sequence[Service]
    ) -> tuple[TLSName, ...]:
        """The names that TLS is served for. They are the same object as long as nothing changes.

        @param services: those of the entries, in their order.
        """
        self._entries = entries
        customs = [entry.custom for entry in entries.values()]
        if not same(services, self._services) or not same(customs, self._customs):
            self._services, self._customs = services, customs
            self._plan = make_plan(services, self._certified(), self._folder)
            self._stale = True
        if self._stale:
            self._stale = False
            self._names = {each.name: each for each in self._list()}
            self._tls = tuple(self._names.values())
        return self._tls

    @property
    def on_demand(self) -> bool:
        """Whether names that are not listed may get a certificate."""
        return bool(self._plan.on_demand)

    def http_challenges(self) -> tuple[HTTPChallenge, ...]:
        return tuple(c for each in self._authorities.values() for c in each.http_challenges())

    def tls_challenges(self) -> tuple[TLSChallenge, ...]:
        return tuple(c for each in self._authorities.values() for c in each.tls_challenges())

    def _list(self) -> Iterable[TLSName]:
        for name in self._plan.order:
            yield self._tls_name(name, self._certificate(name))
        for automatic in self._authorities.values():
            for name in automatic.names():
                if self._plan.listed(name) != name and self._plan.asked(name):
                    yield self._tls_name(name, automatic.certificate(name))

    def _certificate(self, name: str) -> Certificate | None:
        service = self._plan.custom.get(name)
        if service is not None:
            custom = self._entries[service].custom
            return None if custom is None else custom.certificate
        automatic = self._authorities.get(self._plan.automatic[name])
        return None if automatic is None else automatic.certificate(name)

    def _tls_name(self, name: str, certificate: Certificate | None) -> TLSName:
        old, new = self._names.get(name), TLSName(name, certificate)
        return old if old is not None and old == new else new

    # Who is to have a certificate.

    def _authority(self, service: Service) -> Authority:
        return authority_of(service, self._folder)

    def _certified(self) -> dict[str, tuple[str, ...]]:
        customs = ((name, entry.custom) for name, entry in self._entries.items())
        return {name: custom.names for name, custom in customs if custom is not None}

    def _acme_for(self, authority: Authority) -> Acme:
        staging, folder = authority
        acme = self._acme
        if folder != self._folder:
            acme = replace(acme, store=None)  # a place of its own was asked for
        if not staging:
            return acme
        # What another CA's own server is known by, and who we are there, means nothing to this one.
        return replace(acme, directory=LETS_ENCRYPT_STAGING, ca_file=None, eab=None)

    def use(self, acme: Acme) -> bool:
        """Have automatic certificates like this, once services have been published again.

        @return: whether that is something new.
        """
        old, self._acme = self._acme, acme
        if old != acme:
            self._services = ()  # so that a plan is made
        return old != acme

    def follow(self) -> None:
        """What has been listed is served now: care for it."""
        if self._plan is self._cared_for:
            return
        self._cared_for = self._plan
        wanted: dict[Authority, list[str]] = {}
        for name, authority in self._plan.automatic.items():
            wanted.setdefault(authority, []).append(name)
        for service in self._plan.on_demand.values():
            if is_on_demand(service):
                wanted.setdefault(self._authority(service), [])
        for authority in list(self._authorities):
            if authority not in wanted or self._acme_of[authority] != self._acme_for(authority):
                self._stale = True
                self._stopped(self._authorities.pop(authority).stop())
        for authority, names in wanted.items():
            if authority not in self._authorities:
                self._authorities[authority] = self._new(authority)
            self._authorities[authority].want(names)

    def _new(self, authority: Authority) -> Automatic:
        self._acme_of[authority] = acme = self._acme_for(authority)
        automatic = self._make(acme, authority[1], self._one_changed, self._on_demand_url)
        if self._started:
            automatic.start()
        return automatic

    def _one_changed(self) -> object:
        self._stale = True
        return self.changed()

    def _on_demand_url(self, name: str) -> str | None:
        """Where to ask whether a name may have a certificate; None: it may not."""
        service = self._plan.asked(name)
        url = None if service is None else service.tls_on_demand_url
        if service is None or url is None or not url.startswith("/"):
            return url
        healthy = self._entries[service.name].healthy()
        return f"http://{healthy[0]}{url}" if healthy else None

    def refusal(self, service: Service) -> str:
        """Why a service can't have what it asks for; empty if it can."""
        if service.ssl is not True or is_on_demand(service):
            return ""
        wildcards = [host for host in service.hosts if host.startswith("*.")]
        if wildcards and self._acme.dns is None:
            return (
                f"a certificate for {wildcards[0]} can only be had by DNS-01; "
                "set x-kproxy.acme.dns, or name a certificate of your own"
            )
        return ""

    # What handshakes wait for.

    def wanted(self, name: str) -> Deferred[None]:
        """A handshake needs a certificate: what the data plane calls as `certificate_wanted`."""
        listed = self._plan.listed(name)
        if listed in self._plan.custom:
            waiting = self._awaited.get(self._plan.custom[listed])
            if waiting is None:
                return fail(LookupError(f"{listed} has no certificate"))
            done: Deferred[None] = Deferred(lambda each: waiting.remove(each))
            waiting.append(done)
            return done
        authority = None if listed is None else self._plan.automatic[listed]
        if authority is None:
            service = self._plan.asked(name)
            if service is None:
                return fail(LookupError(f"{name} is not served"))
            authority = self._authority(service)
        automatic = self._authorities.get(authority)
        if automatic is None:
            return fail(LookupError(f"nobody gets certificates for {name} now"))
        return automatic.obtain(listed or name)

    def expect(self, service: str) -> None:
        """The certificate of a service is being read: handshakes wait for it."""
        self._awaited.setdefault(service, [])

    def settle(self, service: str) -> None:
        """It has been read, or can't be, and what came of it has been published."""
        for waiting in self._awaited.pop(service, ()):
            waiting.callback(None)

    # What operators ask.

    def status(self, name: str) -> Status | None:
        """How the certificate of a CA fares that a name has; None: nobody knows."""
        automatic = self._automatic(name)
        return None if automatic is None else automatic.status(name)

    def retry(self, service: Service) -> None:
        """An operator has deployed a service, or reloaded: what went wrong may have been put right."""
        for name in self.names_of(service) if service.ssl is True else ():
            automatic = self._automatic(name)
            status = None if automatic is None else automatic.status(name)
            if automatic is not None and status is not None and status.failure:
                automatic.retry(name)

    def _automatic(self, name: str) -> Automatic | None:
        authority = self._plan.automatic.get(name)
        if authority is None:
            service = self._plan.asked(name)
            authority = None if service is None else self._authority(service)
        return None if authority is None else self._authorities.get(authority)

    def names_of(self, service: Service) -> tuple[str, ...]:
        """The names whose certificates a service is to have; those that it got on demand too."""
        plan = self._plan
        if service.ssl is not True:
            read = self._entries[service.name].custom
            names = service.hosts or (() if read is None else read.names)
            return tuple(name for name in names if plan.custom.get(name) == service.name)
        if not is_on_demand(service):
            return tuple(host for host in service.hosts if host in plan.automatic)
        automatic = self._authorities.get(self._authority(service))
        names = () if automatic is None else automatic.names()
        return tuple(name for name in names if plan.asked(name) is service)

    # Its life.

    def start(self) -> None:
        """Have certificates from now on."""
        self._started = True
        for automatic in list(self._authorities.values()):
            automatic.start()

    def stop(self) -> Deferred[None]:
        """Have no more.

        @return: fires when what is to be remembered is safe.
        """
        done: Deferred[None] = Deferred()
        stopped = [automatic.stop() for automatic in self._authorities.values()]
        for each in stopped:
            self._stopped(each)
        DeferredList(stopped).addCallback(lambda _: done.callback(None))
        for service in list(self._awaited):
            self.settle(service)
        return done

    def _stopped(self, done: Deferred[None]) -> None:
        done.addErrback(lambda failure: _log.failure("could not stop to get certificates", failure))


def same(some: Sequence[object], others: Sequence[object]) -> bool:
    """Whether two lists have the same objects in the same order: with thousands of services, this is
    asked with every change of one target's health."""
    return len(some) == len(others) and all(map(is_, some, others))


def _nothing() -> None:
    pass
