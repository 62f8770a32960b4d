"""One service on its way from what it was to what it is to be."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from kproxy.config.model import Service
from kproxy.control.deployment import Checks, Deployment, DeploymentFailed
from tests.unit.control.support import A, B, Targets, service


class Case:
    """One deployment, and what became of it."""

    def __init__(self, wanted: Service, **answers: Any) -> None:
        self.clock = Clock()
        self.targets = Targets(self.clock)
        for target in wanted.targets:
            if target.host in answers:
                self.targets.answers[target] = answers[target.host]
        self.deployment = Deployment(wanted, self.clock, self.targets.ask)
        self.results: list[Any] = []
        self.deployment.done.addBoth(self.results.append)
        self.clock.advance(0)

    @property
    def failure(self) -> str:
        (result,) = self.results
        assert result.check(DeploymentFailed)
        return str(result.value)


def test_a_deployment_is_done_when_all_targets_are_healthy() -> None:
    case = Case(service("app", A, B), a=200)
    assert case.results == []
    case.targets.answers[B] = 200
    case.targets.waiting[0][1].callback(200)
    (checks,) = case.results
    assert isinstance(checks, Checks)
    assert checks.healthy() == (A, B)
    case.clock.advance(100)
    assert case.results == [checks]


def test_a_deployment_fails_when_its_time_is_over_and_says_why() -> None:
    case = Case(service("app", A, B, deploy_timeout=5.0), a=500)
    case.clock.pump([1.0] * 4)
    assert case.results == []
    case.clock.advance(1)
    assert case.failure == (
        "app: not healthy within 5 s: a:1: it answered 500 to /up; b:1: no answer yet"
    )
    asked = len(case.targets.asked)
    case.clock.pump([1.0] * 5)
    assert len(case.targets.asked) == asked
    assert B in case.targets.cancelled


def test_a_target_that_is_not_healthy_at_the_same_time_as_the_others_is_waited_for() -> None:
    case = Case(service("app", A, B), a=200, b=500)
    case.targets.answers.update({A: 500, B: 200})
    case.clock.advance(1)
    case.clock.advance(0)
    assert case.results == []
    case.targets.answers.update({A: 200})
    case.clock.advance(1)
    case.clock.advance(0)
    assert len(case.results) == 1


def test_a_deployment_can_be_given_up() -> None:
    case = Case(service())
    case.deployment.fail("a reason")
    case.deployment.fail("another")
    assert case.failure == "app: a reason"
    case.clock.advance(100)
    assert len(case.targets.asked) == 1
    assert case.clock.getDelayedCalls() == []


def test_a_deployment_can_be_cancelled() -> None:
    case = Case(service())
    case.deployment.done.cancel()
    assert case.failure == "app: it was cancelled"
    assert case.clock.getDelayedCalls() == []


def test_one_target_is_checked_until_it_is_healthy() -> None:
    case = Case(service(), a=500)
    case.clock.pump([1.0] * 3)
    case.targets.answers[A] = 200
    case.clock.pump([1.0, 0, 1.0, 1.0, 1.0])
    assert case.targets.times(A) == [0, 1, 2, 3, 4]
    assert len(case.results) == 1


def test_several_targets_are_checked_for_ever() -> None:
    case = Case(service("app", A, B), a=200, b=200)
    case.clock.pump([1.0] * 5)
    assert case.targets.times(A) == [0, 1, 2, 3, 4, 5]
    assert case.targets.times(B) == [0, 1, 2, 3, 4, 5]
    case.results[0].stop()
    case.clock.pump([1.0] * 5)
    assert len(case.targets.asked) == 12


def test_changes_after_a_deployment_are_told_to_whom_follows() -> None:
    case = Case(service("app", A, B), a=200, b=200)
    (checks,) = case.results
    changes: list[Any] = []
    checks.follow(lambda: changes.append(checks.healthy()))
    case.targets.answers[A] = 500
    case.clock.pump([1.0, 0])
    case.targets.answers[A] = 200
    case.clock.pump([1.0, 0])
    assert changes == [(B,), (A, B)]
    assert checks.all_healthy()
