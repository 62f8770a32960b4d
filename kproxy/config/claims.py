"""Which services there are, and that no two of them claim the same (behaviour.md section 1).

The services of a file that has problems are looked at too, so that an operator hears of everything
in one go. What could not be read then has the benefit of the doubt: a conflict that may only be the
fault of a wrong value is not one yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from kproxy.config.model import Service, Target
from kproxy.config.node import Position, Report

_ROUTES = frozenset(("host", "hosts", "path_prefix", "path_prefixes"))


@dataclass(frozen=True, slots=True)
class Declared:
    """A service, and where its hosts are written."""

    service: Service
    position: Position
    key: str
    unread: frozenset[str] = frozenset()
    """Options that were written, but could not be read; the service has their defaults."""


class Services:
    """The services of one file, in its order."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._alike: dict[Service, list[_Entry]] = {}
        self._first: dict[tuple[tuple[str, ...], tuple[str, ...]], _Entry] = {}

    def __iter__(self) -> Iterator[Declared]:
        for entry in self._entries:
            service = replace(entry.declared.service, targets=tuple(entry.targets))
            yield replace(entry.declared, service=service)

    def add(self, declared: Declared) -> None:
        """Add a service that is one for itself."""
        self._entries.append(_Entry(declared))

    def join(self, declared: Declared) -> None:
        """Add a service, or its targets to those of one that is the same but for them."""
        service = declared.service
        # Options of wrappers are a third party's, and may have no hash.
        alike = self._alike.setdefault(replace(service, name="", targets=(), wrappers=()), [])
        for entry in alike:
            if entry.declared.service.wrappers == service.wrappers:
                entry.take(service.targets)
                return
        new = _Entry(declared)
        first = self._first.setdefault((service.hosts, service.path_prefixes), new)
        if first is not new and (first.declared.unread or declared.unread):
            # They may well be the same, once what is wrong with them is put right.
            first.take(service.targets)
            return
        alike.append(new)
        self._entries.append(new)


class _Entry:
    """A service while its targets come together."""

    __slots__ = ("declared", "targets")

    def __init__(self, declared: Declared) -> None:
        self.declared = declared
        self.targets: dict[Target, None] = {}
        self.take(declared.service.targets)

    def take(self, targets: Iterable[Target]) -> None:
        self.targets.update(dict.fromkeys(targets))


def check_names(services: Iterable[Declared], report: Report) -> None:
    """No two services may have one name."""
    known: dict[str, Declared] = {}
    for declared in services:
        if "service" in declared.unread:
            continue
        first = known.setdefault(declared.service.name, declared)
        if first is not declared:
            message = f"the service {declared.service.name} is declared at {first.position} too"
            report.add(declared.position, declared.key, message)


def check_claims(services: Iterable[Declared], report: Report) -> None:
    """No two services may be reached by the same host and path."""
    claims: dict[tuple[str, str], Declared] = {}
    for declared in services:
        if not _ROUTES.isdisjoint(declared.unread):
            continue
        service = declared.service
        taken: dict[int, tuple[str, Declared]] = {}
        for host in service.hosts or ("",):
            for prefix in service.path_prefixes:
                holder = claims.setdefault((host, prefix), declared)
                if holder is not declared:
                    claim = f"{host or 'any host'}, path {prefix}"
                    taken.setdefault(id(holder), (claim, holder))
        for claim, holder in taken.values():
            message = f"{service.name} can't have {claim}: {holder.service.name} has it"
            report.add(declared.position, declared.key, f"{message} ({holder.position})")
