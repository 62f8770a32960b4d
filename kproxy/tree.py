"""The tree of resources, in one place: which wrappers a request passes, and in which order.

Every request walks `outer_chain`, whose innermost resource is the `HostRouter`; that one hands it to
the `service_chain` of the service that it is for. Both are lists of wrappers by name, outermost first.
Names are those under which the wrappers are announced; to reorder the tree, reorder the lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from twisted.web.resource import IResource

from kproxy.config.model import Service
from kproxy.interfaces import IWrapperPlugin
from kproxy.metrics.counts import Counts
from kproxy.threads import InThread
from kproxy.wrappers import (
    access_log,
    acme_challenge,
    canonical_host,
    error_pages,
    forward_headers,
    gate,
    metrics,
    path_prefix,
    request_buffer,
    request_id,
    request_limit,
    request_start,
    response_buffer,
    writer_affinity,
)


class Link(NamedTuple):
    """One wrapper of a chain."""

    name: str
    options: Any = None


class WrapperFailed(Exception):
    """A wrapper could not be put into a service's chain; the text names both."""


def outer_chain(write_line: Callable[[str], object], counts: Counts | None = None) -> list[Link]:
    """What every request passes before it is known which service it is for.

    @param counts: where to count requests; None: nowhere.
    """
    chain: list[Link | None] = [
        Link("request-id", request_id.Options()),
        Link("request-start", request_start.Options()),
        Link("access-log", access_log.Options(write=write_line)),
        None if counts is None else Link("metrics", metrics.Options(counts)),
        Link("error-pages", error_pages.Options()),
        Link("acme-challenge", acme_challenge.Options()),
    ]
    return [link for link in chain if link is not None]


def service_chain(
    service: Service, control: gate.GateControl, in_thread: InThread, *, readers: bool = False
) -> list[Link]:
    """What the requests of one service pass; a wrapper that would do nothing is left out.

    The gate is there twice. What comes between may hold a request for long, and one that was on its
    way when the service was paused or stopped must not reach a target any more.

    @param readers: whether there are read targets.
    """
    s, buffering = service, service.buffering
    chain: list[Link | None] = [
        Link("error-pages", error_pages.Options(s.error_pages)) if s.error_pages else None,
        Link("ssl-redirect") if s.ssl and s.ssl_redirect else None,
        None if s.ssl else Link("refuse-tls"),
        Link("canonical-host", canonical_host.Options(s.canonical_host))
        if s.canonical_host
        else None,
        Link("gate", gate.Options(health_paths=health_paths(s), control=control)),
        Link("path-prefix", path_prefix.Options(s.path_prefixes)) if strips(s) else None,
        Link("forward-headers", forward_headers.Options(s.forward_headers, s.client_ip_header)),
        *[Link(use.name, use.options) for use in s.wrappers],
        Link(
            "request-buffer",
            request_buffer.Options(in_thread, buffering.memory, buffering.max_request_body),
        )
        if buffering.requests
        else None,
        Link("request-limit", request_limit.Options(buffering.max_request_body))
        if buffering.max_request_body and not buffering.requests
        else None,
        Link("gate", gate.Options(health_paths=(s.healthcheck.path,), control=control))
        if buffering.requests or s.wrappers
        else None,
        Link(
            "response-buffer",
            response_buffer.Options(in_thread, buffering.memory, buffering.max_response_body),
        )
        if buffering.responses
        else None,
        Link(
            "writer-affinity",
            writer_affinity.Options(s.writer_affinity_timeout, s.read_target_websockets),
        )
        if readers and s.writer_affinity_timeout
        else None,
        Link("scope-cookies") if s.scope_cookie_paths and strips(s) else None,
    ]
    return [link for link in chain if link is not None]


def strips(service: Service) -> bool:
    """Whether a prefix is taken off the paths of a service."""
    return service.strip_path_prefix and service.path_prefixes != ("/",)


def health_paths(service: Service) -> tuple[str, ...]:
    """The paths under which clients see the health check of a service."""
    path = service.healthcheck.path
    if not strips(service):
        return (path,)
    return tuple(path if p == "/" else p + path for p in service.path_prefixes)


def assemble(
    chain: Sequence[Link], leaf: IResource, plugins: Mapping[str, IWrapperPlugin]
) -> IResource:
    """Put the wrappers of a chain around a leaf.

    @raise WrapperFailed: a wrapper is unknown, or does not take its options.
    """
    resource = leaf
    for name, options in reversed(chain):
        plugin = plugins.get(name)
        if plugin is None:
            raise WrapperFailed(f"there is no wrapper {name!r}")
        try:
            resource = plugin.wrap(resource, options)
        except Exception as error:
            raise WrapperFailed(
                f"wrapper {name!r} failed: {str(error) or type(error).__name__}"
            ) from error
    return resource
