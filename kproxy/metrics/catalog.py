"""Every metric there is: what code counts under these names is shown, and nothing else.

The first three are kamal-proxy's, label for label and bucket for bucket, so that dashboards made for it
go on working. A label's values come from the operator (services, targets) or from a short list: no
client can make a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds, of all histograms: the defaults of Prometheus' library for Go."""

Kind = Literal["counter", "gauge", "histogram"]
Series = tuple[tuple[str, ...], list[float]]
"""Values of labels, and one number; of a histogram one count for each bucket, one for what is above
them, and the sum of all that was observed."""
Measured = dict[str, list[Series]]
"""Series by the metric's name: plain data, which also survives JSON (there, tuples are lists)."""


@dataclass(frozen=True)
class Metric:
    """One metric."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


_REQUEST = ("service", "method", "status")

METRICS = (
    Metric(
        "kamal_proxy_http_requests_total",
        "counter",
        _REQUEST,
        "HTTP requests processed, labeled by service, status code and method.",
    ),
    Metric(
        "kamal_proxy_http_request_duration_seconds",
        "histogram",
        _REQUEST,
        "Duration of HTTP requests, labeled by service, status code and method.",
    ),
    Metric(
        "kamal_proxy_http_in_flight_requests",
        "gauge",
        ("service",),
        "Number of in-flight HTTP requests, labeled by service.",
    ),
    Metric(
        "kproxy_http_request_body_bytes_total",
        "counter",
        ("service",),
        "Bytes of request bodies that came from clients, counted when the request ends.",
    ),
    Metric(
        "kproxy_http_response_body_bytes_total",
        "counter",
        ("service",),
        "Bytes of response bodies that went to clients, counted when the request ends.",
    ),
    Metric(
        "kproxy_upstream_connect_duration_seconds",
        "histogram",
        ("service",),
        "Time until a new connection to a target stood.",
    ),
    Metric(
        "kproxy_upstream_connect_failures_total",
        "counter",
        ("service",),
        "Connections to a target that were refused, or not made in time.",
    ),
    Metric(
        "kproxy_upstream_response_duration_seconds",
        "histogram",
        ("service",),
        "Time from a request having been sent to a target to the headers of its response.",
    ),
    Metric(
        "kproxy_upstream_connections",
        "gauge",
        ("service", "target", "state"),
        "Pooled connections to a target: idle ones, and those that are in use.",
    ),
    Metric(
        "kproxy_client_connections",
        "gauge",
        (),
        "Open connections of clients.",
    ),
    Metric(
        "kproxy_tls_handshakes_total",
        "counter",
        ("result",),
        "Connections to the HTTPS port whose handshake succeeded or failed.",
    ),
    Metric(
        "kproxy_target_healthy",
        "gauge",
        ("service", "target"),
        "Whether a target's last health check went well.",
    ),
    Metric(
        "kproxy_certificate_expiry_timestamp_seconds",
        "gauge",
        ("service", "name"),
        "When the certificate for a name expires, in seconds since the epoch.",
    ),
    Metric(
        "kproxy_deployments_total",
        "counter",
        ("outcome",),
        "Deployments that succeeded or failed.",
    ),
    Metric(
        "kproxy_workers",
        "gauge",
        ("state",),
        "Worker processes; none if the control process serves by itself.",
    ),
    Metric(
        "kproxy_worker_restarts_total",
        "counter",
        ("cause",),
        "Worker processes that were started in the place of others.",
    ),
    Metric(
        "kproxy_process_cpu_seconds_total",
        "counter",
        ("process",),
        "CPU time of a process of kproxy, user and system.",
    ),
    Metric(
        "kproxy_process_resident_memory_bytes",
        "gauge",
        ("process",),
        "Resident memory of a process of kproxy.",
    ),
)
