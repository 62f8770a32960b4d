"""What a data plane counts of requests that it really serves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock

from kproxy.config.model import Buffering, Service, Target
from kproxy.dataplane import DataPlane
from kproxy.http.site import Site
from kproxy.metrics.counts import Counts
from kproxy.plugins import find_wrappers
from kproxy.snapshot import ServiceState, Snapshot, TLSName
from kproxy.wrappers.metrics import Metrics
from tests.unit.http.http2_client import Client, posting
from tests.unit.http.memory import Message, Wire, get, post
from tests.unit.tls.support import TLSClient, issue
from tests.unit.upstream.support import MemoryNetwork, answer, in_thread_of, one_message

PLUGINS = find_wrappers()
REQUESTS = "kamal_proxy_http_requests_total"
DURATIONS = "kamal_proxy_http_request_duration_seconds"
IN_FLIGHT = "kamal_proxy_http_in_flight_requests"
CONNECTS = "kproxy_upstream_connect_duration_seconds"
FAILURES = "kproxy_upstream_connect_failures_total"
RESPONSES = "kproxy_upstream_response_duration_seconds"
POOL = "kproxy_upstream_connections"
A, B = Target("a", 1), Target("b", 1)


def service(*targets: Target, **options: Any) -> Service:
    options.setdefault("buffering", Buffering(requests=False, responses=False))
    return Service("app", targets or (A,), hosts=("app.example",), **options)


class Plane:
    """A data plane that counts, and whose targets are the test's."""

    def __init__(self, *services: Service, counts: Counts | None = None) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.plane = DataPlane(
            self.network,
            self.clock,
            in_thread_of(self.clock),
            PLUGINS,
            lambda line: None,
            counts=counts or Counts(),
        )
        self.apply(*services)

    def apply(self, *services: Service, **options: Any) -> None:
        self.plane.apply(Snapshot(tuple(ServiceState(s, s.targets) for s in services), **options))

    def client(self) -> Wire:
        return Wire(self.clock).attach(self.plane.site.factory(secure=False)())

    def ask(self, text: bytes) -> Message:
        client = self.client()
        client.send(text)
        return one_message(client)

    def begin(self, text: bytes | None = None) -> tuple[Wire, Wire]:
        """A request that a target gets: the client's connection, and the target's."""
        client = self.client()
        client.send(text or get().replace(b"example.com", b"app.example"))
        return client, self.network.wires[-1]

    def __getitem__(self, name: str) -> dict[tuple[str, ...], list[float]]:
        return dict(self.plane.measure()[name])

    def histogram(self, name: str) -> tuple[float, float]:
        """How many observations there are of the service, and their sum."""
        *counts, total = self[name]["app",]
        return sum(counts), total


def test_a_data_plane_without_counts_has_no_wrapper_for_them_and_measures_nothing() -> None:
    def wrappers(site: Site) -> list[type]:
        found, resource = [], site.resource
        while resource is not None:
            found.append(type(resource))
            resource = getattr(resource, "wrapped", None)
        return found

    counting = Plane(service())
    assert Metrics in wrappers(counting.plane.site)
    clock = Clock()
    plane = DataPlane(MemoryNetwork(clock), clock, in_thread_of(clock), PLUGINS, lambda line: None)
    assert Metrics not in wrappers(plane.site)
    assert plane.measure() == {}


def test_requests_of_services_are_told_apart_from_those_for_none() -> None:
    plane = Plane(service())
    client, target = plane.begin()
    target.send(answer(b"hello", code=201))
    assert one_message(client).status == 201
    assert plane.ask(get()).status == 404
    assert plane[REQUESTS] == {("app", "GET", "201"): [1], ("", "GET", "404"): [1]}


def test_what_could_not_be_read_is_counted_too_and_makes_no_method() -> None:
    plane = Plane(service())
    client = plane.client()
    client.send(b"G@T / HTTP/1.1\r\n\r\n")
    assert one_message(client).status == 400
    assert plane[REQUESTS] == {("", "OTHER", "400"): [1]}


def test_the_proxys_own_answers_are_counted_by_their_status() -> None:
    plane = Plane(service())
    plane.network.refusing.add("a:1")
    assert plane.ask(get().replace(b"example.com", b"app.example")).status == 502
    assert plane[REQUESTS] == {("app", "GET", "502"): [1]}


def test_requests_are_in_flight_from_their_head_to_the_end_of_the_answer() -> None:
    plane = Plane(service())
    assert plane[IN_FLIGHT] == {("app",): [0]}
    _, target = plane.begin()
    plane.begin()
    assert plane[IN_FLIGHT] == {("app",): [2]}
    target.send(answer())
    assert plane[IN_FLIGHT] == {("app",): [1]}


def test_connecting_and_answering_are_timed_apart() -> None:
    plane = Plane(service())
    plane.network.silent.add("a:1")
    client = plane.client()
    client.send(get().replace(b"example.com", b"app.example"))
    plane.clock.advance(0.2)
    plane.network.attempts[0].succeed()
    plane.clock.advance(0.7)
    plane.network.wires[0].send(answer())
    assert plane.histogram(CONNECTS) == (1, pytest.approx(0.2))
    assert plane.histogram(RESPONSES) == (1, pytest.approx(0.7))


def test_a_connection_that_is_used_again_is_not_counted_as_a_new_one() -> None:
    plane = Plane(service())
    client, target = plane.begin()
    target.send(answer())
    client.take()
    client.send(get().replace(b"example.com", b"app.example"))
    target.send(answer())
    assert plane.histogram(CONNECTS)[0] == 1
    assert plane.histogram(RESPONSES)[0] == 2


def test_time_begins_when_the_whole_request_has_been_sent() -> None:
    plane = Plane(service())
    text = post(b"x" * 10).replace(b"example.com", b"app.example")
    client, target = plane.begin(text[:-5])
    plane.clock.advance(3)
    client.send(text[-5:])
    plane.clock.advance(0.3)
    target.send(answer())
    assert plane.histogram(RESPONSES) == (1, pytest.approx(0.3))


def test_no_answer_is_not_timed() -> None:
    plane = Plane(service(response_timeout=5))
    client, _ = plane.begin()
    plane.clock.advance(5)
    assert one_message(client).status == 504
    _, target = plane.begin()
    target.reset()
    assert plane.histogram(RESPONSES) == (0, 0)


def test_connections_that_fail_are_counted_each() -> None:
    plane = Plane(service(A, B))
    plane.network.refusing.update(("a:1", "b:1"))
    assert plane.ask(get().replace(b"example.com", b"app.example")).status == 502
    assert plane[FAILURES] == {("app",): [2]}
    assert plane.histogram(CONNECTS) == (0, 0)


def test_the_pool_of_each_target_is_shown_while_it_is_served() -> None:
    plane = Plane(service(A, B))
    _, target = plane.begin()
    plane.begin()
    target.send(answer())
    done = plane.network.addresses[0]
    assert plane[POOL] == {
        ("app", address, state): [count]
        for address in ("a:1", "b:1")
        for state, count in (("busy", address != done), ("idle", address == done))
    }
    plane.apply(service(A))
    assert set(plane[POOL]) == {("app", "a:1", "busy"), ("app", "a:1", "idle")}


def test_clients_connections_are_counted_while_they_are_open() -> None:
    plane = Plane(service())
    clients = [plane.client() for _ in range(3)]
    assert plane["kproxy_client_connections"] == {(): [3]}
    clients[0].send_eof()
    plane.clock.advance(0)
    assert plane["kproxy_client_connections"] == {(): [2]}


def test_counters_of_a_service_that_is_removed_and_comes_back_go_on() -> None:
    plane = Plane(service())
    _, target = plane.begin()
    target.send(answer())
    plane.apply()
    assert plane[REQUESTS] == {("app", "GET", "200"): [1]}
    assert plane[IN_FLIGHT] == {}
    plane.apply(service())
    _, target = plane.begin()
    target.send(answer())
    assert plane[REQUESTS] == {("app", "GET", "200"): [2]}


def test_excluded_paths_may_change_while_a_service_is_served() -> None:
    plane = Plane(service(exclude_metrics_paths=("/",)))
    _, target = plane.begin()
    target.send(answer())
    assert plane[REQUESTS] == {}
    plane.apply(service())
    _, target = plane.begin()
    target.send(answer())
    assert plane[REQUESTS] == {("app", "GET", "200"): [1]}


def test_tls_handshakes_are_counted_by_how_they_end() -> None:
    plane = Plane()
    names = (TLSName("app.example", issue("app.example")),)
    plane.apply(service(ssl=True), tls=names)

    def connect() -> Wire:
        return Wire(plane.clock).attach(plane.plane.tls.greet())

    TLSClient("app.example").talk(connect())
    TLSClient("other.example").talk(connect())
    connect().send(get())
    silent = connect()
    assert plane["kproxy_tls_handshakes_total"] == {("succeeded",): [1], ("failed",): [2]}
    plane.clock.advance(60)
    assert silent.lost is not None
    assert plane["kproxy_tls_handshakes_total"] == {("succeeded",): [1], ("failed",): [3]}


def test_requests_of_http2_are_counted_alike() -> None:
    plane = Plane(service(ssl=True))
    visitor = Client(Wire(plane.clock).attach(plane.plane.site.tls_factory("h2")()))
    begun = visitor.request(posting(authority=b"app.example"), end=False)
    visitor.data(begun, b"x" * 10)
    assert plane[IN_FLIGHT] == {("app",): [1]}
    visitor.data(begun, b"x" * 20, end=True)
    plane.network.wires[-1].send(answer(b"hello"))
    visitor.turn()
    assert visitor.answers[begun].body == b"hello"
    assert plane[REQUESTS] == {("app", "POST", "200"): [1]}
    assert plane["kproxy_http_request_body_bytes_total"] == {("app",): [30]}
    assert plane["kproxy_http_response_body_bytes_total"] == {("app",): [5]}
    assert plane[IN_FLIGHT] == {("app",): [0]}


def test_what_is_measured_survives_json() -> None:
    plane = Plane(service())
    _, target = plane.begin()
    target.send(answer())
    measured = plane.plane.measure()
    again = json.loads(json.dumps(measured))
    assert {
        name: [(tuple(labels), numbers) for labels, numbers in series]
        for name, series in again.items()
    } == measured
