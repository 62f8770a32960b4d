"""What metrics show of the control plane: plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from kproxy.control.certificates import Certificates
from kproxy.control.serving import Entry
from kproxy.metrics.catalog import Measured


def measure(
    entries: Iterable[Entry], certificates: Certificates, deployments: Mapping[str, int]
) -> Measured:
    """The health of targets, the certificates, and how many deployments there were.

    @param deployments: their number by outcome.
    """
    healthy: dict[tuple[str, ...], list[float]] = {}
    expiries: dict[tuple[str, ...], list[float]] = {}
    for entry in entries:
        name = entry.service.name
        for checks in entry.all_checks():
            for check in checks.all():
                # One that both a service and its rollout have counts as that of the service.
                healthy.setdefault((name, str(check.target)), [float(check.state == "healthy")])
        for host, expires in _expiries(entry, certificates):
            expiries[name, host] = [expires.timestamp()]
    return {
        "kproxy_target_healthy": list(healthy.items()),
        "kproxy_certificate_expiry_timestamp_seconds": list(expiries.items()),
        "kproxy_deployments_total": [
            ((outcome,), [count]) for outcome, count in deployments.items()
        ],
    }


def _expiries(entry: Entry, certificates: Certificates) -> Iterable[tuple[str, datetime]]:
    """The names of a service's certificates that there are, and when these expire."""
    own = None if entry.custom is None else entry.custom.expires
    for name in certificates.names_of(entry.service):
        expires = own
        if entry.service.ssl is True:
            status = certificates.status(name)
            expires = None if status is None else status.expires
        if expires is not None:
            yield name, expires
