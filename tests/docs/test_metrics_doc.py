"""The page on metrics and the dashboard speak of metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from kproxy.metrics.catalog import BUCKETS, METRICS
from kproxy.metrics.counts import METHODS, OTHER
from kproxy.tap import Options
from tests.docs.pages import DOCS, ROOT, blocks

TEXT = (DOCS / "metrics.md").read_text("utf-8")
DASHBOARD = json.loads((ROOT / "examples" / "grafana-dashboard.json").read_text("utf-8"))
KNOWN = {metric.name: metric for metric in METRICS}
SERIES = {
    series: metric
    for metric in METRICS
    for series in (
        [f"{metric.name}_{part}" for part in ("bucket", "sum", "count")]
        if metric.kind == "histogram"
        else [metric.name]
    )
}
"""What a query may ask for."""


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def dashboard_queries() -> Iterator[str]:
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def page_queries() -> list[str]:
    return [
        found.strip("`") for found in re.findall(r"`(?:sum|kproxy_cert)[^`]* [<>=]=? [^`]*`", TEXT)
    ]


QUERIES = [*dashboard_queries(), *page_queries()]


def asked(query: str) -> set[str]:
    """The series that a query names."""
    return set(re.findall(r"\bk(?:amal_)?proxy_\w+", query))


def test_the_table_is_the_catalog() -> None:
    rows = re.findall(r"^\| `(k\w+_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", TEXT, re.M)
    assert [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in rows
    ] == [(metric.name, metric.kind, metric.labels, metric.help) for metric in METRICS]


def test_kamal_proxys_metrics_have_its_labels() -> None:
    assert {m.name: m.labels for m in METRICS if m.name.startswith("kamal_proxy_")} == {
        "kamal_proxy_http_requests_total": ("service", "method", "status"),
        "kamal_proxy_http_request_duration_seconds": ("service", "method", "status"),
        "kamal_proxy_http_in_flight_requests": ("service",),
    }


def test_counters_are_named_as_prometheus_wants_them() -> None:
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name


def test_numbers_and_lists_in_the_text_are_right() -> None:
    (bounds,) = re.findall(r"buckets end at (.*?) seconds", TEXT, re.S)
    assert tuple(map(float, re.findall(r"[\d.]+", bounds))) == BUCKETS
    (methods,) = re.findall(r"`method`: (.*), and (\w+) for", TEXT)
    assert methods == (", ".join(METHODS.values()), OTHER)


def test_every_label_is_explained() -> None:
    explained = set(re.findall(r"^- `(\w+)`: ", TEXT, re.M))
    assert explained | {"name"} == {label for metric in METRICS for label in metric.labels}


def test_there_are_queries_to_look_at() -> None:
    assert len(page_queries()) == 4
    assert len(QUERIES) > 20


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_metrics_that_there_are_and_by_their_labels(query: str) -> None:
    names = asked(query)
    assert names
    assert names <= set(SERIES), names - set(SERIES)
    labels = {label for name in names for label in SERIES[name].labels} | {"instance", "le"}
    grouped = [by for found in re.findall(r"\bby \((.*?)\)", query) for by in found.split(", ")]
    matched = re.findall(r"(\w+)=~?\"", query)
    assert {*grouped, *matched} <= labels
    for name in names:
        counter = SERIES[name].kind == "counter" or name.endswith("_bucket")
        assert counter == bool(re.search(rf"(?:rate|increase)\({name}\b", query)), name


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {SERIES[name].name for query in dashboard_queries() for name in asked(query)}
    assert shown == set(KNOWN)


def test_legends_name_labels_that_their_query_keeps() -> None:
    for panel in panels():
        for target in panel["targets"]:
            (by,) = set(re.findall(r"\bby \((.*?)\)", target["expr"]))
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert legend == set(by.split(", ")) - {"le"}, target["expr"]


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_command_is_one() -> None:
    (block,) = [block for block in blocks(DOCS / "metrics.md") if block.language == "console"]
    (start, _), (curl, _) = block.commands()
    options = Options()
    options.parseOptions(start.split()[3:])
    assert options["metrics-port"] == 9394
    assert f":{options['metrics-port']}/metrics" in curl
    assert f"metrics_port: {options['metrics-port']}" in TEXT
    assert f'127.0.0.1:{options["metrics-port"]}"]' in TEXT
