"""Numbers add up, however many they are."""

from __future__ import annotations

import json

import pytest

from kproxy.metrics.catalog import BUCKETS, METRICS
from kproxy.metrics.counts import NOTES, Counts, Ended, histogram, observe


def count(counts: Counts, *notes: Ended) -> None:
    """Do as the wrapper does."""
    for note in notes:
        counts.ended.append(note)
        if len(counts.ended) >= NOTES:
            counts.settle()


def note(seconds: float = 0.1, service: str = "app", status: int = 200) -> Ended:
    return (service, b"GET", b"/", status, seconds, 1, 2)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.005, 0), (0.0051, 1), (1.0, 7), (10.0, 10), (10.01, 11), (1e9, 11)],
)
def test_a_bucket_takes_what_is_not_above_its_bound(seconds: float, bucket: int) -> None:
    numbers = histogram()
    observe(numbers, seconds)
    assert numbers[bucket] == 1
    assert sum(numbers[:-1]) == 1
    assert numbers[-1] == seconds


def test_the_buckets_are_those_of_the_library_for_go() -> None:
    assert BUCKETS == (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@pytest.mark.parametrize("requests", [1, NOTES - 1, NOTES, 3 * NOTES + 1])
def test_no_request_is_lost_or_counted_twice(requests: int) -> None:
    counts = Counts()
    counts.service("app")
    count(counts, *[note()] * requests)
    for _ in range(2):
        measured = counts.measured(0, {})
        assert measured["kamal_proxy_http_requests_total"] == [(("app", "GET", "200"), [requests])]
        assert measured["kproxy_http_request_body_bytes_total"] == [(("app",), [requests])]
        assert measured["kproxy_http_response_body_bytes_total"] == [(("app",), [2 * requests])]


def test_notes_do_not_pile_up() -> None:
    counts = Counts()
    counts.service("app")
    answers = counts.service("app").answers
    for _ in range(3 * NOTES):
        answers.append(0.1)
        count(counts, note())
        assert len(counts.ended) < NOTES
        assert len(answers) <= NOTES
    (series,) = counts.measured(0, {})["kproxy_upstream_response_duration_seconds"]
    assert sum(series[1][:-1]) == 3 * NOTES


def test_a_service_that_is_not_known_is_not_made_up() -> None:
    counts = Counts()
    count(counts, note(service="a plug-in's idea"))
    assert counts.measured(0, {})["kamal_proxy_http_requests_total"] == []


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
    count(counts, note())
    measured = counts.measured(0, {})
    before = json.dumps(measured)
    count(counts, note())
    counts.service("app").connect_failures += 1
    observe(counts.service("app").connects, 1)
    counts.measured(0, {})
    assert json.dumps(measured) == before


def test_everything_that_is_measured_is_in_the_catalog_with_its_labels() -> None:
    counts = Counts()
    counts.service("app")
    count(counts, note())
    known = {metric.name: metric for metric in METRICS}
    for name, series in counts.measured(3, {}).items():
        for labels, numbers in series:
            assert len(labels) == len(known[name].labels), name
            assert len(numbers) == (13 if known[name].kind == "histogram" else 1), name
