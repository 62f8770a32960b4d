"""What is measured, and the arithmetic that turns rounds into one figure. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Sample = dict[str, float]
"""One round of one proxy: metric key → value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of a report."""

    key: str
    heading: str
    decimals: int = 0

    def show(self, value: float) -> str:
        """The value as the table prints it, with thousands separated."""
        return f"{value:,.{self.decimals}f}"


RPS = Metric("rps", "requests/s")
P50 = Metric("p50_ms", "p50 ms", 2)
P99 = Metric("p99_ms", "p99 ms", 2)
CPU = Metric("cpu_us", "CPU µs/request", 1)
BUSY = Metric("busy_cores", "cores busy", 2)
MB_S = Metric("mb_s", "MB/s")
ERRORS = Metric("errors", "errors")
HANDSHAKES = Metric("handshakes", "handshakes/s")
HANDSHAKE_CPU = Metric("cpu_us", "CPU µs/handshake", 1)
IDLE_KB = Metric("idle_kb", "KB/connection", 1)
MEMORY_MB = Metric("memory_mb", "MB before", 1)
STARTUP_MS = Metric("startup_ms", "start-up ms")


def medians(rounds: Sequence[Sample]) -> Sample:
    """Each metric's median over the rounds; {} of no rounds."""
    if not rounds:
        return {}
    return {key: median(sample[key] for sample in rounds) for key in rounds[0]}


def ratios(of: Sample, to: Sample) -> Sample:
    """Metric by metric ``of / to``; metrics that are missing or 0 in ``to`` are left out."""
    return {key: value / to[key] for key, value in of.items() if to.get(key)}


def ratios_to(
    references: Sequence[str], results: Mapping[str, Sample]
) -> dict[str, dict[str, Sample]]:
    """Proxy → reference → ratios, for the references that have a result."""
    present = [name for name in references if results.get(name)]
    return {
        proxy: {name: ratios(sample, results[name]) for name in present}
        for proxy, sample in results.items()
    }
