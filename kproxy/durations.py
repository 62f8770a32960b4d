"""Durations as Go writes them: ``30s``, ``1m30s``, ``500ms``."""

from __future__ import annotations

import re

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> float:
    """Seconds.

    @raise ValueError: it is no duration of Go's, or below zero.
    """
    if text in ("0", "+0", "-0"):
        return 0.0
    seconds, end = 0.0, 1 if text.startswith("+") else 0
    while end < len(text):
        part = _PART.match(text, end)
        if part is None:
            break
        seconds += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    if end < len(text) or not text.strip("+"):
        raise ValueError('should be a duration, like "30s" or "1m30s"')
    return seconds


def show_duration(seconds: float) -> str:
    """The same, for people: ``1m30s``."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else ""]
    return "".join(parts) + (f"{rest:g}s" if rest or not (hours or minutes) else "")
