"""When a CA wants a certificate to be renewed (RFC 9773)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from kproxy.tls.acme.errors import BadAnswer, one_line
from kproxy.tls.acme.web import Answer

_ASK_AGAIN = 6 * 3600.0
"""Where the CA does not say, RFC 9773 section 4.3.2 leaves it to us; this is what it recommends."""
_SOONEST, _LATEST = 60.0, 86400.0
"""Limits that the same section recommends, whatever the CA says."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class RenewalWindow:
    """When a CA wants a certificate to be replaced (RFC 9773); pick a random time in it."""

    start: datetime
    """With a time zone, as `end`. A window in the past means: at once."""
    end: datetime
    explanation: str
    """A page that says why; empty: none."""
    retry_after: float
    """Seconds from now after which to ask again."""


def read_window(answer: Answer) -> RenewalWindow:
    """What a CA says about one certificate.

    @raise BadAnswer: nothing that makes sense.
    """
    document = answer.json()
    window = document.get("suggestedWindow")
    window = window if isinstance(window, dict) else {}
    start, end = read_time(window.get("start")), read_time(window.get("end"))
    if end < start:
        raise BadAnswer("the CA wants a certificate renewed in a time that ends before it begins")
    explanation = document.get("explanationURL")
    wait = _ASK_AGAIN if answer.retry_after is None else answer.retry_after
    return RenewalWindow(
        start=start,
        end=end,
        explanation=one_line(explanation) if isinstance(explanation, str) else "",
        retry_after=min(max(wait, _SOONEST), _LATEST),
    )


def read_time(text: object) -> datetime:
    """A time as RFC 3339 writes it; fractions of a second are dropped.

    @raise BadAnswer: it is something else.
    """
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is not None:
        date, time, zone = found.groups()
        try:
            return datetime.fromisoformat(f"{date}T{time}{'+00:00' if zone in 'Zz' else zone}")
        except ValueError:
            pass
    raise BadAnswer(f"{one_line(str(text))!r} is not a time")
