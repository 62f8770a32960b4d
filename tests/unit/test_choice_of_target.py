"""Rollouts and read targets: which target the data plane gives a request to."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from kproxy.config.model import Buffering, Target
from kproxy.snapshot import Rollout, ServiceState, Split
from tests.unit.http.memory import Wire, get, post
from tests.unit.test_dataplane import A, B, C, Plane, service, up
from tests.unit.upstream.support import answer, one_message

R, S = Target("r", 1), Target("s", 1)
VISITOR = b"Cookie: kamal-rollout=qa"
OTHER = b"Cookie: kamal-rollout=other"
WRITER = b"Cookie: kamal-writer=99999999999999"
FORMER_WRITER = b"Cookie: kamal-writer=1"
WEBSOCKET = (b"Connection: Upgrade", b"Upgrade: websocket")


def rollout(*targets: Target, **options: Any) -> Rollout:
    """A rollout for ``qa``, all of whose targets are healthy."""
    return Rollout(targets, **{"healthy": targets, "split": Split(0, ("qa",)), **options})


def readers(*targets: Target, **options: Any) -> ServiceState:
    """A service at A with these read targets; all are healthy."""
    return ServiceState(service("app", A, read_targets=targets, **options), (A, *targets))


def asked(plane: Plane, text: bytes) -> str:
    """Who gets a request."""
    client, target = plane.begin(text)
    (address,) = one_message(target).get(b"x-kamal-target")
    target.send(answer(b"x", b"Connection: close"))
    assert one_message(client).status == 200
    return address.decode()


def who(plane: Plane, text: bytes, times: int = 6) -> set[str]:
    """Who gets requests like this."""
    return {asked(plane, text) for _ in range(times)}


# Rollout.


def test_visitors_in_the_rollout_go_to_its_targets_and_all_others_do_not() -> None:
    plane = Plane()
    plane.apply(up(service("app", A), rollout=rollout(B, C)))
    assert who(plane, get(b"/", VISITOR)) == {"b:1", "c:1"}
    assert who(plane, get(b"/", OTHER)) == {"a:1"}
    assert who(plane, get()) == {"a:1"}
    assert who(plane, post(b"x", VISITOR)) == {"b:1", "c:1"}


def test_a_share_of_the_values_is_in_the_rollout() -> None:
    plane = Plane()
    plane.apply(up(service("app", A), rollout=rollout(B, split=Split(50))))
    told = [asked(plane, get(b"/", b"Cookie: kamal-rollout=%d" % n)) for n in range(40)]
    assert set(told) == {"a:1", "b:1"}
    assert told == [asked(plane, get(b"/", b"Cookie: kamal-rollout=%d" % n)) for n in range(40)]


def test_only_healthy_targets_of_the_rollout_get_requests() -> None:
    plane = Plane()
    plane.apply(up(service("app", A), rollout=rollout(B, C, healthy=(C,))))
    assert who(plane, get(b"/", VISITOR)) == {"c:1"}


def test_without_a_healthy_target_of_the_rollout_the_others_stand_in() -> None:
    plane = Plane()
    plane.apply(up(service("app", A), rollout=rollout(B, healthy=())))
    assert who(plane, get(b"/", VISITOR)) == {"a:1"}


def test_the_rollout_does_not_stand_in_for_the_others() -> None:
    plane = Plane()
    plane.apply(ServiceState(service("app", A), rollout=rollout(B)))
    assert plane.ask(get()).status == 503
    assert who(plane, get(b"/", VISITOR)) == {"b:1"}


def test_a_rollout_that_ends_gets_no_request_any_more_and_finishes_those_it_has() -> None:
    plane = Plane()
    plane.apply(up(service("app", A), rollout=rollout(B)))
    _, idle = plane.begin(get(b"/", VISITOR))
    busy_client, busy = plane.begin(get(b"/", VISITOR))
    idle.send(answer())
    plane.apply(up(service("app", A)))
    drained = plane.plane.drain("app", [B], 10.0)
    idle.turn()
    assert idle.closed
    assert who(plane, get(b"/", VISITOR)) == {"a:1"}
    assert not drained.called
    busy.send(answer(b"finished"))
    assert one_message(busy_client).body == b"finished"
    assert drained.called


def test_a_target_that_is_the_services_own_too_keeps_its_connections() -> None:
    plane = Plane()
    plane.apply(up(service("app", A), rollout=rollout(B)))
    _, target = plane.begin(get(b"/", VISITOR))
    target.send(answer())
    plane.apply(up(service("app", B)))
    target.turn()
    assert not target.closed
    plane.begin()
    assert plane.network.addresses == ["b:1"]


def test_a_request_that_is_being_buffered_follows_the_rollout_of_its_end() -> None:
    buffered = service("app", A, buffering=Buffering())
    plane = Plane(buffered)
    client = plane.client()
    client.send(post(b"hello", VISITOR)[:-1])
    plane.apply(up(buffered, rollout=rollout(B)))
    client.send(b"o")
    assert plane.network.addresses == ["b:1"]


# Readers.


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_reads_go_to_read_targets(method: bytes) -> None:
    plane = Plane()
    plane.apply(readers(R, S))
    for _ in range(4):
        plane.begin(get(method=method))
    assert set(plane.network.addresses) == {"r:1", "s:1"}


def test_writes_go_to_the_others_and_their_clients_are_marked() -> None:
    plane = Plane()
    plane.apply(readers(R))
    client, target = plane.begin(post(b"x"))
    assert plane.network.addresses == ["a:1"]
    target.send(answer(b"", b"Connection: close"))
    (mark,) = one_message(client).get(b"set-cookie")
    assert mark.startswith(b"kamal-writer=")
    # Which is what the proxy takes.
    assert asked(plane, get(b"/", b"Cookie: " + mark.partition(b";")[0])) == "a:1"


def test_who_has_written_reads_where_they_wrote_until_that_is_long_ago() -> None:
    plane = Plane()
    plane.apply(readers(R))
    assert who(plane, get(b"/", WRITER)) == {"a:1"}
    assert who(plane, get(b"/", FORMER_WRITER)) == {"r:1"}


def test_without_an_affinity_nobody_is_marked() -> None:
    plane = Plane()
    plane.apply(readers(R, writer_affinity_timeout=0.0))
    client, target = plane.begin(post(b"x"))
    target.send(answer())
    assert one_message(client).get(b"set-cookie") == []


def test_without_read_targets_nobody_is_marked() -> None:
    plane = Plane(service())
    client, target = plane.begin(post(b"x"))
    target.send(answer(b"", b"X-Writer-Affinity: false"))
    message = one_message(client)
    assert message.get(b"set-cookie") == []
    assert message.get(b"x-writer-affinity") == [b"false"]


def test_without_a_healthy_read_target_the_others_stand_in() -> None:
    plane = Plane()
    plane.apply(ServiceState(service("app", A, read_targets=(R,)), (A,)))
    assert who(plane, get()) == {"a:1"}


def test_read_targets_do_not_stand_in_for_the_others() -> None:
    plane = Plane()
    plane.apply(ServiceState(service("app", A, read_targets=(R,)), (R,)))
    assert plane.ask(post(b"x")).status == 503
    assert plane.ask(get(b"/", WRITER)).status == 503
    assert who(plane, get()) == {"r:1"}


@pytest.mark.parametrize(("flag", "target"), [(False, "a:1"), (True, "r:1")])
def test_websockets_go_to_read_targets_only_if_they_are_to(flag: bool, target: str) -> None:
    plane = Plane()
    plane.apply(readers(R, read_target_websockets=flag))
    plane.begin(get(b"/", *WEBSOCKET))
    assert plane.network.addresses == [target]


def test_a_rollout_has_read_targets_of_its_own() -> None:
    plane = Plane()
    with_readers = rollout(B, read_targets=(S,), healthy=(B, S))
    plane.apply(up(service("app", A), rollout=with_readers))
    assert who(plane, get(b"/", VISITOR)) == {"s:1"}
    assert who(plane, post(b"x", VISITOR)) == {"b:1"}
    assert who(plane, get()) == {"a:1"}
    client, target = plane.begin(post(b"x", VISITOR))
    target.send(answer())
    assert len(one_message(client).get(b"set-cookie")) == 1


def test_read_targets_that_come_and_go_take_the_marking_with_them() -> None:
    plane = Plane(service())
    for state, marks in ((readers(R), 1), (up(service()), 0)):
        plane.apply(state)
        client, target = plane.begin(post(b"x"))
        target.send(answer())
        assert len(one_message(client).get(b"set-cookie")) == marks


# Targets that refuse.


def told(plane: Plane) -> list[tuple[str, Target]]:
    """What the control plane hears of."""
    heard: list[tuple[str, Target]] = []
    plane.plane.target_refused = lambda service, target: heard.append((service, target))
    return heard


def test_a_target_that_refuses_costs_no_request_and_is_told() -> None:
    plane = Plane(service("app", A, B))
    heard = told(plane)
    plane.network.refusing.add("a:1")
    assert who(plane, get()) == {"b:1"}
    assert set(heard) == {("app", A)}


def test_the_only_target_that_refuses_is_told_too() -> None:
    plane = Plane(service("app", A))
    heard = told(plane)
    plane.network.refusing.add("a:1")
    assert plane.ask(get()).status == 502
    assert heard == [("app", A)]


def test_a_target_that_answers_badly_does_not_count_as_one_that_refuses() -> None:
    plane = Plane(service("app", A, B))
    heard = told(plane)
    client, target = plane.begin()
    target.send(b"nonsense\r\n\r\n")
    assert one_message(client).status == 502
    assert heard == []


@pytest.mark.parametrize(
    ("refusing", "text", "target"),
    [
        ({"r:1"}, get(), "s:1"),
        ({"r:1", "s:1"}, get(), "a:1"),
        ({"b:1"}, get(b"/", VISITOR, WRITER), "a:1"),
        ({"b:1"}, post(b"x", VISITOR), "a:1"),
    ],
)
def test_those_that_stand_in_get_the_request_that_others_refuse(
    refusing: set[str], text: bytes, target: str
) -> None:
    plane = Plane()
    state = ServiceState(service("app", A, read_targets=(R, S)), (A, R, S), rollout=rollout(B))
    plane.apply(state)
    plane.network.refusing |= refusing
    assert who(plane, text) == {target}


def test_a_request_that_goes_on_to_another_target_of_a_paused_service_is_waited_for() -> None:
    several = service("app", A, B)
    plane = Plane(several)
    plane.network.silent |= {"a:1", "b:1"}
    client = plane.client()
    client.send(get())
    plane.apply(up(several, gate="paused"))
    drained = plane.plane.drain("app", several.targets, 10.0)
    plane.network.silent.clear()
    plane.network.attempts[0].fail()
    client.turn()
    assert not drained.called
    plane.network.wires[0].send(answer(b"finished"))
    assert one_message(client).body == b"finished"
    assert drained.called


# Pause and stop, while a body is on its way.


class Buffered:
    """A request of which a byte is still to come."""

    def __init__(self) -> None:
        self.service = service("app", A, buffering=Buffering())
        self.plane = Plane(self.service)
        self.client: Wire = self.plane.client()
        self.client.send(post(b"hello")[:-1])

    @property
    def clock(self) -> Clock:
        return self.plane.clock

    def change(self, **options: Any) -> None:
        self.plane.apply(up(self.service, **options))


def test_a_request_that_is_being_buffered_when_the_pause_comes_is_held() -> None:
    case = Buffered()
    case.change(gate="paused")
    case.client.send(b"o")
    assert case.plane.network.attempts == []
    case.change()
    case.client.turn()
    (target,) = case.plane.network.wires
    assert one_message(target).body == b"hello"
    target.send(answer(b"at last"))
    assert one_message(case.client).body == b"at last"


def test_it_is_held_for_as_long_as_any_other() -> None:
    case = Buffered()
    case.change(gate="paused", max_pause=5.0)
    case.client.send(b"o")
    case.clock.advance(5)
    assert one_message(case.client).status == 504
    assert case.plane.network.attempts == []


def test_a_request_that_is_being_buffered_when_the_stop_comes_is_turned_away() -> None:
    case = Buffered()
    case.change(gate="stopped", message="at nine")
    case.client.send(b"o")
    message = one_message(case.client)
    assert message.status == 503
    assert b"at nine" in message.body
    assert case.plane.network.attempts == []


def test_one_that_is_held_when_the_targets_change_goes_to_the_new_ones() -> None:
    case = Buffered()
    case.change(gate="paused")
    case.client.send(b"o")
    case.plane.apply(up(service("app", B, buffering=Buffering()), gate="paused"))
    case.plane.apply(up(service("app", B, buffering=Buffering())))
    case.client.turn()
    assert case.plane.network.addresses == ["b:1"]
