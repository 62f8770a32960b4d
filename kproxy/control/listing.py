"""A service as `kproxy list` shows it: plain data, as JSON has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kproxy.control.health import HealthCheck
from kproxy.control.serving import Entry


def describe(entry: Entry, report: Iterable[Any], busy: bool, declared: bool) -> dict[str, Any]:
    """A service, its state, and its targets with their health.

    @param report: what the data plane says of the service.
    @param busy: whether a deployment or the like is under way.
    @param declared: whether the configuration file has the service.
    """
    service, gate = entry.service, entry.gate
    active: dict[str, int] = {}
    draining: dict[str, int] = {}
    for each in report:
        counts = draining if each.draining else active
        counts[each.address] = counts.get(each.address, 0) + each.active
    described: dict[str, Any] = {
        "service": service.name,
        "hosts": list(service.hosts),
        "path_prefixes": list(service.path_prefixes),
        "targets": [_target(check, active) for check in entry.checks.all()],
        "draining": [{"address": a, "requests": count} for a, count in draining.items()],
        "state": gate.state,
        "tls": bool(service.ssl),
        "deploying": busy,
        "in_configuration": declared,
    }
    if gate.state == "stopped":
        described["message"] = gate.message
    if gate.state == "paused":
        described["max_pause"] = gate.max_pause
    return described


def _target(check: HealthCheck, active: dict[str, int]) -> dict[str, Any]:
    address = str(check.target)
    health = "unknown" if check.healthy is None else "healthy" if check.healthy else "unhealthy"
    return {
        "address": address,
        "health": health,
        "failure": check.failure,
        "requests": active.get(address, 0),
    }
