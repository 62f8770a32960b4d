"""Services on other paths of a host have TLS as the service on its root path has (behaviour.md: one
host can't be served by HTTPS on one path and by plain HTTP on another)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from kproxy.config.model import Service


def roots(services: Collection[Service], hosts: Collection[str]) -> dict[str, Service]:
    """Who serves the root path of each of these hosts, where somebody does.

    @param hosts: as services write them; the empty one is "any host".
    """
    found: dict[str, Service] = {}
    for service in services:
        if "/" in service.path_prefixes:
            for host in service.hosts or ("",):
                if host in hosts:
                    found[host] = service
    return found


def follow_roots(
    services: Mapping[str, Service], before: Mapping[str, Service]
) -> Mapping[str, Service]:
    """Let the services on other paths follow those on the root paths.

    A service with several hosts follows the root of the first one, as in kamal-proxy. One whose host
    has nothing at its root goes by its own options.

    @param services: by name, with their own options.
    @param before: what this made the last time; what is as it was then stays the same object.
    @return: by name, with the options that hold.
    """
    others = [service for service in services.values() if "/" not in service.path_prefixes]
    if not others:
        return services
    found = roots(services.values(), {_first(service) for service in others})
    followed = dict(services)
    for service in others:
        root = found.get(_first(service))
        if root is None or _same(root, service):
            continue
        new = replace(service, ssl=bool(root.ssl), ssl_redirect=root.ssl_redirect)
        old = before.get(service.name)
        followed[service.name] = old if old == new and old is not None else new
    return followed


def _same(root: Service, service: Service) -> bool:
    return (bool(root.ssl), root.ssl_redirect) == (bool(service.ssl), service.ssl_redirect)


def _first(service: Service) -> str:
    return service.hosts[0] if service.hosts else ""
