"""How long what failed is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from kproxy.tls.acme.failures import Failures
from tests.unit.tls.acme.fake_ca import NOW, outcome

HOUR = 3600.0


class Kept:
    """The part of a store that is needed here.

    @ivar slow: saving takes until its Deferreds are fired.
    """

    def __init__(self) -> None:
        self.data: Mapping[str, Any] = {}
        self.saved = 0
        self.slow: list[Deferred[None]] | None = None
        self.broken = False

    def failures(self) -> Deferred[Mapping[str, Any]]:
        return succeed(self.data)

    def store_failures(self, failures: Mapping[str, Any]) -> Deferred[None]:
        if self.broken:
            return fail(OSError("disk full"))
        self.data = dict(failures)
        self.saved += 1
        if self.slow is None:
            return succeed(None)
        self.slow.append(Deferred())
        return self.slow[-1]


def make(
    kept: Kept | None = None, now: float = NOW, random: float = 0.0, circumstances: str = ""
) -> tuple[Failures, Clock]:
    clock = Clock()
    clock.advance(now)
    store: Any = kept or Kept()
    failures = Failures(store, clock, lambda: random, circumstances)
    assert outcome(Deferred.fromCoroutine(failures.load())) == [None]
    return failures, clock


def test_waits_double_from_a_minute_to_six_hours() -> None:
    failures, clock = make()
    waits = [failures.failed("a.test", "no").until - clock.seconds() for _ in range(12)]
    assert waits[:4] == [60, 120, 240, 480]
    assert waits[8:] == [60 * 256, 6 * HOUR, 6 * HOUR, 6 * HOUR]


def test_after_success_waits_begin_anew() -> None:
    failures, clock = make()
    failures.failed("a.test", "no")
    failures.failed("a.test", "no")
    failures.worked("a.test")
    assert failures.get("a.test") is None
    assert failures.failed("a.test", "no").until == clock.seconds() + 60


def test_a_name_may_be_tried_when_its_wait_is_over() -> None:
    failures, clock = make()
    failures.failed("a.test", "no")
    clock.advance(59)
    assert failures.waiting("a.test")
    clock.advance(1)
    assert not failures.waiting("a.test")
    trouble = failures.get("a.test")
    assert trouble is not None
    assert trouble.why == "no"


def test_what_the_ca_asks_for_is_waited_even_if_it_is_longer() -> None:
    failures, clock = make()
    assert failures.failed("a.test", "slow down", 5000).until == clock.seconds() + 5000
    assert failures.failed("b.test", "slow down", 5).until == clock.seconds() + 60
    week = 7 * 24 * HOUR
    assert failures.failed("c.test", "slow down", 1e12).until == clock.seconds() + week


def test_waits_are_spread() -> None:
    failures, clock = make(random=1.0)
    assert failures.failed("a.test", "no").until == pytest.approx(clock.seconds() + 66)


def test_what_failed_is_known_after_a_restart() -> None:
    kept = Kept()
    before, clock = make(kept)
    before.failed("a.test", "no")
    trouble = before.failed("a.test", "no again")
    after, _ = make(kept, clock.seconds() + 10)
    assert after.get("a.test") == trouble
    assert after.waiting("a.test")


def test_under_other_circumstances_everything_is_worth_another_try() -> None:
    kept = Kept()
    before, clock = make(kept, circumstances="wrong key")
    before.failed("a.test", "no")
    after, _ = make(kept, clock.seconds(), circumstances="right key")
    assert after.get("a.test") is None


def test_a_clock_that_was_set_back_does_not_make_a_wait_of_years() -> None:
    kept = Kept()
    make(kept, NOW)[0].failed("a.test", "no")
    after, clock = make(kept, NOW - 300 * 24 * HOUR)
    trouble = after.get("a.test")
    assert trouble is not None
    assert trouble.until <= clock.seconds() + 7 * 24 * HOUR


@pytest.mark.parametrize(
    "damaged",
    [
        {"names": {"a.test": {"times": 1}}},
        {"names": {"a.test": None}},
        {"names": {"a.test": {"times": "x", "until": 1, "why": ""}}},
        {"names": {"a.test": {"times": 1, "until": "1e999", "why": ""}}},
        {"names": []},
        {},
    ],
)
def test_what_cannot_be_understood_is_no_reason_to_wait_for_ever(damaged: Any) -> None:
    kept = Kept()
    kept.data = {"circumstances": "", **damaged}
    failures, clock = make(kept)
    clock.advance(7 * 24 * HOUR)
    assert not failures.waiting("a.test")


def test_old_news_is_forgotten() -> None:
    kept = Kept()
    failures, clock = make(kept)
    failures.failed("a.test", "no")
    clock.advance(25 * HOUR)
    failures.failed("b.test", "no")
    assert set(kept.data["names"]) == {"b.test"}


def test_what_fails_while_a_save_is_under_way_is_saved_next_in_one_go() -> None:
    kept = Kept()
    failures, _ = make(kept)
    kept.slow = []
    for number in range(10):
        failures.failed(f"{number}.test", "no")
    safe = outcome(failures.saved())
    assert kept.saved == 1
    kept.slow[0].callback(None)
    assert safe == []
    kept.slow[1].callback(None)
    assert safe == [None]
    assert kept.saved == 2
    assert len(kept.data["names"]) == 10


def test_a_store_that_fails_does_not_keep_anybody_waiting() -> None:
    kept = Kept()
    failures, _ = make(kept)
    kept.broken = True
    failures.failed("a.test", "no")
    assert failures.waiting("a.test")
    assert outcome(failures.saved()) == [None]


def test_an_operators_wish_ends_the_wait_but_not_the_count() -> None:
    failures, clock = make()
    failures.failed("a.test", "no")
    failures.retry("a.test")
    assert not failures.waiting("a.test")
    assert failures.failed("a.test", "no").until == clock.seconds() + 120
