"""The data plane: serves what snapshots say, from the next request on."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from kproxy.config.model import Buffering, Logging, Service, Target, WrapperUse
from kproxy.dataplane import DataPlane, TargetReport
from kproxy.plugins import find_wrappers
from kproxy.snapshot import HTTPChallenge, ServiceState, Snapshot, TLSName
from kproxy.tree import WrapperFailed
from tests.unit.http.memory import Message, Wire, get, post, read_message, read_messages
from tests.unit.tls.support import TLSClient, issue
from tests.unit.upstream.support import MemoryNetwork, answer, in_thread_of, one_message

PLUGINS = find_wrappers()
STREAMING = Buffering(requests=False, responses=False)
A, B, C = Target("a", 1), Target("b", 1), Target("c", 1)


def service(name: str = "app", *targets: Target, **options: Any) -> Service:
    return Service(name, targets or (A,), **{"buffering": STREAMING, **options})


def up(service: Service, **options: Any) -> ServiceState:
    """A service all of whose targets are healthy."""
    return ServiceState(service, service.targets, **options)


class Plane:
    """A data plane whose targets are the test's."""

    def __init__(self, *services: Service) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.lines: list[str] = []
        self.plane = DataPlane(
            self.network, self.clock, in_thread_of(self.clock), PLUGINS, self.lines.append
        )
        self.apply(*map(up, services))

    def apply(self, *states: ServiceState) -> None:
        self.plane.apply(Snapshot(states))

    def client(self) -> Wire:
        return Wire(self.clock).attach(self.plane.site.factory(secure=False)())

    def ask(self, text: bytes) -> Message:
        """One request that the proxy answers by itself."""
        client = self.client()
        client.send(text)
        return one_message(client)

    def begin(self, text: bytes = get()) -> tuple[Wire, Wire]:
        """One request that a target gets: the client's connection, and the target's."""
        client = self.client()
        client.send(text)
        return client, self.network.wires[-1]

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def host(name: str, path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()


# What is served.


def test_requests_go_to_the_service_of_their_host_and_path() -> None:
    plane = Plane(
        service("one", A, hosts=("one.example",)),
        service("two", B, hosts=("two.example", "*.two.example")),
        service("api", C, hosts=("two.example",), path_prefixes=("/api",)),
    )
    for text, target, path in (
        (host("one.example"), "a:1", b"/"),
        (host("TWO.example:80"), "b:1", b"/"),
        (host("x.two.example", "/api/y"), "b:1", b"/api/y"),
        (host("two.example", "/api/y?z"), "c:1", b"/y?z"),
    ):
        client, wire = plane.begin(text)
        message = one_message(wire)
        assert message.get(b"x-kamal-target") == [target.encode()]
        assert message.start.split()[1] == path
        wire.send(answer(b"x", b"Connection: close"))
        assert one_message(client).body == b"x"
    assert plane.ask(host("three.example")).status == 404
    assert [line["service"] for line in plane.logged] == ["one", "two", "two", "api", ""]


def test_a_service_without_a_healthy_target_is_503() -> None:
    plane = Plane()
    plane.apply(ServiceState(service()))
    message = plane.ask(get())
    assert message.status == 503
    assert message.get(b"content-type") == [b"text/html; charset=utf-8"]
    plane.apply(up(service()))
    client, target = plane.begin()
    target.send(answer())
    assert one_message(client).status == 200


def test_only_healthy_targets_get_requests() -> None:
    plane = Plane()
    several = service("app", A, B, C)
    plane.apply(ServiceState(several, (B,)))
    for _ in range(3):
        plane.begin()
    assert set(plane.network.addresses) == {"b:1"}
    plane.apply(ServiceState(several, (A, C)))
    for _ in range(4):
        plane.begin()
    assert sorted(plane.network.addresses[3:]) == ["a:1", "a:1", "c:1", "c:1"]


def test_a_path_that_two_services_could_claim_is_400() -> None:
    plane = Plane(service("root", A), service("api", B, path_prefixes=("/api",)))
    assert plane.ask(get(b"/%61pi/x")).status == 400
    assert plane.ask(get(b"/x/../api")).status == 400
    assert plane.network.attempts == []


def test_a_request_carries_what_the_target_should_know() -> None:
    plane = Plane(service())
    _, target = plane.begin(get(b"/", b"X-Forwarded-For: 10.0.0.1"))
    message = one_message(target)
    assert message.get(b"x-forwarded-for") == [b"10.0.0.1, 192.0.2.7"]
    assert message.get(b"x-forwarded-proto") == [b"http"]
    assert message.get(b"x-forwarded-host") == [b"example.com"]
    assert len(message.get(b"x-request-id")) == 1
    assert message.get(b"x-request-start")[0].startswith(b"t=")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (get(b"/", b"X : y"), 400),
        (get(b"/" + b"x" * 9000), 414),
        (get(b"/", b"X: " + b"x" * 70_000), 431),
        (get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"x\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
    ],
)
def test_refused_requests_get_a_page_and_a_line_in_the_log(text: bytes, status: int) -> None:
    plane = Plane(service())
    message = plane.ask(text)
    assert message.status == status
    assert message.get(b"content-type") == [b"text/html; charset=utf-8"]
    assert [line["status"] for line in plane.logged] == [status]
    assert plane.network.attempts == []


def test_a_target_that_fails_gets_a_page_and_a_line_in_the_log() -> None:
    plane = Plane(service())
    client, target = plane.begin()
    target.send_eof()
    message = one_message(client)
    assert message.status == 502
    assert message.body.startswith(b"<!DOCTYPE html>")
    (line,) = plane.logged
    assert (line["status"], line["service"], line["target"]) == (502, "app", "a:1")


def test_each_service_has_the_headers_in_the_log_that_it_asked_for() -> None:
    plane = Plane(
        service("one", A, hosts=("one",), logging=Logging(("X-A",), ("X-B",))),
        service("two", B, hosts=("two",)),
    )
    for name in ("one", "two"):
        client, target = plane.begin(
            f"GET / HTTP/1.1\r\nHost: {name}\r\nX-A: 1\r\nCache-Control: 2\r\n\r\n".encode()
        )
        target.send(answer(b"x", b"X-B: 3"))
        assert one_message(client).status == 200
    one, two = plane.logged
    assert (one.get("req_x_a"), one.get("resp_x_b"), one.get("req_cache_control")) == (
        "1",
        "3",
        None,
    )
    assert (two.get("req_x_a"), two.get("resp_x_b"), two.get("req_cache_control")) == (
        None,
        None,
        "2",
    )


# Changes.


def test_other_targets_get_the_next_request_and_the_old_ones_finish_theirs() -> None:
    plane = Plane(service("app", A))
    old_client, old = plane.begin()
    idle_client, idle = plane.begin()
    idle.send(answer())
    plane.apply(up(service("app", B)))
    idle.turn()
    assert idle.closed
    client, new = plane.begin()
    assert plane.network.addresses == ["a:1", "a:1", "b:1"]
    old.send(answer(b"old"))
    new.send(answer(b"new"))
    assert one_message(old_client).body == b"old"
    assert one_message(client).body == b"new"
    assert old.closed
    assert new.lost is None
    # A client's connection outlives the change.
    idle_client.take()
    idle_client.send(get())
    new.send(answer(b"new"))
    assert one_message(idle_client).body == b"new"


def test_a_request_that_is_still_being_buffered_goes_to_the_new_targets() -> None:
    for change in ({}, {"response_timeout": 5.0}):
        buffered = service("app", A, buffering=Buffering())
        plane = Plane(buffered)
        client = plane.client()
        client.send(post(b"hello")[:-1])
        plane.apply(up(replace(buffered, targets=(B,), **change)))
        client.send(b"o")
        assert plane.network.addresses == ["b:1"]
        assert one_message(plane.network.wires[0]).body == b"hello"


def test_a_connection_to_a_target_that_stays_is_used_again_after_a_change() -> None:
    plane = Plane(service("app", A, B))
    for _ in range(2):
        client, target = plane.begin()
        target.send(answer())
        assert one_message(client).status == 200
    assert sorted(plane.network.addresses) == ["a:1", "b:1"]
    plane.apply(up(service("app", B, C, response_timeout=5.0)))
    for _ in range(2):
        plane.begin()
    assert plane.network.addresses[2:] == ["c:1"]


def test_changed_options_hold_from_the_next_request_on() -> None:
    plane = Plane(service())
    before, _ = plane.begin()
    plane.apply(up(service(response_timeout=5.0, forward_headers=False)))
    after, target = plane.begin(get(b"/", b"X-Forwarded-For: 10.0.0.1"))
    assert one_message(target).get(b"x-forwarded-for") == [b"192.0.2.7"]
    plane.clock.advance(5)
    assert one_message(after).status == 504
    assert before.received == b""
    plane.clock.advance(25)
    assert one_message(before).status == 504


def test_changed_hosts_hold_from_the_next_request_on() -> None:
    plane = Plane(service("app", A, hosts=("old.example",)))
    plane.apply(up(service("app", A, hosts=("new.example",))))
    assert plane.ask(host("old.example")).status == 404
    client, target = plane.begin(host("new.example"))
    target.send(answer())
    assert one_message(client).status == 200


def test_a_service_that_is_gone_is_404_and_its_requests_finish() -> None:
    plane = Plane(service("one", A, hosts=("one",)), service("two", B, hosts=("two",)))
    client, target = plane.begin(host("one"))
    plane.apply(up(service("two", B, hosts=("two",))))
    assert plane.ask(host("one")).status == 404
    target.send(answer(b"finished"))
    assert one_message(client).body == b"finished"
    assert target.closed
    plane.begin(host("two"))
    assert plane.network.addresses == ["a:1", "b:1"]


def test_a_snapshot_that_can_not_be_served_changes_nothing() -> None:
    plane = Plane(service("one", A, hosts=("one",)))
    broken = service("two", B, hosts=("two",), wrappers=(WrapperUse("no-such-wrapper", None),))
    with pytest.raises(WrapperFailed, match=r"two.*no-such-wrapper"):
        plane.apply(up(service("one", C, hosts=("other",))), up(broken))
    assert plane.ask(host("other")).status == 404
    assert plane.ask(host("two")).status == 404
    plane.begin(host("one"))
    assert plane.network.addresses == ["a:1"]
    # The one that is not broken can still be had.
    plane.apply(up(service("one", C, hosts=("other",))))
    plane.begin(host("other"))
    assert plane.network.addresses == ["a:1", "c:1"]


def test_the_same_snapshot_again_touches_nothing() -> None:
    plane = Plane()
    snapshot = Snapshot((up(service()),))
    plane.plane.apply(snapshot)
    client, target = plane.begin()
    target.send(answer())
    for _ in range(3):
        plane.plane.apply(snapshot)
        plane.plane.apply(Snapshot((up(service()),)))
    client.take()
    client.send(get())
    target.send(answer(b"again"))
    assert one_message(client).body == b"again"
    assert len(plane.network.attempts) == 1


# The gate.


def test_a_paused_service_holds_requests_until_it_runs_again() -> None:
    plane = Plane(service())
    plane.apply(up(service(), gate="paused"))
    client = plane.client()
    client.send(get())
    assert plane.network.attempts == []
    plane.apply(up(service()))
    client.turn()
    plane.network.wires[0].send(answer(b"at last"))
    assert one_message(client).body == b"at last"


def test_a_paused_service_holds_requests_for_so_long() -> None:
    plane = Plane()
    plane.apply(up(service(), gate="paused", max_pause=5.0))
    client = plane.client()
    client.send(get())
    plane.clock.advance(5)
    assert one_message(client).status == 504


def test_a_stopped_service_says_so() -> None:
    plane = Plane()
    plane.apply(up(service(), gate="stopped", message="Back <soon>"))
    message = plane.ask(get())
    assert message.status == 503
    assert b"Back &lt;soon&gt;" in message.body
    assert plane.ask(get(b"/up")).status == 200


# Draining.


def gone(plane: Plane, timeout: float = 10.0) -> tuple[Deferred[None], list[float]]:
    """Replace target a by b, and drain a. When that is done is told in the list."""
    plane.apply(up(service("app", B)))
    done = plane.plane.drain("app", [A], timeout)
    times: list[float] = []
    done.addCallback(lambda _: times.append(plane.clock.seconds()))
    return done, times


def test_draining_targets_that_do_nothing_is_done_at_once() -> None:
    plane = Plane(service())
    _, target = plane.begin()
    target.send(answer())
    _, times = gone(plane)
    assert times == [0]
    assert plane.plane.drain("app", [C], 1.0).called
    assert plane.plane.drain("no such service", [A], 1.0).called


def test_draining_waits_for_the_last_request() -> None:
    plane = Plane(service())
    pairs = [plane.begin() for _ in range(3)]
    _, times = gone(plane)
    for client, target in pairs:
        assert times == []
        plane.clock.advance(1)
        target.send(answer())
        assert one_message(client).status == 200
    assert times == [3]
    plane.clock.advance(100)
    assert times == [3]


def test_what_is_not_done_in_time_is_cut() -> None:
    plane = Plane(service())
    waiting, silent = plane.begin()
    begun, half = plane.begin()
    half.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    _, times = gone(plane)
    plane.clock.advance(9.9)
    assert times == []
    plane.clock.advance(0.1)
    assert times == [10]
    assert one_message(waiting).status == 504
    begun.turn()
    assert begun.aborted
    assert silent.aborted
    assert half.aborted
    assert plane.plane.report() == {"app": [TargetReport("b:1", 0)]}


def test_a_request_that_waits_alone_is_cut_in_time_too() -> None:
    plane = Plane(service())
    client, target = plane.begin()
    _, times = gone(plane)
    plane.clock.advance(10)
    assert times == [10]
    assert one_message(client).status == 504
    target.turn()
    assert target.aborted


def test_requests_of_clients_that_leave_are_not_waited_for() -> None:
    plane = Plane(service())
    client, _ = plane.begin()
    _, times = gone(plane)
    client.reset()
    assert times == [0]


def test_a_request_that_goes_to_another_target_is_not_waited_for() -> None:
    plane = Plane(service())
    plane.network.silent.add("a:1")
    client = plane.client()
    client.send(get())
    _, times = gone(plane)
    plane.network.attempts[0].fail()
    client.turn()
    assert times == [0]
    plane.network.wires[0].send(answer(b"from b"))
    assert one_message(client).body == b"from b"


def test_tunnels_are_closed_at_once() -> None:
    plane = Plane(service())
    client, target = plane.begin(get(b"/", b"Connection: Upgrade", b"Upgrade: x"))
    target.send(b"HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    other, busy = plane.begin()
    _, times = gone(plane)
    client.turn()
    assert client.lost is not None
    assert target.lost is not None
    assert times == []
    busy.send(answer())
    assert one_message(other).status == 200
    assert times == [0]


def test_a_target_that_left_twice_is_drained_of_all_its_requests() -> None:
    plane = Plane(service())
    _, first = plane.begin()
    plane.apply(up(service("app", B)))
    plane.apply(up(service("app", A)))
    _, second = plane.begin()
    assert plane.network.addresses == ["a:1", "a:1"]
    _, times = gone(plane)
    first.send(answer())
    assert times == []
    second.send(answer())
    assert times == [0]


def test_a_target_that_is_still_served_is_drained_of_what_it_has_now() -> None:
    plane = Plane(service())
    client, target = plane.begin()
    plane.apply(up(service(), gate="paused"))
    times: list[float] = []
    plane.plane.drain("app", [A], 10.0).addCallback(lambda _: times.append(plane.clock.seconds()))
    held = plane.client()
    held.send(get())
    plane.clock.advance(1)
    assert times == []
    target.send(answer())
    assert one_message(client).status == 200
    assert times == [1]
    plane.apply(up(service()))
    plane.network.wires[-1].send(answer(b"later"))
    assert one_message(held).body == b"later"


def test_what_a_served_target_has_is_cut_in_time_and_its_tunnels_at_once() -> None:
    plane = Plane(service())
    client, target = plane.begin(get(b"/", b"Connection: Upgrade", b"Upgrade: x"))
    target.send(b"HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    waiting, _ = plane.begin()
    drained = plane.plane.drain("app", [A], 10.0)
    client.turn()
    assert client.lost is not None
    assert not drained.called
    plane.clock.advance(10)
    assert drained.called
    assert one_message(waiting).status == 504


def test_one_request_may_be_waited_for_by_several() -> None:
    plane = Plane(service())
    _, target = plane.begin()
    first = plane.plane.drain("app", [A], 10.0)
    second = plane.plane.drain("app", [A], 20.0)
    _, times = gone(plane)
    target.send(answer())
    assert first.called
    assert second.called
    assert times == [0]


def test_a_request_is_not_repeated_at_a_target_that_has_been_replaced() -> None:
    plane = Plane(service())
    client, target = plane.begin()
    target.send(answer())
    one_message(client)
    again, same = plane.begin()
    assert same is target
    plane.apply(up(service("app", B)))
    target.reset()
    again.turn()
    assert plane.network.addresses == ["a:1", "b:1"]
    plane.network.wires[-1].send(answer(b"from b"))
    assert one_message(again).body == b"from b"


# Looking at it, and the end.


def test_a_report_shows_targets_that_are_being_drained() -> None:
    plane = Plane(service())
    _, target = plane.begin()
    gone(plane)
    assert plane.plane.report() == {"app": [TargetReport("b:1", 0), TargetReport("a:1", 1, True)]}
    plane.apply()
    assert plane.plane.report() == {"app": [TargetReport("a:1", 1, True)]}
    target.send(answer())
    assert plane.plane.report() == {}


def test_a_report_says_what_targets_are_doing() -> None:
    plane = Plane(service("app", A), service("other", B, hosts=("other",)))
    plane.begin()
    _, target = plane.begin()
    assert plane.plane.report() == {
        "app": [TargetReport("a:1", 2)],
        "other": [TargetReport("b:1", 0)],
    }
    target.send(answer())
    assert plane.plane.report()["app"] == [TargetReport("a:1", 1)]


def test_a_stopped_plane_serves_nothing_and_closes_what_is_idle() -> None:
    plane = Plane(service())
    client, target = plane.begin()
    target.send(answer())
    client.reset()
    plane.plane.stop()
    target.turn()
    assert target.closed
    assert plane.plane.report() == {}


def test_requests_are_logged_once_each() -> None:
    plane = Plane(service())
    client, target = plane.begin(get() + get())
    target.send(answer())
    target.send(answer())
    assert len(read_messages(client.take())) == 2
    left, _ = plane.begin()
    left.reset()
    streamed, half = plane.begin()
    half.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    half.reset()
    streamed.turn()
    upgraded, tunnel = plane.begin(get(b"/", b"Connection: Upgrade", b"Upgrade: x"))
    tunnel.send(b"HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    assert read_message(upgraded.take())[0].status == 101
    upgraded.send_eof()
    tunnel.send_eof()
    assert [line["status"] for line in plane.logged] == [200, 200, 499, 200, 101]


# TLS.


def test_challenges_are_answered_before_it_matters_which_service_it_is_for() -> None:
    plane = Plane()
    paused = up(service(hosts=("app.example",), ssl=True), gate="paused")
    challenge = HTTPChallenge("token", "answer")
    plane.plane.apply(Snapshot((paused,), http_challenges=(challenge,)))
    for name in ("app.example", "other.example"):
        assert plane.ask(host(name, "/.well-known/acme-challenge/token")).body == b"answer"
    plane.apply(paused)
    assert plane.ask(host("other.example", "/.well-known/acme-challenge/token")).status == 404


def test_https_is_refused_for_a_service_without_ssl_and_plain_http_redirected_with() -> None:
    plane = Plane(
        service("plain", hosts=("plain.example",)), service("tls", hosts=("tls.example",), ssl=True)
    )
    client = Wire(plane.clock).attach(plane.plane.site.factory(secure=True)())
    client.send(host("plain.example"))
    assert one_message(client).status == 503
    message = plane.ask(host("tls.example", "/x?y"))
    assert message.status == 301
    assert message.get(b"location") == [b"https://tls.example/x?y"]


def test_a_handshake_asks_the_control_plane_for_the_certificate_it_lacks() -> None:
    plane = Plane()
    plane.plane.apply(Snapshot(tls=(TLSName("tls.example"),)))
    asked: list[str] = []

    def wanted(name: str) -> Deferred[None]:
        asked.append(name)
        plane.plane.apply(Snapshot(tls=(TLSName("tls.example", issue("tls.example")),)))
        return succeed(None)

    plane.plane.certificate_wanted = wanted
    client, wire = TLSClient("tls.example"), Wire(plane.clock).attach(plane.plane.tls.greet())
    client.talk(wire)
    client.say(host("tls.example"), wire)
    assert asked == ["tls.example"]
    assert read_message(client.received)[0].status == 404


def test_without_a_control_plane_nobody_gets_certificates() -> None:
    plane = Plane()
    plane.plane.apply(Snapshot(tls=(TLSName("tls.example"),)))
    client, wire = TLSClient("tls.example"), Wire(plane.clock).attach(plane.plane.tls.greet())
    client.talk(wire)
    assert client.alert is not None
    assert wire.closed
