"""The cases: what is asked of every proxy. A table, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bench.metrics import (
    CPU,
    ERRORS,
    HANDSHAKE_CPU,
    HANDSHAKES,
    IDLE_KB,
    MB_S,
    MEMORY_MB,
    P50,
    P99,
    RPS,
    STARTUP_MS,
    Metric,
)

LOAD_METRICS = (RPS, P50, P99, CPU, ERRORS)
HANDSHAKE_METRICS = (HANDSHAKES, HANDSHAKE_CPU)
HOSTS_UNDER_LOAD = 16


class Kind(Enum):
    """How a case is measured."""

    LOAD = "load"
    """wrk asks as fast as it can; the proxy keeps running between rounds."""
    HANDSHAKE = "handshake"
    """openssl makes one connection after the other, and asks nothing."""
    IDLE = "idle"
    """Memory of connections that do nothing; a fresh process each round."""
    STARTUP = "startup"
    """From the process's start to the first proxied 200; a fresh process each round."""


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the comparison."""

    name: str
    title: str
    kind: Kind = Kind.LOAD
    path: str = "/120b"
    connections: int = 32
    body_bytes: int = 0
    """Above 0: a POST with a body of that size."""
    close: bool = False
    """A new client connection for every request."""
    tls: bool = False
    """The client speaks HTTPS."""
    http2: bool = False
    """And HTTP/2."""
    resumed: bool = False
    """Handshakes resume the session of the first."""
    services: int = 1
    """How many services, of one host and one target each, the proxy is configured with."""
    buffering: bool | None = None
    """Whether bodies are collected before they are passed on; None: as the proxy is by default."""
    metrics: tuple[Metric, ...] = LOAD_METRICS
    headline: Metric = CPU
    """The metric whose ratios the table shows; less is better."""

    def host(self, index: int) -> str:
        """The host name of service number ``index``.

        Over TLS it is the one in the URL, since wrk takes the server name of the handshake from there.
        """
        return "localhost" if self.tls else f"s{index}.bench.test"

    @property
    def hosts(self) -> list[str]:
        """The host names of all services."""
        return [self.host(index) for index in range(self.services)]

    @property
    def hosts_under_load(self) -> list[str]:
        """A few hosts, spread evenly over all services, that requests go to in turn.

        Not all of them: with 10,000 this would time new upstream connections, not the routing.
        """
        step = max(1, self.services // HOSTS_UNDER_LOAD)
        return self.hosts[::step][:HOSTS_UNDER_LOAD]


CASES = (
    Case("get-120b", "120-byte GET, 32 keep-alive connections"),
    Case("get-100k", "100 KB responses, 32 keep-alive connections", path="/100k"),
    Case(
        "get-10m",
        "10 MB responses, 8 keep-alive connections",
        path="/10m",
        connections=8,
        metrics=(RPS, MB_S, P50, P99, CPU, ERRORS),
    ),
    Case(
        "post-100k-buffered",
        "100 KB POST, buffering on",
        path="/post",
        body_bytes=100 * 1024,
        buffering=True,
    ),
    Case(
        "post-100k-streamed",
        "100 KB POST, buffering off",
        path="/post",
        body_bytes=100 * 1024,
        buffering=False,
    ),
    Case("new-connection", "120-byte GET, a new connection per request", close=True),
    Case("services-1", "120-byte GET, 1 service"),
    Case("services-16", "120-byte GET to 16 services", services=16),
    Case("services-10000", "120-byte GET to 16 of 10,000 services", services=10_000),
    Case("https-120b", "120-byte GET over HTTPS, 32 keep-alive connections", tls=True),
    Case("https-100k", "100 KB responses over HTTPS, 32 connections", path="/100k", tls=True),
    Case(
        "http2-120b",
        "120-byte GET over HTTP/2, 32 connections",
        tls=True,
        http2=True,
        metrics=(RPS, CPU, ERRORS),
    ),
    Case(
        "handshake-full",
        "full TLS 1.3 handshakes",
        kind=Kind.HANDSHAKE,
        tls=True,
        metrics=HANDSHAKE_METRICS,
        headline=HANDSHAKE_CPU,
    ),
    Case(
        "handshake-resumed",
        "resumed TLS 1.2 handshakes",
        kind=Kind.HANDSHAKE,
        tls=True,
        resumed=True,
        metrics=HANDSHAKE_METRICS,
        headline=HANDSHAKE_CPU,
    ),
    Case(
        "idle-tls-1000",
        "1,000 idle TLS connections",
        kind=Kind.IDLE,
        connections=1000,
        tls=True,
        metrics=(IDLE_KB, MEMORY_MB),
        headline=IDLE_KB,
    ),
    Case(
        "idle-tls-100k",
        "1,000 idle TLS connections that have got 100 KB",
        kind=Kind.IDLE,
        path="/100k",
        connections=1000,
        tls=True,
        metrics=(IDLE_KB, MEMORY_MB),
        headline=IDLE_KB,
    ),
    Case(
        "idle-3000",
        "3,000 idle keep-alive connections",
        kind=Kind.IDLE,
        connections=3000,
        metrics=(IDLE_KB, MEMORY_MB),
        headline=IDLE_KB,
    ),
    Case(
        "startup",
        "from start to the first proxied 200",
        kind=Kind.STARTUP,
        metrics=(STARTUP_MS,),
        headline=STARTUP_MS,
    ),
)
