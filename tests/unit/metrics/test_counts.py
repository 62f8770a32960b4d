"""Numbers add up, however many they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from weakref import ReferenceType, ref

import pytest

from kproxy.http.bodies import NO_BODY
from kproxy.metrics.catalog import BUCKETS, METRICS
from kproxy.metrics.counts import Counts, Histogram


class Asked(SimpleNamespace):
    """As much of a request as is counted."""

    __hash__ = object.__hash__

    def on_finish(self, callback: Callable[[Any, None], object]) -> None:
        self.ended = callback


def count(
    counts: Counts, service: str = "app", method: bytes = b"GET", status: int = 200
) -> ReferenceType[Asked]:
    """One request, which begins and ends.

    @return: the request, if somebody keeps it.
    """
    request = Asked(
        notes={"service": service},
        method=method,
        path=b"/",
        code=status,
        body=NO_BODY,
        sentLength=2,
        took=10**8,
    )
    counts.begin(request)
    request.ended(request, None)
    return ref(request)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.005, 0), (0.0051, 1), (1.0, 7), (10.0, 10), (10.01, 11), (1e9, 11)],
)
def test_a_bucket_takes_what_is_not_above_its_bound(seconds: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    *buckets, total = histogram.numbers()
    assert buckets == [*[0] * bucket, 1, *[0] * (len(BUCKETS) - bucket)]
    assert histogram.count() == 1
    assert total == seconds


def test_the_buckets_are_those_of_the_library_for_go() -> None:
    assert BUCKETS == (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@pytest.mark.parametrize("requests", [1, 1000])
def test_no_request_is_lost_or_counted_twice(requests: int) -> None:
    counts = Counts()
    counts.service("app")
    for _ in range(requests):
        count(counts)
    for _ in range(2):
        measured = counts.measured(0, {})
        assert measured["kamal_proxy_http_requests_total"] == [(("app", "GET", "200"), [requests])]
        assert measured["kproxy_http_response_body_bytes_total"] == [(("app",), [2 * requests])]


def test_methods_that_clients_make_up_are_one_even_if_they_guess_its_name() -> None:
    counts = Counts()
    counts.service("app")
    for method in (b"FOO", b"OTHER", b"get", b"GET"):
        count(counts, method=method)
    assert dict(counts.measured(0, {})["kamal_proxy_http_requests_total"]) == {
        ("app", "OTHER", "200"): [3],
        ("app", "GET", "200"): [1],
    }


def test_a_service_that_is_not_known_is_not_made_up() -> None:
    counts = Counts()
    request = count(counts, service="a plug-in's idea")
    assert counts.measured(0, {})["kamal_proxy_http_requests_total"] == []
    assert request() is None


def test_a_service_starts_at_zero() -> None:
    counts = Counts()
    counts.service("app")
    measured = counts.measured(0, {"app": []})
    zeros = [0] * (len(BUCKETS) + 2)
    assert measured["kproxy_upstream_connect_duration_seconds"] == [(("app",), zeros)]
    assert measured["kproxy_http_request_body_bytes_total"] == [(("app",), [0])]
    assert measured["kamal_proxy_http_in_flight_requests"] == [(("app",), [0])]


def test_what_was_measured_does_not_change_afterwards() -> None:
    counts = Counts()
    counts.service("app")
    count(counts)
    measured = counts.measured(0, {})
    before = json.dumps(measured)
    count(counts)
    counts.service("app").connect_failures += 1
    counts.service("app").connects.observe(1)
    counts.measured(0, {})
    assert json.dumps(measured) == before


def test_everything_that_is_measured_is_in_the_catalog_with_its_labels() -> None:
    counts = Counts()
    counts.service("app")
    count(counts)
    known = {metric.name: metric for metric in METRICS}
    for name, series in counts.measured(3, {}).items():
        for labels, numbers in series:
            assert len(labels) == len(known[name].labels), name
            assert len(numbers) == (13 if known[name].kind == "histogram" else 1), name
