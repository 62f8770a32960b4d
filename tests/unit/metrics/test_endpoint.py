"""GET /metrics, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from kproxy.metrics.catalog import Measured
from kproxy.metrics.endpoint import MOST_CONNECTIONS, MetricsPort
from tests.unit.control.support import Log
from tests.unit.http.memory import Message, Wire, get, read_message
from tests.unit.upstream.support import in_thread_of, one_message


class Listening:
    """A `kproxy.network.Network` that hands out what it is given."""

    def __init__(self) -> None:
        self.factory: Any = None
        self.state = "accepting"

    def listen(self, sock: Any, factory: Any) -> Any:
        self.factory = factory
        return self

    def pause(self) -> None:
        self.state = "paused"

    def resume(self) -> None:
        self.state = "accepting"

    def close(self) -> None:
        self.state = "closed"


class Bound:
    """A socket, as far as it is looked at."""

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.1", 9394)


class Port:
    def __init__(self, measure: Any) -> None:
        self.clock = Clock()
        self.network = Listening()
        self.port = MetricsPort([Bound()], measure, self.clock, in_thread_of(self.clock))  # type: ignore[list-item]
        self.port.start(self.network)  # type: ignore[arg-type]

    def client(self) -> Wire:
        return Wire(self.clock).attach(self.network.factory())

    def ask(self, request: bytes = get(b"/metrics"), *, bodiless: bool = False) -> Message:
        client = self.client()
        client.send(request)
        return one_message(client, bodiless=bodiless)


def seven() -> Deferred[Measured]:
    return succeed({"kproxy_client_connections": [((), [7.0])]})


def test_the_metrics_are_there() -> None:
    message = Port(seven).ask()
    assert message.status == 200
    assert message.get(b"content-type") == [b"text/plain; version=0.0.4; charset=utf-8"]
    assert b"\nkproxy_client_connections 7.0\n" in message.body


def test_head_has_no_body() -> None:
    request = get(b"/metrics").replace(b"GET", b"HEAD")
    message = Port(seven).ask(request, bodiless=True)
    assert message.status == 200
    assert int(message.get(b"content-length")[0]) > 100


@pytest.mark.parametrize("path", [b"/", b"/metricsx", b"/metrics.txt", b"/x/metrics"])
def test_nothing_else_is_there(path: bytes) -> None:
    assert Port(seven).ask(get(path)).status == 404


def test_metrics_can_only_be_got() -> None:
    request = get(b"/metrics").replace(b"GET", b"DELETE")
    message = Port(seven).ask(request)
    assert message.status == 405
    assert {each.strip() for each in message.get(b"allow")[0].split(b",")} == {b"GET", b"HEAD"}


def test_what_is_no_request_is_400() -> None:
    client = Port(seven).client()
    client.send(b"nonsense\r\n\r\n")
    assert read_message(client.take())[0].status == 400


def test_who_asks_meanwhile_gets_the_same_answer() -> None:
    measured: list[Deferred[Measured]] = []

    def measure() -> Deferred[Measured]:
        measured.append(Deferred())
        return measured[-1]

    port = Port(measure)
    clients = [port.client() for _ in range(3)]
    for client in clients:
        client.send(get(b"/metrics"))
    clients[1].send_eof()
    measured[0].callback({})
    port.clock.advance(0)
    assert one_message(clients[0]).body == one_message(clients[2]).body
    assert clients[1].take() == b""
    assert len(measured) == 1
    clients[0].send(get(b"/metrics"))
    assert len(measured) == 2


def test_what_goes_wrong_is_500_and_in_the_log_and_not_for_ever() -> None:
    results = [fail(ValueError("no")), seven()]
    port = Port(lambda: results.pop(0))
    with Log(LogLevel.critical) as log:
        assert port.ask().status == 500
    assert [text for text in log.texts if "metrics" in text]
    assert port.ask().status == 200


def test_more_connections_than_anybody_needs_wait() -> None:
    port = Port(seven)
    clients = [port.client() for _ in range(MOST_CONNECTIONS - 1)]
    assert port.network.state == "accepting"
    last = port.client()
    assert port.network.state == "paused"
    clients[0].send_eof()
    port.clock.advance(0)
    assert port.network.state == "accepting"
    last.send(get(b"/metrics"))
    assert one_message(last).status == 200


def test_in_the_end_nobody_is_left() -> None:
    port = Port(seven)
    client = port.client()
    port.port.stop()
    port.clock.advance(0)
    assert port.network.state == "closed"
    assert client.lost is not None
    assert port.clock.getDelayedCalls() == []


def test_it_is_busy_while_somebody_waits_for_an_answer() -> None:
    measured: Deferred[Measured] = Deferred()
    port = Port(lambda: measured)
    assert not port.port.busy()
    client = port.client()
    client.send(get(b"/metrics"))
    assert port.port.busy()
    measured.callback({})
    port.clock.pump([0, 0])
    assert one_message(client).status == 200
    assert not port.port.busy()
