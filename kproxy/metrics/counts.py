"""What one data plane counts: plain numbers in objects of its own, without locks.

The compiled build makes C structures of the classes here (`counts.pxd`): each request passes through
three of them. What can be told when somebody asks, such as how many connections are idle, is not counted
at all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure

from kproxy.errors import CLIENT_CLOSED_REQUEST
from kproxy.http.bodies import NO_BODY
from kproxy.http.lifecycle import Lifecycle
from kproxy.metrics.catalog import BUCKETS, Measured, Series

if TYPE_CHECKING:
    from kproxy.upstream.pool import TargetPool

NO_SERVICE = ""
"""The service of requests that are for none, or could not be read; as kamal-proxy labels them."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE")
METHODS = {name.encode(): name for name in _METHODS}
OTHER = "OTHER"
"""Every other method: clients may make up as many as they like."""
_FIRST = BUCKETS[0]


class Histogram:
    """How many observations there were in each bucket, and the sum of all."""

    __slots__ = ("_buckets", "_total")

    def __init__(self) -> None:
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        """Count an observation."""
        # Most are small, and to compare is less than to call.
        bucket = 0 if seconds <= _FIRST else bisect_left(BUCKETS, seconds)
        self._buckets[bucket] += 1
        self._total += seconds

    def count(self) -> int:
        """How many observations there were."""
        return sum(self._buckets)

    def numbers(self) -> list[float]:
        """As `kproxy.metrics.catalog.Series` has them."""
        return [*self._buckets, self._total]


class ServiceCounts:
    """What is counted of one service.

    @ivar connects: seconds until a new connection to a target stood.
    @ivar responses: seconds that targets took to answer.
    @ivar durations: of requests, by method and status.
    @ivar received: bytes of requests' bodies.
    @ivar sent: bytes of responses' bodies.
    """

    __slots__ = (
        "_excluded",
        "connect_failures",
        "connects",
        "durations",
        "received",
        "responses",
        "sent",
    )

    def __init__(self) -> None:
        self.durations: dict[bytes, dict[int, Histogram]] = {}
        self.received = 0
        self.sent = 0
        self.connects = Histogram()
        self.connect_failures = 0
        self.responses = Histogram()
        self._excluded: frozenset[bytes] = frozenset()

    def exclude(self, paths: Iterable[str]) -> None:
        """Do not count requests for these, which are without percent-encoding."""
        self._excluded = frozenset(path.encode() for path in paths)

    def counts(self, path: bytes) -> bool:
        """Whether requests for a path, as clients send it, are counted."""
        return not self._excluded or unquote_to_bytes(path) not in self._excluded

    def ended(self, method: bytes, status: int, seconds: float) -> None:
        """A request has ended."""
        by_status = self.durations.get(method)
        if by_status is None:
            known = method if method in METHODS else OTHER.encode()
            by_status = self.durations.setdefault(known, {})
        durations = by_status.get(status)
        if durations is None:
            durations = by_status[status] = Histogram()
        durations.observe(seconds)


class Counts:
    """All that is counted in one process."""

    __slots__ = ("_end", "_handshakes", "_ongoing", "_services")

    def __init__(self) -> None:
        # Services stay when they are removed, since counters never go down.
        self._services = {NO_SERVICE: ServiceCounts()}
        self._handshakes = {"succeeded": 0, "failed": 0}
        self._end = self.end  # made once, not for each request
        # Requests that have not ended: the path of each, and its body.
        self._ongoing: dict[Any, tuple[bytes, Any]] = {}

    def service(self, name: str) -> ServiceCounts:
        """What is counted of a service from now on, or has been since it was there first."""
        if name not in self._services:
            self._services[name] = ServiceCounts()
        return self._services[name]

    def find(self, name: object) -> ServiceCounts | None:
        """The same, of a service that there is, or has been."""
        return self._services.get(name)  # type: ignore[call-overload, no-any-return]

    def begin(self, request: Any) -> None:
        """A request has come, an `IStreamingRequest`: count it when it ends."""
        # As the client sent them, since wrappers may put others in their place.
        if isinstance(request, Lifecycle):
            own: Lifecycle = request
            self._ongoing[own] = own.path, own.body
            own.on_finish(self._end)
        else:
            self._ongoing[request] = request.path, request.body
            request.on_finish(self._end)

    def end(self, request: Any, failure: Failure | None) -> None:
        """It has ended; see `kproxy.interfaces.IStreamingRequest.on_finish`."""
        path, body = self._ongoing.pop(request)
        if isinstance(request, Lifecycle):
            own: Lifecycle = request
            notes, method, status = own.notes, own.method, own.code
            took, sent = own.took, own.sentLength
        else:
            notes, method, status = request.notes, request.method, request.code
            took, sent = request.took, request.sentLength
        counts = self.find(notes.get("service", NO_SERVICE))
        if counts is None or not counts.counts(path):
            return
        if failure is not None and not request.begun():
            status = CLIENT_CLOSED_REQUEST
        counts.ended(method, status, took / 1e9)
        if body is not NO_BODY:
            counts.received += getattr(body, "received", body.length)
        counts.sent += sent

    def handshake(self, succeeded: bool) -> None:
        """A TLS handshake has ended."""
        self._handshakes["succeeded" if succeeded else "failed"] += 1

    def measured(self, connections: int, pools: Mapping[str, Iterable[TargetPool]]) -> Measured:
        """Everything, as plain data.

        @param connections: how many clients have.
        @param pools: of each service that is served.
        """
        named = {name: counts for name, counts in self._services.items() if name}
        requests: list[tuple[tuple[str, ...], Histogram]] = [
            ((service, METHODS.get(method, OTHER), str(status)), durations)
            for service, counts in self._services.items()
            for method, by_status in counts.durations.items()
            for status, durations in by_status.items()
        ]
        durations: list[Series] = [(labels, each.numbers()) for labels, each in requests]
        return {
            "kamal_proxy_http_requests_total": [
                (labels, [durations.count()]) for labels, durations in requests
            ],
            "kamal_proxy_http_request_duration_seconds": durations,
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
                ((name,), counts.connects.numbers()) for name, counts in named.items()
            ],
            "kproxy_upstream_connect_failures_total": [
                ((name,), [counts.connect_failures]) for name, counts in named.items()
            ],
            "kproxy_upstream_response_duration_seconds": [
                ((name,), counts.responses.numbers()) for name, counts in named.items()
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
        for request, (path, _) in self._ongoing.items():
            name = request.notes.get("service", NO_SERVICE)
            counts = self.find(name)
            if name and counts is not None and counts.counts(path):
                found[name] += 1
        return found
