"""Workers of the program that this process ran before: they serve until others do."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from kproxy.workers.channel import Channel
from kproxy.workers.crew import GRACE, RENEW_AFTER, NotRestarted
from kproxy.workers.frames import encode
from kproxy.workers.member import ANSWER_LIMIT
from tests.unit.control.support import Log
from tests.unit.workers.support import Case, Pipe
from tests.unit.workers.test_pool import A, B, measured, outcome, snapshot, started


def succeeded(before: Case, **answers: Any) -> Case:
    """The program after another one; its own workers are told all, and are not up yet."""
    case = Case(2, {"open": Deferred(), **answers}, before)
    case.workers.apply(snapshot(A))
    case.start()
    return case


def states(case: Case) -> list[str]:
    return [each["state"] for each in case.workers.crew.describe()]


def come_up(case: Case) -> None:
    """Let the fresh workers accept connections."""
    opened = case.answers["open"]
    if not opened.called:
        opened.callback(None)
    case.pass_time(0.2)


def test_guests_serve_until_fresh_workers_do_and_leave_then() -> None:
    case = succeeded(started())
    renewed = outcome(case.workers.crew.renewed())
    case.pass_time(0.2)
    guests, fresh = case.spawned[:2], case.spawned[2:]
    assert [process.said for process in fresh] == [["apply", "open"]] * 2
    assert not any("leave" in process.said for process in guests)
    assert renewed == []
    come_up(case)
    assert [process.said[-1] for process in guests] == ["leave"] * 2
    assert guests[0].messages[-1]["grace"] == GRACE
    assert renewed == [None]
    with Log() as log:
        for process in guests:
            process.die("with status 0")
        case.pass_time(0.2)
    assert log.texts == []
    assert case.alive() == fresh
    assert states(case) == ["serving"] * 2


def test_guests_are_told_of_what_is_new_like_all_others() -> None:
    case = succeeded(started())
    applied = outcome(case.workers.apply(snapshot(B)))
    drained = outcome(case.workers.drain("app", [A], 5.0))
    case.pass_time(0.2)
    assert (applied, drained) == ([None], [None])
    assert [process.snapshot for process in case.spawned] == [snapshot(B)] * 4
    assert case.spawned[0].said[-2:] == ["apply", "drain"]


def test_a_guest_that_does_not_understand_what_is_said_serves_on() -> None:
    before = started()
    for process in before.spawned:
        process.answers["apply"] = KeyError("a field of a later version")
    case = succeeded(before)
    applied = outcome(case.workers.apply(snapshot(B)))
    case.pass_time(0.2)
    assert applied == [None]
    assert len(case.alive()) == 4
    come_up(case)
    assert [process.said[-1] for process in case.spawned[:2]] == ["leave"] * 2


def test_a_guest_that_answers_nothing_is_killed_as_any_other() -> None:
    case = succeeded(started())
    case.spawned[0].stuck = True
    with Log():
        case.workers.apply(snapshot(B))
        case.pass_time(ANSWER_LIMIT + 1)
    assert case.spawned[0].killed
    assert not case.spawned[1].killed


def test_a_guest_that_dies_meanwhile_is_replaced() -> None:
    case = succeeded(started())
    case.pass_time(0.2)
    with Log() as log:
        case.spawned[0].die()
        case.pass_time(0.2)
    assert log.texts == ["worker 100 has ended by SIGKILL: its connections are lost"]
    stand_in = case.spawned[4]
    assert stand_in.said[:2] == ["apply", "open"]
    come_up(case)
    assert stand_in.said[-1] == case.spawned[1].said[-1] == "leave"
    assert [each.said[-1] for each in case.spawned[2:4]] == ["open"] * 2


def leaving() -> Case:
    """A program whose first workers are still there, after a restart."""
    before = started()
    before.workers.crew.restart()
    before.flow()
    assert states(before) == ["leaving", "leaving", "serving", "serving"]
    return before


def test_a_guest_that_was_leaving_is_not_replaced_and_not_told_again() -> None:
    case = succeeded(leaving())
    assert states(case)[:2] == ["leaving", "leaving"]
    with Log() as log:
        case.spawned[0].die("with status 0")
        come_up(case)
    assert log.texts == []
    assert case.spawned[1].said.count("leave") == 1
    assert len(case.spawned) == 6


def test_a_guest_that_was_leaving_and_does_not_end_is_killed() -> None:
    case = succeeded(leaving())
    with Log():
        come_up(case)
        case.pass_time(snapshot(A).services[0].service.drain_timeout + ANSWER_LIMIT + 1)
    assert all(process.killed for process in case.spawned[:4])
    assert states(case) == ["serving"] * 2


def test_a_guest_that_was_starting_is_of_no_use() -> None:
    before = Case(1)
    before.workers.start()
    before.spawned[0].stuck = True
    before.flow()
    assert states(before) == ["starting"]
    case = Case(1, None, before)
    with Log() as log:
        case.start()
        case.pass_time(0.2)
    assert case.spawned[0].killed
    assert log.texts == ["1 fresh workers have taken over"] or log.texts == []
    assert states(case) == ["serving"]
    assert len(case.spawned) == 2


def test_fresh_workers_that_do_not_come_up_leave_the_guests_and_are_tried_again() -> None:
    case = Case(2, None, started())
    case.cannot_spawn = OSError("no memory")
    case.workers.apply(snapshot(A))
    case.start()
    renewed = outcome(case.workers.crew.renewed())
    with Log() as log:
        case.pass_time(0.2)
        assert renewed[0].check(NotRestarted)
        assert "no memory" in renewed[0].getErrorMessage()
        assert "no memory" in log.texts[0]
        assert not any("leave" in process.said for process in case.spawned)
        assert states(case) == ["serving"] * 2
        # Whoever asks now waits for the next time.
        again = outcome(case.workers.crew.renewed())
        case.cannot_spawn = None
        case.pass_time(RENEW_AFTER)
    assert again == [None]
    assert [process.said[-1] for process in case.spawned] == ["leave"] * 2 + ["open"] * 2
    assert outcome(case.workers.crew.renewed()) == [None]


def test_a_program_with_workers_of_its_own_has_nobody_to_wait_for() -> None:
    assert outcome(started().workers.crew.renewed()) == [None]


def test_nobody_waits_for_fresh_workers_of_a_proxy_that_stops() -> None:
    case = Case(2, None, started())
    case.cannot_spawn = OSError("no memory")
    case.start()
    with Log():
        case.pass_time(0.2)
    waiting = outcome(case.workers.crew.renewed())
    case.workers.stop(1.0)
    case.flow()
    assert waiting[0].check(NotRestarted)
    for process in case.spawned:
        process.die("with status 0")
    case.pass_time(0.5)
    assert case.clock.getDelayedCalls() == []


def test_a_slot_of_a_guest_is_nobody_else_s() -> None:
    case = succeeded(started())
    case.pass_time(0.2)
    slots = [process.slot for process in case.spawned]
    assert len(set(slots)) == 4
    come_up(case)
    for process in case.spawned[:2]:
        process.die("with status 0")
    case.pass_time(0.2)
    assert case.workers.crew._free[-2:] == slots[:2]


def test_more_guests_than_slots_keep_nobody_from_taking_over() -> None:
    case = Case(1, None, leaving())
    with Log():
        case.start()
        case.pass_time(0.2)
    assert [process.said[-1] for process in case.spawned] == ["leave"] * 4 + ["open"]
    for process in case.spawned[:4]:
        process.die("with status 0")
    case.pass_time(0.2)
    assert outcome(case.workers.crew.restart()) == []


def test_what_guests_ask_is_answered() -> None:
    before = started()
    made: Deferred[object] = Deferred()
    before.workers.certificate_wanted = lambda name: Deferred()
    answer = outcome(before.spawned[0].channel.ask("certificate", name="app.example"))
    before.flow()
    case = Case(2, None, before)
    case.workers.certificate_wanted = lambda name: made  # type: ignore[assignment, return-value]
    case.start()
    assert answer == []
    made.callback(object())
    case.pass_time(0.2)
    assert answer == [None]


def test_what_guests_say_is_heard_the_rest_of_a_message_included() -> None:
    before = started()
    message = encode({"do": "lines"}, b"one\ntwo\n")
    end = before.spawned[0].pipe.transports[1]
    end.write(message[:-4])
    before.flow()
    assert before.lines == []
    case = Case(2, None, before)
    end.write(message[-4:])
    case.start()
    assert case.lines == ["one\ntwo\n"]


def test_what_the_old_program_had_asked_is_answered_to_nobody() -> None:
    before = started()
    slow: Deferred[dict[str, Any]] = Deferred()
    before.spawned[0].answers["measure"] = slow
    lost = outcome(before.workers.measure())
    before.flow()
    case = Case(2, None, before)
    case.workers.apply(snapshot(A))
    case.start()
    answered = outcome(case.workers.apply(snapshot(B)))
    slow.callback({})
    case.pass_time(0.2)
    assert lost == []
    assert answered == [None]
    assert not case.spawned[0].killed


# Quiet.


def quiet(case: Case) -> list[Any]:
    return outcome(Deferred.fromCoroutine(case.workers.crew.quiet()))


def test_it_is_quiet_when_workers_have_heard_what_was_said() -> None:
    case = started()
    slow: Deferred[None] = Deferred()
    case.spawned[0].answers["ping"] = slow
    case.workers.apply(snapshot(B))
    result = quiet(case)
    assert result == []
    case.flow()
    assert result == []
    slow.callback(None)
    case.flow()
    assert result == [None]
    assert [process.snapshot for process in case.spawned] == [snapshot(B)] * 2


def test_it_is_not_quiet_while_something_new_is_said() -> None:
    case = started()
    result = quiet(case)
    case.workers.apply(snapshot(B))
    case.flow()
    assert result == []
    case.pass_time(0.2)
    assert result == [None]


def test_it_is_not_quiet_while_others_take_over() -> None:
    case = started()
    case.answers["open"] = Deferred()
    case.workers.crew.restart()
    result = quiet(case)
    case.pass_time(1)
    assert result == []
    case.answers["open"].callback(None)
    case.pass_time(0.2)
    assert result == [None]


@pytest.mark.parametrize("known", [False, True], ids=["meanwhile", "before"])
def test_it_is_not_quiet_while_a_process_ends(known: bool) -> None:
    case = started()
    process = case.spawned[0]
    with Log():
        result = quiet(case) if not known else []
        process.pipe.cut()
        result = quiet(case) if known else result
        case.pass_time(0.5)
        assert result == []
        process.die()
        case.pass_time(0.5)
    assert result == [None]


def test_it_is_not_quiet_when_who_was_asked_last_is_gone() -> None:
    case = started(1)
    result = quiet(case)
    with Log():
        case.spawned[0].pipe.cut()
        assert result == []
        case.spawned[0].die()
        case.pass_time(0.5)
    assert result == [None]
    assert [guest.pid for guest in case.guests()] == [101]


def test_whoever_stops_waiting_for_quiet_is_not_told_that_it_is() -> None:
    case = started()
    waiting = Deferred.fromCoroutine(case.workers.crew.quiet())
    result = outcome(waiting)
    waiting.cancel()
    assert result[0].check(CancelledError)
    case.pass_time(0.2)
    assert case.alive() == case.spawned


def test_workers_that_are_being_stopped_are_handed_on_to_nobody() -> None:
    case = started()
    early = quiet(case)
    case.workers.stop(7.0)
    late = quiet(case)
    case.flow()
    assert [result[0].check(NotRestarted) for result in (early, late)] == [NotRestarted] * 2


def test_of_a_worker_that_dies_the_successor_is_handed_on() -> None:
    case = started()
    with Log():
        result = quiet(case)
        case.spawned[0].die()
        case.pass_time(0.5)
    assert result == [None]
    assert [guest.pid for guest in case.guests()] == [101, 102]
    assert [guest.state for guest in case.guests()] == ["serving"] * 2


# What was counted.


REQUESTS = "kamal_proxy_http_requests_total"


def counting(case: Case, *numbers: int) -> None:
    for process, number in zip(case.spawned, numbers, strict=False):
        process.answers["measure"] = {REQUESTS: [[["app", "GET", "200"], [number]]]}


def total(case: Case) -> float:
    (series,) = measured(case)[REQUESTS]
    number: float = series[1][0]
    return number


def test_counters_go_on_where_they_were() -> None:
    before = started()
    counting(before, 2, 3)
    assert total(before) == 5
    with Log():
        before.spawned[0].die()
        before.pass_time(0.2)
    assert total(before) == 5
    case = Case(2, None, before)
    case.workers.apply(snapshot(A))
    with Log():
        case.start()
        assert total(case) == 5
        case.pass_time(0.2)
        assert total(case) == 5
        for process in case.spawned[:3]:
            process.die("with status 0")
        case.pass_time(0.2)
    assert total(case) == 5
    counting(case, 2, 3, 0, 7, 1)
    assert total(case) == 13


def test_what_a_guest_had_counted_is_not_lost_when_it_is_killed_before_it_was_asked() -> None:
    before = started()
    counting(before, 2, 3)
    assert total(before) == 5
    case = succeeded(before)
    with Log():
        case.spawned[0].die()
        case.pass_time(0.2)
    assert total(case) == 5


# One end of a channel, handed on.


def handed_on(channel: Channel, pipe: Pipe, **handlers: Any) -> Channel:
    heir = Channel()
    heir.handlers = handlers
    pipe.hand_on(heir)
    heir.resume(channel.memory())
    return heir


def test_numbers_of_questions_go_on() -> None:
    asked: list[int] = []
    theirs = Channel()
    theirs.handlers = {"ask": lambda message, load: asked.append(message["id"])}
    ours = Channel()
    pipe = Pipe(ours, theirs)
    ours.ask("ask")
    ours.tell("ask", id=None)
    heir = handed_on(ours, pipe)
    answer = outcome(heir.ask("ask"))
    pipe.flow()
    pipe.flow()
    assert asked[0] != asked[-1]
    assert answer == [None]


def test_a_question_that_was_answered_is_not_answered_again() -> None:
    ours, theirs = Channel(), Channel()
    ours.handlers = {"quick": lambda message, load: "once"}
    pipe = Pipe(ours, theirs)
    answer = outcome(theirs.ask("quick"))
    pipe.flow()
    memory = ours.memory()
    assert memory["unanswered"] == []
    again: list[Any] = []
    handed_on(ours, pipe, quick=lambda message, load: again.append(message))
    pipe.flow()
    assert answer == ["once"]
    assert again == []


def test_an_answer_of_the_old_owner_says_nothing_more() -> None:
    """Both processes are one: what the old program was about has ended with it."""
    ours, theirs = Channel(), Channel()
    ours.handlers = {"slow": lambda message, load: Deferred()}
    pipe = Pipe(ours, theirs)
    answer = outcome(theirs.ask("slow", what="x"))
    pipe.flow()
    heard: list[str] = []

    def slow(message: Any, load: bytes) -> str:
        heard.append(message["what"])
        return "at last"

    handed_on(ours, pipe, slow=slow)
    pipe.flow()
    assert (heard, answer) == (["x"], ["at last"])
