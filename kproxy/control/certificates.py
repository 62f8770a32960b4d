"""Which names TLS is served for, and which certificate each of them has.

Whoever serves the root path of a host says how its certificate is had: from secrets or files
(`kproxy.control.custom` reads them, and keeps them with the service's entry), or from a CA, which
`kproxy.tls.acme.automatic` talks to: here it is told which names to care for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import is_
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.logger import Logger

from kproxy.config.model import LETS_ENCRYPT_STAGING, Acme, Service, Target
from kproxy.control.roots import roots
from kproxy.snapshot import Certificate, HTTPChallenge, TLSChallenge, TLSName
from kproxy.tls.certificates import Checked

_log = Logger()


class Status(Protocol):
    """How a name fares with its CA; see `kproxy.tls.acme.automatic.Status`."""

    @property
    def expires(self) -> datetime | None: ...
    @property
    def failure(self) -> str: ...
    @property
    def next_try(self) -> datetime | None: ...


class Automatic(Protocol):
    """What has certificates of one CA; see `kproxy.tls.acme.automatic.AutomaticCertificates`."""

    def want(self, names: Iterable[str]) -> None: ...
    def names(self) -> tuple[str, ...]: ...
    def certificate(self, name: str) -> Certificate | None: ...
    def obtain(self, name: str) -> Deferred[None]: ...
    def http_challenges(self) -> tuple[HTTPChallenge, ...]: ...
    def tls_challenges(self) -> tuple[TLSChallenge, ...]: ...
    def status(self, name: str) -> Status | None: ...
    def retry(self, name: str) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> Deferred[None]: ...


MakeAutomatic = Callable[
    [Acme, Path, Callable[[], object], Callable[[str], "str | None"]], Automatic
]
"""(where certificates come from, folder to keep them, to be called when one has changed, where to ask
whether a name may have one): the arguments of `AutomaticCertificates` that differ."""

Authority = tuple[bool, Path]
"""Whether it is the CA for tests, and a folder: who has a certificate, and where it is kept."""


class Served(Protocol):
    """What is needed of `kproxy.control.serving.Entry`."""

    custom: Checked | None
    custom_failure: str

    @property
    def service(self) -> Service: ...
    def healthy(self) -> tuple[Target, ...]: ...


@dataclass(frozen=True)
class _Plan:
    """Who has which name."""

    custom: dict[str, str] = field(default_factory=dict)
    """Names with certificates of their own, and the services that have these."""
    automatic: dict[str, Authority] = field(default_factory=dict)
    """Names with certificates of a CA."""
    order: tuple[str, ...] = ()
    """All of them, in the order of their services."""
    on_demand: Mapping[str, Service] = field(default_factory=dict)
    """By host, if any service has names on demand: who is asked about a name."""

    def listed(self, name: str) -> str | None:
        """As what a name is listed; it may be so by a wildcard."""
        wildcard = f"*.{name.partition('.')[2]}"
        listed = (
            each for each in (name, wildcard) if each in self.custom or each in self.automatic
        )
        return next(listed, None)

    def asked(self, name: str) -> Service | None:
        """The service that says whether a name that is not listed may have a certificate."""
        for host in (name, f"*.{name.partition('.')[2]}", ""):
            service = self.on_demand.get(host)
            if service is not None:
                return service if _on_demand(service) else None
        return None


class Certificates:
    """The part of the snapshot that TLS needs.

    @ivar changed: called when it is another than it was; when it returns, it has been applied.
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
        self._plan = self._cared_for = _Plan()
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
            self._plan = self._make_plan(services)
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

    # Who has which name.

    def _make_plan(self, services: Sequence[Service]) -> _Plan:
        secure = [service for service in services if service.ssl]
        elsewhere = {h for s in secure if "/" not in s.path_prefixes for h in s.hosts or ("",)}
        taken = roots(services, elsewhere)
        custom: dict[str, str] = {}
        automatic: dict[str, Authority] = {}
        order: dict[str, None] = {}
        with_hosts = {host for service in secure for host in service.hosts}
        for service in secure:
            if _on_demand(service):
                continue
            names: Iterable[str] = service.hosts
            read = self._entries[service.name].custom
            if not names and read is not None:
                # Without a host, it is served for whatever its certificate is for.
                names = [name for name in read.names if name not in with_hosts]
            if "/" not in service.path_prefixes:
                names = [name for name in names if name not in taken]
            for name in names:
                if name in order:
                    continue
                order[name] = None
                if service.ssl is True:
                    automatic[name] = self._authority(service)
                else:
                    custom[name] = service.name
        demand = _by_host(services) if any(map(_on_demand, secure)) else {}
        return _Plan(custom, automatic, tuple(order), demand)

    def _authority(self, service: Service) -> Authority:
        return service.tls_staging, service.acme_folder or self._folder

    def _acme_for(self, authority: Authority) -> Acme:
        staging, _ = authority
        if not staging:
            return self._acme
        # What another CA's own server is known by, and who we are there, means nothing to this one.
        return replace(self._acme, directory=LETS_ENCRYPT_STAGING, ca_file=None, eab=None)

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
            if _on_demand(service):
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

    def _one_changed(self) -> None:
        self._stale = True
        self.changed()

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
        if service.ssl is not True or _on_demand(service):
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
        if not _on_demand(service):
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


def _on_demand(service: Service) -> bool:
    return service.ssl is True and service.tls_on_demand_url is not None


def _by_host(services: Iterable[Service]) -> dict[str, Service]:
    """Whose a host is: that of its root path, else the first one's."""
    found: dict[str, Service] = {}
    for service in services:
        for host in service.hosts or ("",):
            if "/" in service.path_prefixes:
                found[host] = service
            else:
                found.setdefault(host, service)
    return found


class Nobody:
    """For a proxy that has no certificates from a CA (`Automatic`)."""

    def __init__(self, *wanted: object) -> None: ...
    def want(self, names: Iterable[str]) -> None: ...
    def names(self) -> tuple[str, ...]:
        return ()

    def certificate(self, name: str) -> Certificate | None:
        return None

    def obtain(self, name: str) -> Deferred[None]:
        return fail(LookupError(f"nobody gets certificates for {name}"))

    def http_challenges(self) -> tuple[HTTPChallenge, ...]:
        return ()

    def tls_challenges(self) -> tuple[TLSChallenge, ...]:
        return ()

    def status(self, name: str) -> Status | None:
        return None

    def retry(self, name: str) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> Deferred[None]:
        return succeed(None)


def _nothing() -> None:
    pass
