"""Is a target up? (behaviour.md section 2, healthcheck)"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kproxy.config.model import Healthcheck
from kproxy.control.health import HealthCheck, traced
from tests.unit.control.support import A, Targets


class Case:
    """One check, and what it told."""

    def __init__(self, options: Healthcheck = Healthcheck(interval=1.0), ask: Any = None) -> None:  # noqa: B008
        self.clock = Clock()
        self.targets = Targets(self.clock)
        self.changes: list[bool | None] = []
        self.check = HealthCheck(
            A,
            options,
            self.clock,
            ask or self.targets.ask,
            lambda check: self.changes.append(check.healthy),
        )

    def answers(self, answer: int | Exception) -> None:
        """What the target answers from now on, which is waited for once."""
        self.targets.answers[A] = answer


@pytest.mark.parametrize("code", [200, 201, 204, 299])
def test_any_2xx_is_healthy(code: int) -> None:
    case = Case()
    case.answers(code)
    case.check.start()
    case.clock.advance(0)
    assert case.check.healthy
    assert case.check.failure == ""
    assert case.changes == [True]


@pytest.mark.parametrize("code", [100, 199, 300, 302, 404, 500, 503])
def test_anything_else_is_not(code: int) -> None:
    case = Case()
    case.answers(code)
    case.check.start()
    case.clock.advance(0)
    assert case.check.healthy is False
    redirect = ", and redirects are not followed" if 300 <= code < 400 else ""
    assert case.check.failure == f"it answered {code} to /up{redirect}"


def test_no_answer_is_not_either() -> None:
    case = Case()
    case.answers(OSError("connection refused"))
    case.check.start()
    case.clock.advance(0)
    assert case.check.healthy is False
    assert "connection refused" in case.check.failure


def test_the_first_check_is_at_once_and_the_others_every_interval() -> None:
    case = Case(Healthcheck(interval=2.0))
    case.answers(500)
    case.check.start()
    case.clock.pump([0.5] * 13)
    assert case.targets.times(A) == [0, 2, 4, 6]
    assert case.check.attempts == 4


def test_an_answer_that_takes_long_delays_the_next_check_and_is_not_overtaken() -> None:
    case = Case(Healthcheck(interval=1.0))
    case.check.start()
    case.clock.pump([0.5] * 7)
    assert case.targets.times(A) == [0]
    case.answers(200)
    case.targets.waiting[0][1].callback(500)
    case.clock.advance(0)
    assert case.targets.times(A) == [0, 3.5]
    case.clock.advance(1)
    assert case.targets.times(A) == [0, 3.5, 4.5]


def test_only_changes_are_told() -> None:
    case = Case()
    for answer in (500, 500, 200, 200, 500, 500, 200):
        case.answers(answer)
        if case.check.attempts:
            case.clock.advance(1)
        else:
            case.check.start()
        case.clock.advance(0)
    assert case.changes == [False, True, False, True]


def test_a_stopped_check_asks_and_tells_nothing_more() -> None:
    case = Case()
    case.answers(200)
    case.check.start()
    case.clock.advance(0)
    case.check.stop()
    case.answers(500)
    case.clock.pump([1.0] * 5)
    assert case.targets.times(A) == [0]
    assert case.changes == [True]
    assert case.clock.getDelayedCalls() == []


def test_a_check_that_is_stopped_while_it_waits_is_cancelled() -> None:
    case = Case()
    case.check.start()
    case.check.stop()
    case.check.stop()
    assert case.targets.cancelled == [A]
    case.clock.pump([1.0] * 5)
    assert case.changes == []
    assert case.targets.times(A) == [0]


def test_a_check_may_be_stopped_by_whom_it_tells() -> None:
    case = Case()
    case.answers(200)
    case.check._changed = lambda check: check.stop()
    case.check.start()
    case.clock.pump([1.0] * 3)
    assert case.targets.times(A) == [0]


def test_an_asker_that_can_not_even_ask_is_a_failed_check_and_is_tried_again() -> None:
    def ask(*arguments: Any) -> Deferred[int]:
        raise ValueError("not a path")

    case = Case(ask=ask)
    case.check.start()
    assert case.check.healthy is False
    assert "not a path" in case.check.failure
    case.clock.advance(1)
    assert case.check.attempts == 2


def test_each_answer_can_be_traced() -> None:
    clock = Clock()
    targets = Targets(clock)
    traces: list[str] = []
    ask = traced(targets.ask, lambda text, **values: traces.append(text.format(**values)))
    results: list[Any] = []
    for answer in (200, OSError("refused")):
        targets.answers[A] = answer
        ask(A, Healthcheck()).addBoth(results.append)
        clock.advance(0)
    assert traces == ["health check of a:1/up: 200", "health check of a:1/up: refused"]
    assert results[0] == 200
    assert results[1].check(OSError)
