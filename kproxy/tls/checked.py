"""What is known of a certificate that can be served, and what of it is worth a warning.

It is apart from `kproxy.tls.certificates`, which finds it out, so that whoever has no certificate has no
need of cryptography.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kproxy.snapshot import Certificate

SOON = timedelta(days=30)
"""How long before its end a certificate is worth a warning."""


class CertificateError(ValueError):
    """A certificate can't be used; the text says why, and holds nothing secret."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A certificate that can be served."""

    certificate: Certificate
    names: tuple[str, ...]
    """DNS names that it is for, lower case; ``*.example.com`` for one label."""
    expires: datetime
    """In UTC: when the first of its chain does."""


def warnings(checked: Checked, hosts: Iterable[str], now: datetime) -> list[str]:
    """What is worth a warning, as sentences about the certificate: ``expires in 3 days, on …``."""
    found = []
    if checked.expires - now < SOON:
        found.append(f"expires in {days(checked.expires, now)}, on {day(checked.expires)}")
    missed = [host for host in hosts if not covers(checked.names, host)]
    if missed:
        names = ", ".join(checked.names) or "no host at all"
        found.append(f"does not cover {', '.join(missed)}; it is for {names}")
    return found


def covers(names: Collection[str], host: str) -> bool:
    """Whether names of a certificate cover a host (RFC 9525 section 6.3): a wildcard stands for exactly
    one label, and only a wildcard covers a host that is one."""
    return host in names or (not host.startswith("*.") and f"*.{host.partition('.')[2]}" in names)


def days(until: datetime, now: datetime) -> str:
    """How long it is, in whole days: ``29 days``, ``1 day``."""
    count = max(0, (until - now).days)
    return f"{count} day{'' if count == 1 else 's'}"


def day(moment: datetime) -> str:
    """As messages have it."""
    return f"{moment:%Y-%m-%d}"
