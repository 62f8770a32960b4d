"""Prometheus' text format (version 0.0.4) of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from kproxy.metrics.catalog import BUCKETS, METRICS, Measured, Metric, Series

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
"""As the library for Go writes them: "1" and not "1.0", since dashboards may ask for just that."""


def exposition(measured: Measured) -> bytes:
    """The text that Prometheus reads. It takes a while where there are thousands of series."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Measurement(measured))
    return generate_latest(registry)


class _Measurement(Collector):
    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def collect(self) -> Iterable[Family]:
        for metric in METRICS:
            yield _family(metric, self._measured.get(metric.name, ()))


def _family(metric: Metric, series: Iterable[Series]) -> Family:
    if metric.kind == "histogram":
        histograms = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, (*counts, total) in series:
            histograms.add_metric(labels, list(_buckets(counts)), total)
        return histograms
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, (value,) in series:
        family.add_metric(labels, value)
    return family


def _buckets(counts: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Prometheus' buckets hold what is in the lower ones, too."""
    return zip(_BOUNDS, accumulate(counts), strict=True)
