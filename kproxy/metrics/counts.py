"""What one data plane counts: plain numbers in objects of its own, without locks.

A request only leaves a note of what it was (`Counts.ended`, `ServiceCounts.answers`). Counting is done
for some hundred notes at a time, which takes half of the time that counting each would take. What can
be told when somebody asks, such as how many requests are in flight, is not counted at all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from kproxy.metrics.catalog import BUCKETS, Measured, Series

if TYPE_CHECKING:
    from kproxy.upstream.pool import TargetPool

NO_SERVICE = ""
"""The service of requests that are for none, or could not be read; as kamal-proxy labels them."""
NOTES = 512
"""Requests whose notes wait to be counted."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE")
METHODS = {name.encode(): name for name in _METHODS}
OTHER = "OTHER"
"""Every other method: clients may make up as many as they like."""

Histogram = list[float]
"""As `kproxy.metrics.catalog.Series` has it: a count for each bucket, and the sum."""


def histogram() -> Histogram:
    """One in which nothing has been observed."""
    return [0] * (len(BUCKETS) + 2)


def observe(histogram: Histogram, seconds: float) -> None:
    """Count an observation."""
    histogram[bisect_left(BUCKETS, seconds)] += 1
    histogram[-1] += seconds


Ended = tuple[str, bytes, bytes, int, float, int, int]
"""The note of a request that has ended: service, method, path as the client sent it, status, seconds,
bytes of its body, bytes of the response's body. To make a NamedTuple would take a microsecond more."""


class ServiceCounts:
    """What is counted of one service.

    @ivar requests: durations by method and status.
    @ivar answers: seconds that targets took, not yet counted among `responses`.
    @ivar excluded: paths that are not counted, without percent-encoding.
    """

    __slots__ = (
        "answers",
        "connect_failures",
        "connects",
        "excluded",
        "received",
        "requests",
        "responses",
        "sent",
    )

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], Histogram] = {}
        self.received = 0
        self.sent = 0
        self.connects = histogram()
        self.connect_failures = 0
        self.responses = histogram()
        self.answers: list[float] = []
        self.excluded: frozenset[bytes] = frozenset()

    def exclude(self, paths: Iterable[str]) -> None:
        """Do not count requests for these, which are without percent-encoding."""
        self.excluded = frozenset(path.encode() for path in paths)

    def counts(self, path: bytes) -> bool:
        """Whether requests for a path, as clients send it, are counted."""
        return not self.excluded or unquote_to_bytes(path) not in self.excluded

    def settle(self) -> None:
        """Count what targets took."""
        answers, responses = self.answers, self.responses
        for seconds in answers:
            responses[bisect_left(BUCKETS, seconds)] += 1
        responses[-1] += sum(answers)
        answers.clear()


class Counts:
    """All that is counted in one process.

    @ivar ended: notes of requests; whoever adds one calls `settle` when there are `NOTES` of them.
    @ivar in_flight: requests that have not ended, by the request: when it began, its path, and its
        body as it came.
    """

    def __init__(self) -> None:
        # Services stay when they are removed, since counters never go down.
        self._services = {NO_SERVICE: ServiceCounts()}
        self.in_flight: dict[Any, tuple[float, bytes, Any]] = {}
        self.ended: list[Ended] = []
        self._handshakes = {"succeeded": 0, "failed": 0}

    def service(self, name: str) -> ServiceCounts:
        """What is counted of a service from now on, or has been since it was there first."""
        if name not in self._services:
            self._services[name] = ServiceCounts()
        return self._services[name]

    def handshake(self, succeeded: bool) -> None:
        """A TLS handshake has ended."""
        self._handshakes["succeeded" if succeeded else "failed"] += 1

    def settle(self) -> None:
        """Count what there are notes of."""
        notes = self.ended.copy()
        self.ended.clear()
        for name, method, path, status, seconds, received, sent in notes:
            counts = self._services.get(name)
            if counts is None:
                continue
            if counts.answers:
                counts.settle()
            if counts.excluded and not counts.counts(path):
                continue
            key = (METHODS.get(method, OTHER), status)
            durations = counts.requests.get(key)
            if durations is None:
                durations = counts.requests[key] = histogram()
            durations[bisect_left(BUCKETS, seconds)] += 1
            durations[-1] += seconds
            counts.received += received
            counts.sent += sent

    def measured(self, connections: int, pools: Mapping[str, Iterable[TargetPool]]) -> Measured:
        """Everything, as plain data.

        @param connections: how many clients have.
        @param pools: of each service that is served.
        """
        self.settle()
        for counts in self._services.values():
            counts.settle()
        named = {name: counts for name, counts in self._services.items() if name}
        requests: list[Series] = [
            ((service, method, str(status)), list(durations))
            for service, counts in self._services.items()
            for (method, status), durations in counts.requests.items()
        ]
        return {
            "kamal_proxy_http_requests_total": [
                (labels, [sum(durations[:-1])]) for labels, durations in requests
            ],
            "kamal_proxy_http_request_duration_seconds": requests,
            "kamal_proxy_http_in_flight_requests": [
                ((name,), [count]) for name, count in self._in_flight(pools).items()
            ],
            "kproxy_http_request_body_bytes_total": [
                ((name,), [counts.received]) for name, counts in named.items()
            ],
            "kproxy_http_response_body_bytes_total": [
                ((name,), [counts.sent]) for name, counts in named.items()
            ],
            "kproxy_upstream_connect_duration_seconds": [
                ((name,), list(counts.connects)) for name, counts in named.items()
            ],
            "kproxy_upstream_connect_failures_total": [
                ((name,), [counts.connect_failures]) for name, counts in named.items()
            ],
            "kproxy_upstream_response_duration_seconds": [
                ((name,), list(counts.responses)) for name, counts in named.items()
            ],
            "kproxy_upstream_connections": [
                ((name, pool.address, state), [count])
                for name, service in pools.items()
                for pool in service
                for state, count in (("busy", len(pool.active)), ("idle", pool.idle))
            ],
            "kproxy_client_connections": [((), [connections])],
            "kproxy_tls_handshakes_total": [
                ((result,), [count]) for result, count in self._handshakes.items()
            ],
        }

    def _in_flight(self, served: Iterable[str]) -> Mapping[str, int]:
        """How many requests each service has; those that are excluded, or for none, are not there."""
        found = Counter(dict.fromkeys(served, 0))
        for request, (_, path, _) in self.in_flight.items():
            name = request.notes.get("service")
            counts = self._services.get(name)
            if name and counts is not None and counts.counts(path):
                found[name] += 1
        return found
