"""Pause, stop and resume (behaviour.md section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from kproxy.wrappers.error_pages import ErrorPages
from kproxy.wrappers.gate import Gate, GateControl, Options
from tests.unit.wrappers.support import Echo, Held, Says, Serve, echoed, get, post


@pytest.fixture
def control(clock: Clock) -> GateControl:
    return GateControl(clock)


def gate(control: GateControl, leaf: Resource, *health_paths: str) -> Gate:
    return Gate(leaf, Options(health_paths=health_paths or ("/up",), control=control))


def test_a_running_service_is_passed_all_requests(serve: Serve, control: GateControl) -> None:
    site = serve(gate(control, Echo()))
    assert echoed(site.ask(get("/up")))["path"] == "/up"
    assert echoed(site.ask(get("/x")))["path"] == "/x"


def test_a_paused_service_holds_requests_until_it_runs_again(
    serve: Serve, control: GateControl
) -> None:
    inside = Echo()
    client = serve(gate(control, inside)).connect()
    control.pause(30)
    client.send(post(b"body", "/x"))
    assert client.received == b""
    assert inside.requests == []
    control.run()
    told = echoed(client.response())
    assert told["path"] == "/x"
    assert told["body"] == "body"


def test_requests_go_on_in_the_order_in_which_they_came(serve: Serve, control: GateControl) -> None:
    inside = Echo()
    site = serve(gate(control, inside))
    control.pause(30)
    clients = [site.connect() for _ in range(5)]
    for number, client in enumerate(clients):
        client.send(get(f"/{number}"))
    control.run()
    assert [request.path for request in inside.requests] == [b"/0", b"/1", b"/2", b"/3", b"/4"]


def test_a_pause_that_outlasts_its_limit_is_a_504(
    serve: Serve, clock: Clock, control: GateControl
) -> None:
    client = serve(ErrorPages(gate(control, Echo()))).connect()
    control.pause(10)
    clock.advance(5)
    client.send(get())
    clock.advance(9.9)
    assert client.received == b""
    clock.advance(0.2)
    response = client.response()
    assert response.code == 504
    assert b"504 Gateway" in response.body
    control.run()
    assert len(client.responses()) == 1


def test_each_request_is_held_for_the_whole_limit_of_its_own(
    serve: Serve, clock: Clock, control: GateControl
) -> None:
    site = serve(gate(control, Says(b"ok")))
    control.pause(10)
    first, second = site.connect(), site.connect()
    first.send(get())
    clock.advance(6)
    second.send(get())
    clock.advance(6)
    assert first.response().code == 504
    control.run()
    assert second.response().code == 200


def test_a_client_that_leaves_is_held_no_longer(
    serve: Serve, clock: Clock, control: GateControl
) -> None:
    inside = Echo()
    client = serve(gate(control, inside)).connect()
    control.pause(10)
    client.send(get())
    assert len(control.waiting) == 1
    client.leave()
    assert len(control.waiting) == 0
    control.run()
    clock.advance(20)
    assert inside.requests == []


def test_a_stopped_service_answers_503_with_its_message(serve: Serve, control: GateControl) -> None:
    inside = Echo()
    site = serve(ErrorPages(gate(control, inside)))
    control.stop("Back at <noon>")
    response = site.ask()
    assert response.code == 503
    assert b"Back at &lt;noon&gt;" in response.body
    assert inside.requests == []


def test_stopping_a_paused_service_answers_those_that_were_held(
    serve: Serve, clock: Clock, control: GateControl
) -> None:
    client = serve(ErrorPages(gate(control, Echo()))).connect()
    control.pause(10)
    client.send(get())
    control.stop("later")
    assert client.response().code == 503
    assert b"later" in client.response().body
    clock.advance(20)
    assert len(client.responses()) == 1


def test_a_stopped_service_runs_again_for_new_requests(serve: Serve, control: GateControl) -> None:
    site = serve(gate(control, Says(b"ok")))
    control.stop("")
    assert site.ask().code == 503
    control.run()
    assert site.ask().code == 200


@pytest.mark.parametrize("state", ["paused", "stopped"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_health_check_path_answers_200_all_the_while(
    serve: Serve, control: GateControl, state: str, method: str
) -> None:
    inside = Echo()
    site = serve(gate(control, inside, "/up", "/api/up"))
    control.pause(10) if state == "paused" else control.stop("")
    for path in ("/up", "/api/up", "/up?from=lb"):
        assert site.ask(get(path, method=method)).code == 200
    assert inside.requests == []


@pytest.mark.parametrize("path", ["/up/", "/upper", "/x/up"])
def test_only_the_health_check_path_itself_does(
    serve: Serve, control: GateControl, path: str
) -> None:
    control.stop("")
    assert serve(gate(control, Echo())).ask(get(path)).code == 503


def test_a_post_to_the_health_check_path_is_no_health_check(
    serve: Serve, control: GateControl
) -> None:
    control.stop("")
    assert serve(gate(control, Echo())).ask(post(b"x", "/up")).code == 503


def raises() -> bytes:
    raise ZeroDivisionError


@pytest.mark.parametrize("answer", [raises, lambda: None], ids=["fails", "gives no answer"])
def test_a_resource_that_fails_after_a_pause_is_a_500_for_its_own_request_only(
    serve: Serve, control: GateControl, answer: Callable[[], bytes | None]
) -> None:
    class Broken(Resource):
        isLeaf = True

        def render(self, request: Any) -> bytes | None:
            return answer() if request.path == b"/bad" else b"fine"

    site = serve(gate(control, Broken()))
    control.pause(10)
    bad, good = site.connect(), site.connect()
    bad.send(get("/bad"))
    good.send(get("/good"))
    control.run()
    assert bad.response().code == 500
    assert good.response().body == b"fine"


def test_a_held_head_request_gets_no_body(serve: Serve, control: GateControl) -> None:
    client = serve(gate(control, Says(b"four"))).connect()
    control.pause(10)
    client.send(get(method="HEAD"))
    control.run()
    assert client.response().header(b"content-length") == b"4"
    assert client.received.endswith(b"\r\n\r\n")


def test_a_response_may_take_its_time_after_a_pause(
    serve: Serve, clock: Clock, control: GateControl
) -> None:
    leaf = Held()
    client = serve(gate(control, leaf)).connect()
    control.pause(10)
    client.send(get())
    control.run()
    clock.advance(30)
    leaf.request.write(b"late")
    leaf.request.finish()
    assert client.response().body == b"late"


def test_without_a_control_the_state_of_the_options_stays(serve: Serve) -> None:
    stopped = serve(Gate(Echo(), Options(state="stopped", message="closed for good"))).ask()
    assert stopped.code == 503
    assert serve(Gate(Says(b"ok"), Options())).ask().code == 200
