"""A service as `kproxy list` shows it: plain data, as JSON has it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kproxy.control.certificates import Certificates
from kproxy.control.deployment import Checks
from kproxy.control.health import HealthCheck
from kproxy.control.serving import Entry, RolledOut


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
        **_targets(entry.checks, active),
        "rollout": _rollout(entry.rollout, active),
        "draining": [{"address": a, "requests": count} for a, count in draining.items()],
        "state": gate.state,
        "deploying": busy,
        "in_configuration": declared,
    }
    if gate.state == "stopped":
        described["message"] = gate.message
    if gate.state == "paused":
        described["max_pause"] = gate.max_pause
    return described


def _targets(checks: Checks, active: dict[str, int]) -> dict[str, Any]:
    service, described = checks.service, {c.target: _target(c, active) for c in checks.all()}
    return {
        "targets": [described[target] for target in service.targets],
        "read_targets": [described[target] for target in service.read_targets],
    }


def _rollout(rollout: RolledOut | None, active: dict[str, int]) -> dict[str, Any] | None:
    """`percent` and `list` are None while nobody goes there."""
    if rollout is None:
        return None
    split = rollout.split
    return {
        **_targets(rollout.checks, active),
        "percent": None if split is None else split.percent,
        "list": None if split is None else list(split.allowed),
    }


def describe_tls(
    entry: Entry, certificates: Certificates, secure: bool, now: datetime
) -> dict[str, Any]:
    """Each name that a service has to have a certificate for, and how it fares.

    @param secure: whether it is served by HTTPS, be it with the certificate of another service.
    """
    names = certificates.names_of(entry.service)
    if entry.service.ssl is True:
        described = [_automatic(name, certificates, now) for name in names]
    else:
        expires = None if entry.custom is None else entry.custom.expires
        described = [
            {
                "name": name,
                **_lasts(expires, now),
                "failure": entry.custom_failure,
                "next_try": None,
            }
            for name in names
        ]
    return {"tls": secure, "certificates": described}


def _automatic(name: str, certificates: Certificates, now: datetime) -> dict[str, Any]:
    status = certificates.status(name)
    expires = None if status is None else status.expires
    failure = "" if status is None else status.failure
    next_try = None if status is None else _time(status.next_try)
    return {"name": name, **_lasts(expires, now), "failure": failure, "next_try": next_try}


def _lasts(expires: datetime | None, now: datetime) -> dict[str, Any]:
    left = None if expires is None else (expires - now).days
    return {"expires": _time(expires), "days_left": left}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _target(check: HealthCheck, active: dict[str, int]) -> dict[str, Any]:
    address = str(check.target)
    return {
        "address": address,
        "health": check.state,
        "failure": check.failure,
        "requests": active.get(address, 0),
    }
