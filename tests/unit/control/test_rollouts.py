"""Rollouts: their targets, who goes there, and what lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from kproxy.config.model import Service, Target
from kproxy.control.deployment import DeploymentFailed
from kproxy.control.flags import BadFlag
from kproxy.control.options import rolled_out, split_of
from kproxy.control.progress import Event, Tell, untold
from kproxy.control.rollouts import NoRollout
from kproxy.control.serving import UnknownService
from kproxy.snapshot import Rollout, Split
from tests.unit.control.support import A, B, C, service
from tests.unit.control.test_controller import Case
from tests.unit.control.test_last_word import Memory, Run

TEN = Split(10)


def case(*targets: Target) -> Case:
    """A service at A (or these), and all targets up."""
    return Case(service("app", *targets), up=(A, B, C))


def roll_out(case: Case, *targets: str, tell: Tell = untold, **options: Any) -> list[Any]:
    """What ``rollout deploy`` fires with."""
    values = {"target": list(targets), **options}
    return case.result_of(case.controller.rollouts.deploy("app", values, tell))


def set_to(case: Case, split: Split) -> list[Any]:
    return case.result_of(case.controller.rollouts.set("app", split))


def stop(case: Case) -> list[Any]:
    return case.result_of(case.controller.rollouts.stop("app"))


def rollout(case: Case) -> Rollout | None:
    """The one of the last snapshot."""
    return case.plane.snapshots[-1].services[0].rollout


# Its targets.


def test_targets_of_a_rollout_get_no_request_before_it_is_said_whose() -> None:
    c = case()
    assert roll_out(c, "b:1") == [None]
    assert rollout(c) is None
    assert set_to(c, TEN) == [None]
    assert rollout(c) == Rollout((B,), (), (B,), TEN)
    assert c.plane.serving == {"app": (A,)}


def test_a_rollout_may_be_changed_and_stopped_and_set_again() -> None:
    c = case()
    roll_out(c, "b:1")
    set_to(c, TEN)
    set_to(c, Split(50, ("qa",)))
    assert rollout(c) == Rollout((B,), (), (B,), Split(50, ("qa",)))
    assert stop(c) == [None]
    assert rollout(c) is None
    assert set_to(c, TEN) == [None]
    assert rollout(c) == Rollout((B,), (), (B,), TEN)


def test_new_targets_take_over_when_they_are_healthy_and_the_old_ones_are_drained() -> None:
    c = case()
    roll_out(c, "b:1")
    set_to(c, TEN)
    c.plane.drained_at_once = False
    c.say(down=(C,))
    results = roll_out(c, "c:1", drain_timeout=7)
    assert rollout(c) == Rollout((B,), (), (B,), TEN)
    c.say(C)
    c.pass_time(1)
    assert rollout(c) == Rollout((C,), (), (C,), TEN)
    assert c.plane.drains[-1] == ("app", (B,), 7)
    assert results == []
    c.plane.draining[-1].callback(None)
    assert results == [None]


def test_targets_that_do_not_get_healthy_change_nothing() -> None:
    c = case()
    roll_out(c, "b:1")
    set_to(c, TEN)
    c.say(down=(C,))
    results = roll_out(c, "c:1", deploy_timeout=5)
    c.pass_time(5)
    assert results[0].check(DeploymentFailed)
    assert str(results[0].value) == "app: not healthy within 5 s: c:1: it answered 500 to /up"
    assert rollout(c) == Rollout((B,), (), (B,), TEN)
    asked = len(c.targets.times(C))
    c.pass_time(5)
    assert len(c.targets.times(C)) == asked


def test_a_rollout_waits_for_a_deployment_of_its_service_and_may_be_cancelled() -> None:
    c = Case(service("app", A), up=(A,))
    told: list[Event] = []
    first = c.deploy(service("app", B))
    values = {"target": ["c:1"]}
    second: Deferred[None] = c.controller.rollouts.deploy("app", values, told.append)
    failed: list[Any] = []
    second.addErrback(failed.append)
    assert told == [{"event": "queued", "service": "app"}]
    second.cancel()
    assert failed[0].check(CancelledError)
    c.targets.waiting[0][1].callback(200)
    c.pass_time(0)
    assert first == [None]
    assert c.targets.times(C) == []


def test_what_it_is_waiting_for_is_told() -> None:
    c = case()
    told: list[Event] = []
    roll_out(c, "b:1", tell=told.append)
    check = {"event": "check", "target": "b:1", "attempt": 1, "healthy": True, "failure": ""}
    switched = {"event": "switched", "service": "app", "targets": ["b:1"], "rollout": True}
    assert told == [check, switched]


def test_several_targets_of_a_rollout_are_checked_on_and_leave_it_when_they_are_down() -> None:
    c = case()
    roll_out(c, "b:1", "c:1")
    set_to(c, TEN)
    c.say(down=(B,))
    c.pass_time(1)
    assert rollout(c) == Rollout((B, C), (), (C,), TEN)
    c.say(B)
    c.pass_time(1)
    assert rollout(c) == Rollout((B, C), (), (B, C), TEN)


def test_read_targets_of_a_rollout_are_checked_as_well() -> None:
    c = case()
    c.say(down=(C,))
    assert roll_out(c, "b:1", read_target=["c:1"]) == []
    c.say(C)
    c.pass_time(1)
    set_to(c, TEN)
    assert rollout(c) == Rollout((B,), (C,), (B, C), TEN)


def test_a_rollout_that_the_data_plane_refuses_is_as_it_was() -> None:
    c = case()
    roll_out(c, "b:1")
    set_to(c, TEN)
    c.plane.refuses = ValueError("no")
    assert roll_out(c, "c:1")[0].check(DeploymentFailed)
    c.plane.refuses = None
    c.controller.publish()
    assert rollout(c) == Rollout((B,), (), (B,), TEN)


# Who is asked to do what is not there.


def operations(c: Case, name: str) -> dict[str, Callable[[], Deferred[None]]]:
    rollouts = c.controller.rollouts
    return {
        "deploy": lambda: rollouts.deploy(name, {"target": ["b:1"]}),
        "set": lambda: rollouts.set(name, TEN),
        "stop": lambda: rollouts.stop(name),
    }


@pytest.mark.parametrize("operation", ["deploy", "set", "stop"])
def test_a_service_that_is_not_there_has_no_rollout(operation: str) -> None:
    c = case()
    (failure,) = c.result_of(operations(c, "none")[operation]())
    assert failure.check(UnknownService)


def test_a_rollout_without_targets_can_not_be_set_but_stopped() -> None:
    c = case()
    (failure,) = set_to(c, TEN)
    assert failure.check(NoRollout)
    assert str(failure.value) == "rollout target not set: app; rollout deploy comes first"
    assert stop(c) == [None]


# Its service.


def test_a_deployment_of_the_service_leaves_its_rollout() -> None:
    c = case()
    roll_out(c, "b:1")
    set_to(c, TEN)
    assert c.deploy(service("app", C)) == [None]
    assert c.plane.serving == {"app": (C,)}
    assert rollout(c) == Rollout((B,), (), (B,), TEN)
    assert c.plane.drains[-1][1] == (A,)


def test_targets_that_the_rollout_has_too_are_not_drained_until_it_ends() -> None:
    c = case()
    roll_out(c, "b:1")
    set_to(c, TEN)
    c.deploy(service("app", B))
    c.deploy(service("app", C))
    assert [targets for _, targets, _ in c.plane.drains][-2:] == [(A,), ()]
    stop(c)
    assert c.plane.drains[-1][1] == (B,)


def test_targets_of_a_rollout_that_was_stopped_are_drained_like_any_other() -> None:
    c = case()
    roll_out(c, "b:1")
    set_to(c, TEN)
    c.deploy(service("app", B))
    stop(c)
    c.deploy(service("app", C))
    assert c.plane.drains[-1][1] == (B,)


def test_a_pause_drains_the_rollout_too() -> None:
    c = case()
    roll_out(c, "b:1")
    set_to(c, TEN)
    assert c.result_of(c.controller.pause("app", 5.0, 30.0)) == [None]
    assert c.plane.drains[-1] == ("app", (A, B), 5.0)


def test_a_service_that_is_removed_takes_its_rollout_along() -> None:
    c = case()
    roll_out(c, "b:1", "c:1")
    set_to(c, TEN)
    assert c.result_of(c.controller.remove("app")) == [None]
    assert c.plane.drains[-1][1] == (A, B, C)
    asked = len(c.targets.asked)
    c.pass_time(5)
    assert len(c.targets.asked) == asked


def test_a_rollout_is_described_with_its_service() -> None:
    c = case()
    assert c.controller.describe()[0]["rollout"] is None
    roll_out(c, "b:1", read_target=["c:1"])
    target = {"health": "healthy", "failure": "", "requests": 0}
    described = {
        "targets": [{"address": "b:1", **target}],
        "read_targets": [{"address": "c:1", **target}],
    }
    assert c.controller.describe()[0]["rollout"] == {**described, "percent": None, "list": None}
    set_to(c, Split(10, ("qa",)))
    assert c.controller.describe()[0]["rollout"] == {**described, "percent": 10, "list": ["qa"]}


# Restarts.


def test_a_rollout_is_there_again_after_a_restart_from_the_first_request_on() -> None:
    memory = Memory()
    run = Run(memory, service("app", A))
    run.do(run.controller.rollouts.deploy("app", {"target": ["b:1", "c:1"]}))
    run.do(run.controller.rollouts.set("app", TEN))
    again = Run(memory, service("app", A), down=(B,))
    assert again.first["app"].rollout == Rollout((B, C), (), (B, C), TEN)
    assert again.states["app"].rollout == Rollout((B, C), (), (C,), TEN)
    again.do(again.controller.rollouts.stop("app"))
    last = Run(memory, service("app", A))
    assert last.first["app"].rollout is None
    last.do(last.controller.rollouts.set("app", TEN))
    assert last.states["app"].rollout == Rollout((B, C), (), (B, C), TEN)


# Options.


@pytest.mark.parametrize(
    ("options", "split"),
    [
        ({"percent": 10}, Split(10)),
        ({"list": ["a", "b", "a", ""]}, Split(0, ("a", "b"))),
        ({"percent": 0, "list": []}, Split()),
    ],
)
def test_rollout_set_takes_a_percentage_and_a_list(options: Any, split: Split) -> None:
    assert split_of(options) == split


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "rollout set needs --percent, --list, or both"),
        ({"percent": 101}, "percent should be an integer from 0 to 100"),
        ({"percent": -1}, "percent should be an integer from 0 to 100"),
        ({"percent": True}, "percent should be an integer from 0 to 100"),
        ({"list": "a"}, "list should be a list of texts"),
        ({"list": [1]}, "list should be a list of texts"),
        ({"percentage": 1}, "there is no option percentage"),
    ],
)
def test_rollout_set_says_what_is_wrong(options: Any, complaint: str) -> None:
    with pytest.raises(BadFlag) as caught:
        split_of(options)
    assert str(caught.value) == complaint


def test_a_rollout_has_the_options_of_its_service_but_for_targets_and_times() -> None:
    base = Service("app", (A,), read_targets=(B,), response_timeout=5.0, drain_timeout=6.0)
    wanted = rolled_out(base, {"target": ["c:1"], "deploy_timeout": 1})
    assert wanted == Service("app", (C,), response_timeout=5.0, drain_timeout=6.0, deploy_timeout=1)


@pytest.mark.parametrize("options", [{}, {"target": ["c:1"], "host": ["a"]}])
def test_rollout_deploy_takes_nothing_else(options: Any) -> None:
    with pytest.raises(BadFlag):
        rolled_out(service("app"), options)
