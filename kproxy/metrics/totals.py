"""What all data planes have counted together, whichever of them are still there."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable

from kproxy.metrics.catalog import METRICS, Measured

UNIT = 2.0**20
"""What numbers are multiples of the inverse of: so the sum of some is exact, in whichever order they
are added (up to 2**33). Other sums would go down by their last digit when a data plane ends."""
_GAUGES = frozenset(metric.name for metric in METRICS if metric.kind == "gauge")


class Totals:
    """Adds up what data planes measure.

    A counter must never go down, or Prometheus takes that for a restart. So what a data plane had
    counted when it was last asked is kept for good when it is gone; its gauges are gone with it.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, Measured] = {}
        self._gone: Measured = {}

    def update(self, source: Hashable, measured: Measured) -> None:
        """Take what a data plane measures now.

        @param source: which one it is; its successor has to be another one.
        """
        self._last[source] = measured

    def gone(self, source: Hashable) -> None:
        """A data plane has ended; nothing happens if it has never measured anything."""
        last = self._last.pop(source, {})
        self._gone = merged((self._gone, counters(last)))

    def kept(self) -> Measured:
        """What those had counted that are gone."""
        return self._gone

    def last(self, source: Hashable) -> Measured:
        """What a data plane measured when it was last asked; nothing, if it never was."""
        return self._last.get(source, {})

    def inherit(self, counted: Measured) -> None:
        """Go on from what was kept before."""
        self._gone = merged((self._gone, counted))

    def total(self) -> Measured:
        """The sum of all that there are, and have been."""
        return merged((self._gone, *self._last.values()))


def counters(measured: Measured) -> Measured:
    """What of it must never go down."""
    return {name: series for name, series in measured.items() if name not in _GAUGES}


def merged(parts: Iterable[Measured]) -> Measured:
    """The sum of some measurements."""
    sums: dict[str, dict[tuple[str, ...], list[float]]] = {}
    for measured in parts:
        for name, series in measured.items():
            into = sums.setdefault(name, {})
            for labels, numbers in series:
                key = tuple(labels)  # a list, if it came as JSON
                before = into.get(key, [0] * len(numbers))
                pairs = zip(before, numbers, strict=True)
                into[key] = [old + _multiple(new) for old, new in pairs]
    return {name: list(series.items()) for name, series in sums.items()}


def _multiple(number: float) -> float:
    return number if isinstance(number, int) else math.floor(number * UNIT) / UNIT
