"""Which names TLS is served for, and who has the certificate of each: a pure function of the services.

Whoever serves the root path of a host says how its certificate is had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kproxy.config.model import Service
from kproxy.control.roots import roots

Authority = tuple[bool, Path]
"""Whether it is the CA for tests, and a folder: who has a certificate, and where it is kept."""


@dataclass(frozen=True)
class Plan:
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
                return service if is_on_demand(service) else None
        return None


def make_plan(
    services: Sequence[Service], certified: Mapping[str, Sequence[str]], folder: Path
) -> Plan:
    """@param certified: the names that the certificates of services' own are for, by service.
    @param folder: where certificates of CAs are kept, unless a service says otherwise."""
    secure = [service for service in services if service.ssl]
    elsewhere = {h for s in secure if "/" not in s.path_prefixes for h in s.hosts or ("",)}
    taken = roots(services, elsewhere)
    custom: dict[str, str] = {}
    automatic: dict[str, Authority] = {}
    order: dict[str, None] = {}
    with_hosts = {host for service in secure for host in service.hosts}
    for service in secure:
        if is_on_demand(service):
            continue
        names: Iterable[str] = service.hosts
        if not names:
            # Without a host, it is served for whatever its certificate is for.
            names = [n for n in certified.get(service.name, ()) if n not in with_hosts]
        if "/" not in service.path_prefixes:
            names = [name for name in names if name not in taken]
        for name in names:
            if name in order:
                continue
            order[name] = None
            if service.ssl is True:
                automatic[name] = authority_of(service, folder)
            else:
                custom[name] = service.name
    demand = _by_host(services) if any(map(is_on_demand, secure)) else {}
    return Plan(custom, automatic, tuple(order), demand)


def authority_of(service: Service, folder: Path) -> Authority:
    """Who has the automatic certificates of a service.

    @param folder: where they are kept, unless the service says otherwise.
    """
    return service.tls_staging, service.acme_folder or folder


def is_on_demand(service: Service) -> bool:
    """Whether its certificates are had when somebody asks for them."""
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
