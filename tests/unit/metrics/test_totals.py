"""Sums over data planes, which come and go."""

from __future__ import annotations

import json

from kproxy.metrics.catalog import Measured
from kproxy.metrics.totals import Totals, counters, merged

REQUESTS = "kamal_proxy_http_requests_total"
DURATIONS = "kamal_proxy_http_request_duration_seconds"
CONNECTIONS = "kproxy_client_connections"
LABELS = ("app", "GET", "200")


def measured(requests: float, connections: float = 0) -> Measured:
    return {REQUESTS: [(LABELS, [requests])], CONNECTIONS: [((), [connections])]}


def test_all_that_there_are_are_added_up() -> None:
    totals = Totals()
    totals.update(1, measured(3, 5))
    totals.update(2, measured(4, 6))
    assert totals.total() == {REQUESTS: [(LABELS, [7])], CONNECTIONS: [((), [11])]}


def test_what_one_measures_replaces_what_it_has_measured() -> None:
    totals = Totals()
    totals.update(1, measured(3, 5))
    totals.update(1, measured(4, 2))
    assert totals.total() == measured(4, 2)


def test_the_counters_of_one_that_is_gone_stay_and_its_gauges_go() -> None:
    totals = Totals()
    totals.update(1, measured(3, 5))
    totals.gone(1)
    assert totals.total() == {REQUESTS: [(LABELS, [3])]}
    totals.update(2, measured(1, 1))
    assert dict(totals.total()) == {REQUESTS: [(LABELS, [4])], CONNECTIONS: [((), [1])]}
    totals.gone(2)
    totals.gone(2)
    assert totals.total() == {REQUESTS: [(LABELS, [4])]}


def test_the_cpu_time_of_a_place_never_falls_and_the_memory_of_one_that_is_gone_is_no_more() -> (
    None
):
    cpu, memory = "kproxy_process_cpu_seconds_total", "kproxy_process_resident_memory_bytes"

    def process(seconds: float, resident: float) -> Measured:
        return {cpu: [(("worker 1",), [seconds])], memory: [(("worker 1",), [resident])]}

    totals = Totals()
    totals.update("first", process(7, 100))
    totals.gone("first")
    assert totals.total() == {cpu: [(("worker 1",), [7])]}
    totals.update("second", process(1, 50))  # in the place of the first
    assert totals.total() == process(8, 50)


def test_a_successor_goes_on_from_what_it_inherits() -> None:
    before, after = Totals(), Totals()
    before.update(1, measured(3, 5))
    before.gone(1)
    after.inherit(before.kept())
    after.update(1, measured(1, 2))
    assert after.total() == measured(4, 2)


def test_only_counters_outlive_what_they_were_counted_by() -> None:
    assert counters(measured(3, 5)) == {REQUESTS: [(LABELS, [3])]}


def test_one_that_has_never_measured_anything_may_go() -> None:
    totals = Totals()
    totals.gone("never seen")
    assert totals.total() == {}


def test_histograms_are_added_bucket_by_bucket() -> None:
    one: Measured = {DURATIONS: [(LABELS, [1, 2, 0.5])]}
    other: Measured = {DURATIONS: [(LABELS, [0, 4, 0.25]), (("app", "GET", "404"), [1, 0, 0.125])]}
    assert merged((one, other)) == {
        DURATIONS: [(LABELS, [1, 6, 0.75]), (("app", "GET", "404"), [1, 0, 0.125])]
    }


def test_a_sum_of_seconds_does_not_go_down_by_a_digit_when_one_is_gone() -> None:
    totals = Totals()
    # Of these, (a + b) + c is not a + (b + c).
    for source, seconds in enumerate((0.1, 0.2, 0.3)):
        totals.update(source, {DURATIONS: [(LABELS, [1, seconds])]})
    before = totals.total()
    for source in (2, 1, 0):
        totals.gone(source)
        assert totals.total() == before


def test_what_came_as_json_is_added_to_what_did_not() -> None:
    totals = Totals()
    totals.update(1, measured(3))
    totals.update(2, json.loads(json.dumps(measured(4))))
    assert totals.total()[REQUESTS] == [(LABELS, [7])]


def test_what_is_handed_in_is_not_changed() -> None:
    first, second = measured(1), measured(2)
    merged((first, second))
    totals = Totals()
    totals.update(1, first)
    totals.gone(1)
    totals.update(2, second)
    totals.total()
    assert (first, second) == (measured(1), measured(2))
