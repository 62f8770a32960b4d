"""When certificates are replaced."""

from __future__ import annotations

import pytest

from kproxy.tls.acme.schedule import Schedule, default_time, schedule_of

DAY = 86400.0


@pytest.mark.parametrize(("random", "left"), [(0.0, 30), (1.0, 27), (0.5, 28.5)])
def test_a_certificate_is_replaced_when_a_third_of_its_life_is_left_or_a_bit_less(
    random: float, left: float
) -> None:
    due = default_time(1000.0, 1000.0 + 90 * DAY, lambda: random)
    assert due == pytest.approx(1000.0 + (90 - left) * DAY)


def test_a_certificate_that_is_found_old_is_due_at_once() -> None:
    schedule = schedule_of(0.0, 90 * DAY, 80 * DAY, lambda: 0.0, new=False)
    assert schedule.due < 80 * DAY


def test_a_new_certificate_is_kept_for_a_day_even_if_it_looks_old() -> None:
    schedule = schedule_of(0.0, 90 * DAY, 4000 * DAY, lambda: 0.0, new=True)
    assert schedule.due == 4001 * DAY


def test_a_new_certificate_that_lives_for_an_hour_is_replaced_in_time() -> None:
    schedule = schedule_of(0.0, 3600.0, 0.0, lambda: 0.0, new=True)
    assert schedule.due == pytest.approx(2400.0)


def test_a_time_is_picked_from_the_window_that_the_ca_wishes() -> None:
    schedule = Schedule(due=60 * DAY, ask=0.0)
    assert schedule.wish(10 * DAY, 12 * DAY, lambda: 0.25)
    assert schedule.due == 10.5 * DAY


def test_the_same_wish_again_changes_nothing() -> None:
    schedule = Schedule(due=60 * DAY, ask=0.0)
    schedule.wish(10 * DAY, 12 * DAY, lambda: 0.25)
    assert not schedule.wish(10 * DAY, 12 * DAY, lambda: 0.0)
    assert schedule.due == 10.5 * DAY


def test_a_wish_may_also_be_for_later() -> None:
    schedule = Schedule(due=60 * DAY, ask=0.0)
    schedule.wish(70 * DAY, 70 * DAY, lambda: 0.5)
    assert schedule.due == 70 * DAY


def test_a_ca_that_wishes_every_new_certificate_away_is_heeded_once_an_hour() -> None:
    now = 1000 * DAY
    schedule = schedule_of(now, now + 90 * DAY, now, lambda: 0.0, new=True)
    schedule.wish(now - DAY, now - DAY, lambda: 0.0)
    assert schedule.due == now + 3600.0


def test_a_window_that_ends_before_it_begins_is_its_beginning() -> None:
    schedule = Schedule(due=60 * DAY, ask=0.0)
    schedule.wish(10 * DAY, 9 * DAY, lambda: 1.0)
    assert schedule.due == 10 * DAY
