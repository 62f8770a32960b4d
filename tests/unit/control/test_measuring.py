"""What metrics show of health, certificates and deployments."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from kproxy.config.model import Service, Target
from kproxy.control.controller import Controller
from tests.unit.control.support import A, B, Plane, Targets, service

HEALTH = "kproxy_target_healthy"
DEPLOYMENTS = "kproxy_deployments_total"
EXPIRY = "kproxy_certificate_expiry_timestamp_seconds"


class Control:
    def __init__(self, *services: Service) -> None:
        self.clock = Clock()
        self.plane = Plane()
        self.targets = Targets(self.clock)
        self.targets.answers = {A: 200, B: 200}
        self.controller = Controller(self.plane, self.clock, self.targets.ask)
        self.controller.boot(services)
        self.settle()

    def settle(self) -> None:
        for _ in range(3):
            self.clock.advance(0)

    def __getitem__(self, name: str) -> dict[tuple[str, ...], list[float]]:
        return dict(self.controller.measure()[name])

    def deploy(self, wanted: Service) -> list[Any]:
        results: list[Any] = []
        self.controller.deploy(wanted).addBoth(results.append)
        self.settle()
        return results


def test_each_target_is_healthy_or_not() -> None:
    control = Control(service("app", A, B), service("other", B))
    assert control[HEALTH] == {
        ("app", "a:1"): [1],
        ("app", "b:1"): [1],
        ("other", "b:1"): [1],
    }
    control.targets.answers[B] = 500
    control.clock.advance(1)
    control.settle()
    assert control[HEALTH]["app", "b:1"] == [0]
    assert control[HEALTH]["app", "a:1"] == [1]


def test_one_that_has_not_answered_yet_is_not_healthy() -> None:
    control = Control(service("app", Target("silent", 1)))
    assert control[HEALTH] == {("app", "silent:1"): [0]}


def test_targets_that_are_served_no_more_are_not_shown() -> None:
    control = Control(service("app", A))
    control.deploy(service("app", B))
    assert control[HEALTH] == {("app", "b:1"): [1]}


def test_deployments_are_counted_by_their_outcome() -> None:
    control = Control()
    assert control[DEPLOYMENTS] == {("succeeded",): [0], ("failed",): [0]}
    control.deploy(service("app", A))
    control.deploy(service("app", B))
    assert control[DEPLOYMENTS] == {("succeeded",): [2], ("failed",): [0]}
    control.targets.answers[A] = 500
    results = control.deploy(service("app", A))
    control.clock.advance(31)
    assert results[0].getErrorMessage().startswith("app: not healthy")
    assert control[DEPLOYMENTS] == {("succeeded",): [2], ("failed",): [1]}


def test_a_deployment_has_succeeded_when_it_is_switched_and_not_when_it_is_drained() -> None:
    control = Control(service("app", A))
    control.plane.drained_at_once = False
    results = control.deploy(service("app", B))
    assert results == []
    assert control[DEPLOYMENTS] == {("succeeded",): [1], ("failed",): [0]}


def test_deployments_of_a_rollout_are_counted() -> None:
    control = Control(service("app", A))
    control.controller.rollouts.deploy("app", {"target": ["b:1"]})
    control.settle()
    assert control[DEPLOYMENTS] == {("succeeded",): [1], ("failed",): [0]}
    assert control[HEALTH] == {("app", "a:1"): [1], ("app", "b:1"): [1]}


def test_a_start_is_no_deployment() -> None:
    assert Control(service("app", A))[DEPLOYMENTS] == {("succeeded",): [0], ("failed",): [0]}


def test_without_tls_there_are_no_certificates() -> None:
    assert Control(service("app", A))[EXPIRY] == {}
