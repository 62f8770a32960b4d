"""Host and path to service (behaviour.md section 2). Pure: a table is built once and only read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_UNUSUAL = re.compile(rb"[%;\\]|//|/\.")
"""What a path holds that an application might read as another path."""
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")

_LONGEST_SEEN = 256
_MOST_SEEN = 4096
"""Hosts whose routes are remembered, as clients spell them: so many, and none longer than any name."""


def strip_port(host: bytes) -> bytes:
    """A Host without its port."""
    if host.endswith(b"]"):
        return host
    name, colon, port = host.rpartition(b":")
    return name if colon and (port.isdigit() or not port) else host


def normalize_host(host: bytes) -> bytes:
    """A Host as it is compared: lower case, without port or trailing dot."""
    return strip_port(host).rstrip(b".").lower()


def canonical_path(path: bytes) -> bytes:
    """The path that the most lenient application might make of this one.

    Escapes are decoded once, backslashes are slashes, parameters of segments are dropped, double
    slashes are one, dot segments are resolved. It is only ever compared, never forwarded.
    """
    path = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), path).replace(b"\\", b"/")
    segments: list[bytes] = []
    for raw in path.split(b"/"):
        segment = raw.partition(b";")[0]
        if segment == b"..":
            if segments:
                segments.pop()
        elif segment not in (b"", b"."):
            segments.append(segment)
    return b"/" + b"/".join(segments)


class AmbiguousPath(ValueError):
    """A path that belongs to one service as it is written, and to another as an application reads it."""


@dataclass(frozen=True, eq=False)
class Route(Generic[T]):
    """Where a request goes."""

    prefix: bytes
    """The path prefix that matched; ``/`` or without a slash at its end."""
    value: T


class Table(Generic[T]):
    """Finds what serves a host and path. Values of any kind: services, resources."""

    def __init__(self, routes: Iterable[tuple[Iterable[str], Iterable[str], T]] = ()) -> None:
        """@param routes: hosts (none: any host), path prefixes, and the value."""
        self._exact: dict[bytes, tuple[Route[T], ...]] = {}
        self._wildcard: dict[bytes, tuple[Route[T], ...]] = {}
        self._any: tuple[Route[T], ...] = ()
        self._seen: dict[bytes, tuple[Route[T], ...]] = {}
        found: dict[str, list[Route[T]]] = {}
        for hosts, prefixes, value in routes:
            for host in list(hosts) or [""]:
                found.setdefault(host, []).extend(Route(p.encode(), value) for p in prefixes)
        for host, entries in found.items():
            ordered = tuple(sorted(entries, key=lambda route: -len(route.prefix)))
            if not host:
                self._any = ordered
            elif host.startswith("*."):
                self._wildcard[host[1:].encode("ascii")] = ordered
            else:
                self._exact[host.encode("ascii")] = ordered

    def find(self, host: bytes, path: bytes) -> Route[T] | None:
        """What serves a request.

        Exact hosts beat wildcards, which match one label, and those beat "any host"; then the longest
        prefix of whole segments wins.

        @param host: the Host header as it came.
        @param path: the path without its query, as it came.
        @raise AmbiguousPath: two readings of the path lead to different services.
        """
        routes = self._seen.get(host)
        if routes is None:
            routes = self._routes_of(host)
        if len(routes) == 1 and routes[0].prefix == b"/":
            return routes[0]
        route = _longest(routes, path)
        if _UNUSUAL.search(path) and _longest(routes, canonical_path(path)) is not route:
            raise AmbiguousPath(path.decode("ascii", "backslashreplace"))
        return route

    def _routes_of(self, host: bytes) -> tuple[Route[T], ...]:
        name = normalize_host(host)
        routes = self._exact.get(name)
        if routes is None:
            routes = self._wildcard.get(name[name.find(b".") :]) if b"." in name else None
        if routes is None:
            routes = self._any
        if len(host) <= _LONGEST_SEEN:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen[host] = routes
        return routes


def _longest(routes: tuple[Route[T], ...], path: bytes) -> Route[T] | None:
    for route in routes:
        prefix = route.prefix
        if prefix == b"/" or (
            path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/")
        ):
            return route
    return None
