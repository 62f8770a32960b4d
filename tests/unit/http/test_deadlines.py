"""Time limits that cost an entry each, not a timer each."""

from __future__ import annotations

from twisted.internet.task import Clock

from kproxy.http.deadlines import Deadlines


def queue(limit: float = 10.0) -> tuple[Clock, list[str], Deadlines[str]]:
    clock = Clock()
    expired: list[str] = []
    return clock, expired, Deadlines(clock, limit, expired.append)


def test_an_item_expires_after_the_limit_and_once() -> None:
    clock, expired, deadlines = queue()
    deadlines.add("a")
    clock.advance(9.9)
    assert expired == []
    clock.advance(0.1)
    assert expired == ["a"]
    clock.advance(100)
    assert expired == ["a"]


def test_items_expire_in_their_own_time() -> None:
    clock, expired, deadlines = queue()
    deadlines.add("a")
    clock.advance(4)
    deadlines.add("b")
    clock.advance(6)
    assert expired == ["a"]
    clock.advance(3.9)
    assert expired == ["a"]
    clock.advance(0.1)
    assert expired == ["a", "b"]


def test_an_item_whose_end_fails_keeps_no_other_waiting() -> None:
    clock = Clock()
    expired: list[str] = []

    def expire(item: str) -> None:
        expired.append(item)
        if item == "a":
            raise ZeroDivisionError

    deadlines: Deadlines[str] = Deadlines(clock, 10, expire)
    for item in ("a", "b"):
        deadlines.add(item)
    clock.advance(10)
    deadlines.add("c")
    clock.advance(10)
    assert expired == ["a", "b", "c"]


def test_a_removed_item_does_not_expire_and_the_others_do() -> None:
    clock, expired, deadlines = queue()
    for item in "abc":
        deadlines.add(item)
    deadlines.remove("a")
    deadlines.remove("never there")
    clock.advance(10)
    assert expired == ["b", "c"]


def test_adding_again_begins_anew() -> None:
    clock, expired, deadlines = queue()
    deadlines.add("a")
    deadlines.add("b")
    clock.advance(5)
    deadlines.add("a")
    clock.advance(5)
    assert expired == ["b"]
    clock.advance(5)
    assert expired == ["b", "a"]


def test_an_item_may_be_added_again_while_it_expires() -> None:
    clock = Clock()
    times: list[float] = []

    def again(item: str) -> None:
        times.append(clock.seconds())
        deadlines.add(item)

    deadlines: Deadlines[str] = Deadlines(clock, 10.0, again)
    deadlines.add("a")
    clock.pump([5.0] * 7)
    assert times == [10.0, 20.0, 30.0]


def test_any_number_of_items_need_one_timer() -> None:
    clock, _, deadlines = queue()
    for i in range(100):
        deadlines.add(str(i))
        deadlines.add(str(i))
        deadlines.remove(str(i // 2))
    assert len(clock.getDelayedCalls()) == 1


def test_nothing_is_left_ticking_once_all_items_are_gone() -> None:
    clock, expired, deadlines = queue()
    deadlines.add("a")
    deadlines.remove("a")
    clock.advance(10)
    assert clock.getDelayedCalls() == []
    deadlines.add("b")
    deadlines.stop()
    deadlines.stop()
    assert clock.getDelayedCalls() == []
    clock.advance(20)
    assert expired == []


def test_a_queue_works_on_after_it_was_stopped() -> None:
    clock, expired, deadlines = queue()
    deadlines.add("a")
    deadlines.stop()
    deadlines.add("b")
    clock.advance(10)
    assert expired == ["b"]
