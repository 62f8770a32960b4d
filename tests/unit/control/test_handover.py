"""Hosts and paths that pass from one service of the file to another: at no time nobody's."""

from __future__ import annotations

from typing import Any

from kproxy.config.model import Service, Target
from kproxy.snapshot import Snapshot
from kproxy.tree import WrapperFailed
from tests.unit.control.support import A, B, C, service
from tests.unit.control.test_controller import Case


def at(name: str, target: Target, *hosts: str, **options: Any) -> Service:
    return service(name, target, hosts=hosts, **options)


def holders(case: Case) -> dict[str, str]:
    """Which service has which host."""
    return {host: each.name for each in case.plane.services for host in each.hosts}


def booted(*services: Service) -> Case:
    """All is healthy, and then new targets are not, until they are said to be."""
    case = Case(*services, up=(A, B, C))
    case.say(down=(A, B, C))
    return case


def test_a_service_keeps_a_host_until_the_one_that_takes_it_is_healthy() -> None:
    case = booted(at("one", A, "x", "y"))
    case.say(A)
    results = case.reload(at("one", A, "x"), at("two", B, "y"))
    case.pass_time(3)
    assert holders(case) == {"x": "one", "y": "one"}
    assert results == []
    case.say(B)
    case.pass_time(1)
    assert holders(case) == {"x": "one", "y": "two"}
    assert results == [[]]


def test_the_one_that_takes_it_waits_as_well() -> None:
    case = booted(at("one", A, "x", "y"))
    case.say(B)
    case.reload(at("one", C, "x"), at("two", B, "y"))
    case.pass_time(3)
    assert holders(case) == {"x": "one", "y": "one"}
    case.say(C)
    case.pass_time(1)
    assert holders(case) == {"x": "one", "y": "two"}
    assert case.plane.serving["one"] == (C,)


def test_a_service_that_is_dropped_serves_until_its_successor_is_healthy() -> None:
    case = booted(at("old", A, "x"))
    case.reload(at("new", B, "x"))
    case.pass_time(2)
    assert holders(case) == {"x": "old"}
    case.say(B)
    case.pass_time(1)
    assert holders(case) == {"x": "new"}
    assert case.plane.drains[-1][1] == ()
    assert ("old", (A,), 30.0) in case.plane.drains


def test_hosts_that_are_exchanged_change_together() -> None:
    case = booted(at("one", A, "x"), at("two", B, "y"))
    case.say(A)
    case.reload(at("one", A, "y"), at("two", B, "x"))
    case.pass_time(1)
    assert holders(case) == {"x": "one", "y": "two"}
    case.say(B)
    case.pass_time(1)
    assert holders(case) == {"y": "one", "x": "two"}


def test_a_chain_of_services_changes_together() -> None:
    case = booted(at("one", A, "x"), at("two", B, "y"))
    case.say(A, B)
    case.reload(at("one", A, "z"), at("two", B, "x"), at("three", C, "y"))
    case.pass_time(1)
    assert holders(case) == {"x": "one", "y": "two"}
    case.say(C)
    case.pass_time(1)
    assert holders(case) == {"z": "one", "x": "two", "y": "three"}


def test_those_that_have_nothing_to_do_with_it_do_not_wait() -> None:
    case = booted(at("one", A, "x", "y"), at("other", C, "z"))
    case.say(A, C)
    case.reload(at("one", A, "x"), at("two", B, "y"), at("other", C, "z", "w"))
    case.pass_time(1)
    assert holders(case) == {"x": "one", "y": "one", "z": "other", "w": "other"}


def test_if_the_one_that_takes_does_not_get_healthy_nothing_changes() -> None:
    case = booted(at("one", A, "x", "y"))
    case.say(A)
    results = case.reload(at("one", A, "x"), at("two", B, "y", deploy_timeout=5.0))
    case.pass_time(5)
    assert holders(case) == {"x": "one", "y": "one"}
    (failures,) = results
    assert sorted(failures) == [
        "one: it changes hosts or paths with two, which has failed",
        "two: not healthy within 5 s: b:1: it answered 500 to /up",
    ]
    asked = len(case.targets.asked)
    case.pass_time(3)
    assert len(case.targets.asked) == asked
    # The file that is read again is followed as if it were new.
    case.say(B)
    assert case.reload(at("one", A, "x"), at("two", B, "y")) == [[]]
    assert holders(case) == {"x": "one", "y": "two"}


def test_another_reload_in_between_is_followed() -> None:
    case = booted(at("one", A, "x", "y"))
    case.say(A)
    first = case.reload(at("one", A, "x"), at("two", B, "y"))
    case.pass_time(1)
    assert case.reload(at("one", A, "x", "y")) == [[]]
    assert len(first[0]) == 2
    assert holders(case) == {"x": "one", "y": "one"}
    case.say(C)
    assert case.reload(at("one", C, "x", "w")) == [[]]
    assert holders(case) == {"x": "one", "w": "one"}


def test_if_a_wrapper_of_one_can_not_be_made_at_the_switch_none_of_them_changes() -> None:
    case = booted(at("one", A, "x"), at("two", B, "y"))
    apply = case.plane.apply

    def refuse_two(snapshot: Snapshot) -> None:
        if any(s.service.name == "two" and "x" in s.service.hosts for s in snapshot.services):
            raise WrapperFailed("service 'two': wrapper 'limit' failed: no")
        apply(snapshot)

    case.plane.apply = refuse_two  # type: ignore[method-assign]
    case.say(A, B)
    snapshots = len(case.plane.snapshots)
    (failures,) = case.reload(at("one", A, "y"), at("two", B, "x"))
    assert sorted(failures) == [
        "one: service 'two': wrapper 'limit' failed: no",
        "two: service 'two': wrapper 'limit' failed: no",
    ]
    assert holders(case) == {"x": "one", "y": "two"}
    assert len(case.plane.snapshots) == snapshots
    assert [each.hosts for each in case.controller.services()] == [("x",), ("y",)]
    # The file can be followed as soon as the wrapper can be made.
    case.plane.apply = apply  # type: ignore[method-assign]
    assert case.reload(at("one", A, "y"), at("two", B, "x")) == [[]]
    assert holders(case) == {"y": "one", "x": "two"}


def test_no_snapshot_has_a_host_of_two_services() -> None:
    case = booted(at("one", A, "x"), at("two", B, "y"))
    case.say(A, B)
    case.reload(at("one", A, "y"), at("two", B, "x"))
    for snapshot in case.plane.snapshots:
        hosts = [host for each in snapshot.services for host in each.service.hosts]
        assert sorted(hosts) == ["x", "y"]
