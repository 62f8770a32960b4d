"""Requests are counted when they end, and only then."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.web.resource import IResource

from kproxy.metrics.counts import Counts
from kproxy.wrappers import request_buffer
from kproxy.wrappers.base import Wrapper
from kproxy.wrappers.metrics import Metrics, Options
from tests.unit.wrappers.support import Held, Says, Serve, Threads, chunked, get, post

REQUESTS = "kamal_proxy_http_requests_total"
DURATIONS = "kamal_proxy_http_request_duration_seconds"
IN_FLIGHT = "kamal_proxy_http_in_flight_requests"
RECEIVED = "kproxy_http_request_body_bytes_total"
SENT = "kproxy_http_response_body_bytes_total"


class ForApp(Wrapper):
    """What a router does: it says which service a request is for."""

    def render(self, request: Any) -> Any:
        request.notes["service"] = "app"
        return super().render(request)


class Counted:
    """A resource whose requests are counted, as those of the service `app`."""

    def __init__(self, serve: Serve, leaf: IResource, *excluded: str) -> None:
        self.counts = Counts()
        self.counts.service("app").exclude(excluded)
        self.site = serve(Metrics(ForApp(leaf), Options(self.counts)))

    def __getitem__(self, name: str) -> dict[tuple[str, ...], list[float]]:
        return dict(self.counts.measured(0, {})[name])


def test_a_request_is_counted_by_service_method_and_status(serve: Serve) -> None:
    counted = Counted(serve, Says(b"hello", code=418))
    for method in ("GET", "GET", "PUT"):
        counted.site.ask(get(method=method))
    assert counted[REQUESTS] == {("app", "GET", "418"): [2], ("app", "PUT", "418"): [1]}


def test_methods_that_clients_make_up_are_one(serve: Serve) -> None:
    counted = Counted(serve, Says(b"hello"))
    for method in ("FOO", "BAR", "get"):
        counted.site.connect().send(get(method=method))
    assert counted[REQUESTS] == {("app", "OTHER", "200"): [3]}


def test_the_duration_is_that_from_the_head_to_the_end_of_the_response(serve: Serve) -> None:
    leaf = Held()
    counted = Counted(serve, leaf)
    client = counted.site.connect()
    client.send(get())
    leaf.request.write(b"begun")
    assert counted[DURATIONS] == {}
    leaf.request.began -= 700 * 10**9  # so long ago
    leaf.request.finish()
    ((labels, (*buckets, total)),) = counted[DURATIONS].items()
    assert labels == ("app", "GET", "200")
    assert buckets == [*[0] * 11, 1]
    assert 700 <= total < 1300


def test_a_request_is_in_flight_until_it_ends(serve: Serve) -> None:
    leaf = Held()
    counted = Counted(serve, leaf)
    client = counted.site.connect()
    client.send(get())
    assert counted[IN_FLIGHT] == {("app",): [1]}
    assert counted[REQUESTS] == {}
    leaf.request.finish()
    assert counted[IN_FLIGHT] == {}
    assert counted[REQUESTS] == {("app", "GET", "200"): [1]}


def test_a_client_that_leaves_before_it_has_an_answer_is_counted_as_499(serve: Serve) -> None:
    counted = Counted(serve, Held())
    client = counted.site.connect()
    client.send(get())
    client.leave()
    assert counted[REQUESTS] == {("app", "GET", "499"): [1]}
    assert counted[IN_FLIGHT] == {}


def test_a_client_that_leaves_in_the_middle_of_its_answer_has_the_status_of_that(
    serve: Serve,
) -> None:
    leaf = Held()
    counted = Counted(serve, leaf)
    client = counted.site.connect()
    client.send(get())
    leaf.request.write(b"begun")
    client.leave()
    assert counted[REQUESTS] == {("app", "GET", "200"): [1]}


def test_a_request_for_no_service_has_an_empty_name_and_is_not_in_flight(serve: Serve) -> None:
    counts = Counts()
    leaf = Held()
    client = serve(Metrics(leaf, Options(counts))).connect()
    client.send(get())
    assert counts.measured(0, {})[IN_FLIGHT] == []
    leaf.request.finish()
    assert counts.measured(0, {})[REQUESTS] == [(("", "GET", "200"), [1])]


@pytest.mark.parametrize("path", ["/up", "/up?deep=1", "/%75p"])
def test_excluded_paths_are_not_counted(serve: Serve, path: str) -> None:
    leaf = Held()
    counted = Counted(serve, leaf, "/up", "/health")
    client = counted.site.connect()
    client.send(get(path))
    assert counted[IN_FLIGHT] == {}
    leaf.request.finish()
    assert counted[REQUESTS] == counted[DURATIONS] == {}


@pytest.mark.parametrize("path", ["/upper", "/up/", "/x/up", "/UP"])
def test_only_the_very_path_is_excluded(serve: Serve, path: str) -> None:
    counted = Counted(serve, Says(b"x"), "/up")
    counted.site.ask(get(path))
    assert counted[REQUESTS] == {("app", "GET", "200"): [1]}


def test_a_path_that_a_wrapper_changes_is_excluded_by_what_the_client_sent(serve: Serve) -> None:
    class Strips(Wrapper):
        def render(self, request: Any) -> Any:
            request.path = b"/up"
            return super().render(request)

    counted = Counted(serve, Strips(Says(b"x")), "/up")
    counted.site.ask(get("/api/up"))
    assert counted[REQUESTS] == {("app", "GET", "200"): [1]}


def test_bytes_of_bodies_are_counted(serve: Serve) -> None:
    counted = Counted(serve, Says(b"12345", b"678"))
    counted.site.ask(post(b"x" * 100))
    counted.site.ask(get())
    assert counted[RECEIVED] == {("app",): [100]}
    assert counted[SENT] == {("app",): [16]}


def test_a_body_of_unknown_length_is_counted_as_it_came(serve: Serve) -> None:
    options = request_buffer.Options(Threads())
    counted = Counted(serve, request_buffer.RequestBuffer(Says(b"x"), options))
    counted.site.ask(chunked(b"four", b"eleven more"))
    assert counted[RECEIVED] == {("app",): [15]}


def test_of_a_body_that_was_not_sent_whole_what_came_is_counted(serve: Serve) -> None:
    counted = Counted(serve, Held())
    if not counted.site.native:
        pytest.skip("a stock Site renders whole requests only")
    client = counted.site.connect()
    client.send(post(b"x" * 100)[:-60])
    client.leave()
    assert counted[RECEIVED] == {("app",): [40]}
    assert counted[REQUESTS] == {("app", "POST", "499"): [1]}
