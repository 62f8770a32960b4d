"""What Prometheus reads of a proxy that runs."""

from __future__ import annotations

import os
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kproxy.metrics.catalog import METRICS
from tests.e2e.support.https import client, https_proxy
from tests.e2e.support.prometheus import Prometheus
from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import request_text
from tests.support.ports import free_port

REQUESTS = "kamal_proxy_http_requests_total"


class Metrics:
    """The metrics of a proxy, read anew with each question."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/metrics"

    def text(self) -> str:
        with urllib.request.urlopen(self.url, timeout=20) as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text: str = response.read().decode()
            return text

    def __call__(self, name: str, /, **labels: str) -> float:
        """The sum of all series of this name that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def app(stage: Stage, target: Any, **x_kproxy: Any) -> tuple[Proxy, Metrics]:
    """A proxy with metrics, and a service app.example on it."""
    port = free_port("127.0.0.1")
    config = stage.deploy({"app": {"hosts": [target.address]}}, x_kproxy=x_kproxy)
    options = ("--metrics-port", str(port))
    proxy = stage.proxy(config, healthy=("app.example",), options=options)
    return proxy, Metrics(port)


def test_requests_are_counted_as_kamal_proxy_does(stage: Stage) -> None:
    proxy, metrics = app(stage, stage.target(says("hello")), exclude_metrics_paths=["/up"])
    for _ in range(3):
        assert proxy.get().status == 200
    proxy.request("POST", body=b"x" * 100)
    proxy.request("BREW")
    proxy.get("/up")
    proxy.get(host="other.example")
    by = {"service": "shop-app", "status": "200"}
    wait_until("all are counted", lambda: metrics(REQUESTS, service="") == 1)
    assert metrics(REQUESTS, method="GET", **by) == 3
    assert metrics(REQUESTS, method="POST", **by) == 1
    assert metrics(REQUESTS, method="OTHER", **by) == 1
    assert metrics(REQUESTS, service="", status="404") == 1
    durations = "kamal_proxy_http_request_duration_seconds"
    assert metrics(durations + "_count", method="GET", **by) == 3
    assert metrics(durations + "_bucket", method="GET", le="+Inf", **by) == 3
    assert 0 < metrics(durations + "_sum", method="GET", **by) < 60
    assert metrics("kproxy_http_request_body_bytes_total", service="shop-app") == 100
    assert metrics("kproxy_http_response_body_bytes_total", service="shop-app") == 5 * 5


def test_what_goes_on_now_is_shown(stage: Stage) -> None:
    target = stage.target(says("hello"))
    proxy, metrics = app(stage, target)
    in_flight = "kamal_proxy_http_in_flight_requests"
    assert metrics(in_flight, service="shop-app") == 0
    assert metrics("kproxy_target_healthy", target=target.address) == 1
    with proxy.connect() as wire:
        wire.send(request_text("POST", headers={"Content-Length": "5"}))
        wait_until("it is in flight", lambda: metrics(in_flight, service="shop-app") == 1)
        assert metrics("kproxy_client_connections") == 1
        wire.send(b"12345")
        assert wire.read_response("POST").status == 200
        wait_until("it has ended", lambda: metrics(in_flight, service="shop-app") == 0)
    wait_until("the client has left", lambda: metrics("kproxy_client_connections") == 0)
    assert metrics("kproxy_upstream_connections", target=target.address, state="idle") >= 1
    assert metrics("kproxy_upstream_response_duration_seconds_count", service="shop-app") >= 1
    assert metrics("kproxy_upstream_connect_duration_seconds_count", service="shop-app") >= 1
    assert metrics("kproxy_process_resident_memory_bytes", process="control") > 10_000_000
    assert 0 < metrics("kproxy_process_cpu_seconds_total", process="control") < 600


def test_deployments_and_their_paths_are_told_apart(stage: Stage) -> None:
    old, new = stage.target(says("old")), stage.target(says("new"))
    bad = stage.target()
    bad.healthy = False
    proxy, metrics = app(stage, old)
    deploy = ("deploy", "shop-app", "--target")
    assert proxy.command(*deploy, new.address, "--exclude-metrics-path", "/quiet").returncode == 0
    assert proxy.command(*deploy, bad.address, "--deploy-timeout", "300ms").returncode == 1
    assert metrics("kproxy_deployments_total", outcome="succeeded") == 1
    assert metrics("kproxy_deployments_total", outcome="failed") == 1
    assert metrics("kproxy_target_healthy", target=new.address) == 1
    assert f'target="{old.address}"' not in metrics.text()
    before = metrics(REQUESTS, service="shop-app")
    assert proxy.get("/quiet").text == "new"
    assert proxy.get("/loud").text == "new"
    wait_until("one is counted", lambda: metrics(REQUESTS, service="shop-app") > before)
    proxy.logged(path="/quiet")
    assert metrics(REQUESTS, service="shop-app") == before + 1


def test_tls_is_counted_and_certificates_have_their_end(stage: Stage) -> None:
    port = free_port("127.0.0.1")
    roles = {"app": {"hosts": [stage.target(says("hello")).address], "proxy": {"ssl": True}}}
    proxy = https_proxy(stage, roles, KPROXY_METRICS_PORT=str(port))
    metrics = Metrics(port)
    handshakes = "kproxy_tls_handshakes_total"
    before = metrics(handshakes, result="succeeded")
    assert before >= 1  # with which the stage looked whether it is served
    failed = metrics(handshakes, result="failed")
    with proxy.connect_tls(client()) as wire:
        wire.send(request_text())
        assert wire.read_response().text == "hello"
    proxy.connect_raw_tls().close()
    wait_until("both are counted", lambda: metrics(handshakes, result="failed") == failed + 1)
    assert metrics(handshakes, result="succeeded") == before + 1
    expiry = metrics("kproxy_certificate_expiry_timestamp_seconds", name="app.example")
    assert expiry > 1_700_000_000


def test_every_metric_is_there_from_the_start_and_nothing_else_is(stage: Stage) -> None:
    _, metrics = app(stage, stage.target())
    names = [line.split()[2] for line in metrics.text().splitlines() if line.startswith("# TYPE ")]
    assert names == [metric.name for metric in METRICS]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(metrics.url.removesuffix("metrics"), timeout=20)


def test_workers_are_counted_together_and_none_is_forgotten_when_they_are_replaced(
    stage: Stage,
) -> None:
    port = free_port("127.0.0.1")
    config = stage.deploy({"app": {"hosts": [stage.target(says("hello")).address]}})
    options = ("--metrics-port", str(port), "--workers", "2")
    proxy = stage.proxy(config, healthy=("app.example",), options=options)
    metrics = Metrics(port)

    def counted(count: int) -> None:
        by = {"service": "shop-app", "method": "POST", "status": "200"}
        wait_until("all are counted", lambda: metrics(REQUESTS, **by) == count)

    for _ in range(8):
        assert proxy.request("POST").status == 200
    counted(8)
    assert proxy.command("restart").returncode == 0
    assert proxy.request("POST").status == 200
    counted(9)
    used = "kproxy_process_cpu_seconds_total"
    assert metrics(used, process="worker 1") > 0
    assert metrics(used, process="worker 4") > 0


def test_prometheus_reads_the_sum_of_all_workers_across_a_restart(
    stage: Stage, tmp_path: Path
) -> None:
    port = free_port("127.0.0.1")
    config = stage.deploy({"app": {"hosts": [stage.target(says("hello")).address]}})
    options = ("--metrics-port", str(port), "--workers", "2")
    proxy = stage.proxy(config, healthy=("app.example",), options=options)
    with Prometheus(tmp_path, port) as prometheus:

        def shows(query: str, value: float) -> None:
            wait_until(f"{query} is {value}", lambda: prometheus.ask(query) == value)

        posts = '{service="shop-app",method="POST",status="200"}'
        for _ in range(20):
            assert proxy.request("POST").status == 200
        shows(f"sum({REQUESTS}{posts})", 20)
        assert proxy.command("restart").returncode == 0
        for _ in range(20):
            assert proxy.request("POST").status == 200
        durations = "kamal_proxy_http_request_duration_seconds"
        shows(f"sum({REQUESTS}{posts})", 40)
        shows(f'sum({durations}_bucket{posts[:-1]},le="+Inf"}})', 40)
        shows("sum(kamal_proxy_http_in_flight_requests)", 0)
        shows('kproxy_workers{state="serving"}', 2)
        shows('kproxy_worker_restarts_total{cause="restarted"}', 2)
        os.kill(proxy.pids()[1], signal.SIGKILL)
        shows('kproxy_worker_restarts_total{cause="died"}', 1)
        shows("min(resets(kproxy_process_cpu_seconds_total[5m]))", 0)
        shows(f"max(resets({REQUESTS}{posts}[5m]))", 0)


def test_a_port_that_is_taken_ends_the_start(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        proxy = stage.start(options=("--metrics-port", str(port)))
        assert proxy.join() == 1
    assert f"can't listen on 127.0.0.1 port {port}" in proxy.output


def test_on_any_reactor(stage: Stage) -> None:
    port = free_port("127.0.0.1")
    proxy = stage.proxy(twistd=("-r", "poll"), options=("--metrics-port", str(port)))
    assert proxy.get().status == 404
    metrics = Metrics(port)
    wait_until("it is counted", lambda: metrics(REQUESTS, status="404") == 1)
