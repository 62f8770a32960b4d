"""The rules of ``proxy.ssl`` that can be checked from the file alone (behaviour.md section 2)."""

from __future__ import annotations

from collections.abc import Container

from kproxy.config.node import Node, Report
from kproxy.config.sections import Extras, ProxyOptions


def check_ssl(
    proxy: Node,
    options: ProxyOptions,
    extras: Extras,
    *,
    unread: Container[str],
    servers: int,
    dns: bool,
    shared: bool,
    report: Report,
) -> None:
    """Report what is wrong with a service's ``ssl``.

    @param proxy: the section that `options` were read from.
    @param unread: options that could not be read, so that nothing can be said of what needs them.
    @param servers: how many hosts the role has, whichever of them this proxy serves: each would ask
        for a certificate of its own.
    @param dns: whether there is a DNS-01 responder.
    @param shared: whether there is a certificate store that servers share.
    """
    node = proxy.get("ssl")
    if node is None or not options.ssl:
        return
    if options.ssl is True:
        hosts = () if "host" in unread or "hosts" in unread else options.all_hosts or None
        # With an on-demand URL, it is that which says for which hosts there are certificates.
        if hosts is None and extras.tls_on_demand_url is None and "tls_on_demand_url" not in unread:
            node.report(report, "automatic certificates need a host")
        wildcards = [host for host in hosts or () if host.startswith("*.")]
        if wildcards and not dns:
            node.report(
                report,
                f"a certificate for {wildcards[0]} can only be had by DNS-01; "
                "set x-kproxy.acme.dns, or name a certificate of your own",
            )
        if servers > 1 and not shared and extras.targets is None and "targets" not in unread:
            node.report(
                report,
                f"automatic certificates need a single server, and there are {servers}; a proxy "
                "that stands before several servers lists them under x-kproxy.targets, and several "
                "proxies share an x-kproxy.acme.store",
            )
