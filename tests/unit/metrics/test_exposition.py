"""The text, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from kproxy.metrics.catalog import METRICS
from kproxy.metrics.exposition import exposition

DURATIONS = "kamal_proxy_http_request_duration_seconds"


def test_every_metric_is_announced_with_its_kind_and_meaning() -> None:
    families = {
        family.name: family for family in text_string_to_metric_families(exposition({}).decode())
    }
    assert len(families) == len(METRICS)
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert family.type == metric.kind
        assert family.documentation == metric.help


def test_a_counter_has_its_labels() -> None:
    name = "kamal_proxy_http_requests_total"
    text = exposition({name: [(("app", "GET", "200"), [5])]}).decode()
    assert f'{name}{{method="GET",service="app",status="200"}} 5.0\n' in text


def test_a_gauge_may_have_no_labels() -> None:
    assert b"\nkproxy_client_connections 7.0\n" in exposition(
        {"kproxy_client_connections": [((), [7])]}
    )


def test_each_bucket_holds_the_lower_ones_and_is_named_as_go_does() -> None:
    series = (("app", "GET", "200"), [1, 0, 2, 0, 0, 0, 0, 3, 0, 0, 0, 4, 12.5])
    text = exposition({DURATIONS: [series]}).decode()  # type: ignore[list-item]
    samples = {
        sample.labels.get("le"): (sample.name, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"{DURATIONS}_bucket"
    }
    assert {bound: value for bound, (_, value) in samples.items()} == {
        "0.005": 1,
        "0.01": 1,
        "0.025": 3,
        "0.05": 3,
        "0.1": 3,
        "0.25": 3,
        "0.5": 3,
        "1": 6,
        "2.5": 6,
        "5": 6,
        "10": 6,
        "+Inf": 10,
    }
    assert f'{DURATIONS}_count{{method="GET",service="app",status="200"}} 10.0' in text
    assert f'{DURATIONS}_sum{{method="GET",service="app",status="200"}} 12.5' in text


def test_names_are_escaped() -> None:
    text = exposition({"kproxy_target_healthy": [(('a"b\\', "x\ny"), [1])]}).decode()
    assert r'service="a\"b\\",target="x\ny"' in text


def test_nothing_is_said_of_the_library_itself() -> None:
    assert b"python_" not in exposition({})
    assert b"_created" not in exposition({DURATIONS: [(("a", "GET", "200"), [0] * 13)]})
