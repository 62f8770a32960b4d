"""All workers, as the control plane sees them: one data plane."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from kproxy.config.model import Service, Target, WrapperUse
from kproxy.dataplane import TargetReport
from kproxy.snapshot import ServiceState, Snapshot
from kproxy.tree import WrapperFailed
from kproxy.workers.crew import PING_EVERY, RENEW_AFTER, NotRestarted
from kproxy.workers.member import ANSWER_LIMIT, CUT_AFTER, LAST_CHANCE, START_LIMIT
from kproxy.workers.pace import AT_ONCE
from tests.unit.control.support import Log
from tests.unit.workers.support import Case

A, B = Target("a", 80), Target("b", 80)


def snapshot(*targets: Target, **options: Any) -> Snapshot:
    service = Service("app", targets, ("app.example",), **options)
    return Snapshot((ServiceState(service, targets),))


def outcome(waiting: Deferred[Any]) -> list[Any]:
    results: list[Any] = []
    waiting.addBoth(results.append)
    return results


def started(count: int = 2, **answers: Any) -> Case:
    case = Case(count, answers)
    case.workers.apply(snapshot(A))
    case.start()
    return case


# What is served.


def test_a_worker_accepts_nothing_before_it_knows_what_to_serve() -> None:
    case = started()
    assert [process.said for process in case.spawned] == [["apply", "open"]] * 2
    assert all(process.snapshot == snapshot(A) for process in case.spawned)


def test_a_snapshot_is_applied_when_all_workers_say_so() -> None:
    case = started()
    slow: Deferred[None] = Deferred()
    case.spawned[1].answers["apply"] = slow
    applied = outcome(case.workers.apply(snapshot(B)))
    case.flow()
    assert [process.snapshot for process in case.spawned] == [snapshot(B)] * 2
    assert applied == []
    slow.callback(None)
    case.flow()
    assert applied == [None]


def test_what_can_not_be_served_is_refused_at_once_and_nobody_hears_of_it() -> None:
    case = started()
    bad = snapshot(B, wrappers=(WrapperUse("no-such-wrapper", None),))
    with pytest.raises(WrapperFailed):
        case.workers.apply(bad)
    case.flow()
    assert [process.said for process in case.spawned] == [["apply", "open"]] * 2


def test_options_that_can_not_be_sent_are_refused_and_the_next_snapshot_is_served() -> None:
    case = started()
    bad = snapshot(B, wrappers=(WrapperUse("lenient", lambda: None),))
    with pytest.raises(WrapperFailed, match="can't be sent"):
        case.workers.apply(bad)
    case.workers.apply(snapshot(A, B))
    case.flow()
    assert case.spawned[0].snapshot == snapshot(A, B)


def test_a_target_is_drained_when_it_is_in_all_workers_which_have_heard_of_the_snapshot() -> None:
    case = started()
    slow: Deferred[None] = Deferred()
    case.spawned[0].answers["drain"] = slow
    case.workers.apply(snapshot(B))
    drained = outcome(case.workers.drain("app", [A], 5.0))
    case.flow()
    assert case.spawned[0].said == ["apply", "open", "apply", "drain"]
    message = case.spawned[0].messages[-1]
    assert (message["service"], message["targets"], message["timeout"]) == ("app", [["a", 80]], 5.0)
    assert drained == []
    slow.callback(None)
    case.flow()
    assert drained == [None]


def test_a_report_counts_the_requests_of_all_workers() -> None:
    case = started()
    case.spawned[0].answers["report"] = {"app": [["a:80", 2, False], ["old:80", 1, True]]}
    case.spawned[1].answers["report"] = {"app": [["a:80", 3, False]]}
    assert case.workers.report() == {"app": [TargetReport("a:80", 0)]}
    refreshed = outcome(case.workers.refresh())
    case.flow()
    assert refreshed == [None]
    assert case.workers.report() == {
        "app": [TargetReport("a:80", 5), TargetReport("old:80", 1, True)]
    }


def measured(case: Case) -> Any:
    results = outcome(case.workers.measure())
    case.flow()
    return results[0]


def test_what_all_workers_count_is_added_up_and_kept_when_they_end() -> None:
    case = started()
    for process, requests in zip(case.spawned, (2, 3), strict=True):
        process.answers["measure"] = {
            "kamal_proxy_http_requests_total": [[["app", "GET", "200"], [requests]]],
            "kproxy_client_connections": [[[], [1]]],
        }
    series = [(("app", "GET", "200"), [5])]
    assert measured(case)["kamal_proxy_http_requests_total"] == series
    assert measured(case)["kproxy_client_connections"] == [((), [2])]
    with Log():
        case.spawned[0].die()
        case.pass_time(0.2)
    assert measured(case)["kamal_proxy_http_requests_total"] == series
    assert measured(case)["kproxy_client_connections"] == [((), [1])]


def test_what_a_worker_has_counted_is_kept_when_it_ends_instead_of_answering() -> None:
    case = started(1)
    case.spawned[0].answers["measure"] = {"kproxy_tls_handshakes_total": [[["failed"], [4]]]}
    measured(case)
    results = outcome(case.workers.measure())
    with Log():
        case.spawned[0].die()
        case.pass_time(0.2)
    assert results == [{"kproxy_tls_handshakes_total": [(("failed",), [4])]}]


def test_a_worker_that_leaves_tells_what_it_has_counted_last() -> None:
    case = started(1)
    case.spawned[0].channel.tell(
        "measured", measured={"kproxy_tls_handshakes_total": [[["x"], [4]]]}
    )
    case.workers.crew.restart()
    case.flow()
    case.spawned[0].die("with status 0")
    case.pass_time(0.2)
    assert measured(case) == {"kproxy_tls_handshakes_total": [(("x",), [4])]}


# What workers say.


def test_the_control_plane_hears_of_targets_that_refuse() -> None:
    case = started()
    heard: list[Any] = []
    case.workers.target_refused = lambda service, target: heard.append((service, target))
    case.spawned[0].channel.tell("refused", service="app", host="a", port=80)
    case.flow()
    assert heard == [("app", A)]


def test_a_worker_is_answered_when_a_certificate_is_there_and_after_the_snapshot_with_it() -> None:
    case = started()
    made: Deferred[object] = Deferred()
    asked: list[str] = []

    def wanted(name: str) -> Any:
        asked.append(name)
        return made

    case.workers.certificate_wanted = wanted
    process = case.spawned[0]
    answer = outcome(process.channel.ask("certificate", name="app.example"))
    case.flow()
    assert (asked, answer) == (["app.example"], [])
    case.workers.apply(snapshot(A, B))
    made.callback(object())
    while not answer:
        case.flow()
    assert answer == [None]
    assert process.snapshot == snapshot(A, B)


def test_a_worker_hears_that_there_is_no_certificate() -> None:
    case = started()
    case.workers.certificate_wanted = lambda name: fail(LookupError("the CA refuses"))
    answer = outcome(case.spawned[0].channel.ask("certificate", name="app.example"))
    case.flow()
    assert answer[0].getErrorMessage() == "the CA refuses"


def test_lines_of_all_workers_go_to_one_log() -> None:
    case = started()
    for number, process in enumerate(case.spawned):
        process.channel.tell("lines", f"zürich {number}\nx\n".encode())
    case.flow()
    assert case.lines == ["zürich 0\nx\n", "zürich 1\nx\n"]


def test_what_a_worker_logs_is_logged() -> None:
    case = started()
    with Log() as log:
        case.spawned[1].channel.tell(
            "event", level="error", logger="x.y", text="it {broke}", traceback=None
        )
        case.flow()
    assert log.texts == ["it {broke} (worker 101)"]
    assert log.events[0]["log_namespace"] == "x.y"


# Their life.


def test_a_worker_that_ends_is_replaced_with_the_current_snapshot() -> None:
    case = started()
    case.workers.apply(snapshot(B))
    case.flow()
    with Log() as log:
        case.spawned[0].die()
        case.pass_time(0.2)
    assert log.texts == ["worker 100 has ended by SIGKILL: its connections are lost"]
    assert [process.pid for process in case.alive()] == [101, 102]
    assert case.spawned[2].said == ["apply", "open"]
    assert case.spawned[2].snapshot == snapshot(B)
    assert case.workers.crew.replaced == 1


def test_nobody_waits_for_a_worker_that_has_ended() -> None:
    case = started()
    for process in case.spawned:
        process.answers.update(apply=Deferred(), drain=Deferred())
    waits = [
        outcome(wait)
        for wait in (case.workers.apply(snapshot(B)), case.workers.drain("app", [A], 5.0))
    ]
    case.flow()
    for process in case.spawned[:2]:
        process.die()
    assert waits == [[None], [None]]


def test_a_worker_that_does_not_answer_is_killed_and_nobody_waits_longer() -> None:
    case = started()
    case.spawned[0].stuck = True
    applied = outcome(case.workers.apply(snapshot(B)))
    case.pass_time(ANSWER_LIMIT - 0.5)
    assert applied == []
    case.pass_time(1)
    assert applied == [None]
    assert case.spawned[0].killed
    assert len(case.alive()) == 2


def test_nobody_waits_for_a_worker_whose_end_is_not_noticed() -> None:
    case = started()
    process = case.spawned[0]
    process.immortal = True
    process.answers["report"] = Deferred()
    refreshed = outcome(case.workers.refresh())
    with Log():
        case.pass_time(ANSWER_LIMIT + LAST_CHANCE + CUT_AFTER - 0.1)
        assert process.killed
        assert refreshed == []
        case.pass_time(0.5)
    assert refreshed == [None]
    assert [each["pid"] for each in case.workers.crew.describe()] == [101, 102]


def test_a_worker_that_hangs_while_nothing_is_asked_is_found() -> None:
    case = started()
    case.spawned[0].stuck = True
    case.pass_time(PING_EVERY + ANSWER_LIMIT + 1)
    assert case.spawned[0].killed
    assert not case.spawned[1].killed


def test_a_worker_that_can_not_serve_is_replaced() -> None:
    case = started()
    case.spawned[0].answers["apply"] = ValueError("another version")
    applied = outcome(case.workers.apply(snapshot(B)))
    with Log() as log:
        case.pass_time(0.5)
    assert applied == [None]
    assert case.spawned[0].killed
    assert "(another version)" in log.texts[0]


def test_a_worker_that_does_not_come_up_is_killed() -> None:
    case = Case(1)
    case.workers.start()
    case.spawned[0].stuck = True
    case.pass_time(START_LIMIT + 1)
    assert case.spawned[0].killed
    assert case.spawned[1].said[:2] == ["apply", "open"]


def test_a_worker_that_is_slow_to_come_up_is_not_killed_for_what_it_is_told_meanwhile() -> None:
    case = Case(1)
    case.workers.start()
    (slow,) = case.spawned
    slow.stuck = True
    case.workers.apply(snapshot(B))
    case.pass_time(ANSWER_LIMIT + 1)
    assert not slow.killed
    slow.stuck = False
    case.flow()
    assert slow.said == ["apply", "apply", "open"]


def test_workers_that_end_again_and_again_are_started_ever_more_slowly() -> None:
    case = started(1)
    with Log() as log:
        for _ in range(AT_ONCE):
            case.alive()[0].die()
            case.pass_time(0.2)
            assert len(case.alive()) == 1
            assert case.workers.crew.trouble() == ""
        delays = []
        for _ in range(7):
            case.alive()[0].die()
            assert "do not stay up" in case.workers.crew.trouble()
            before = case.clock.seconds()
            while not case.alive():
                case.pass_time(0.1)
            delays.append(round(case.clock.seconds() - before))
    assert delays == [1, 2, 4, 8, 16, 30, 30]
    assert sum("do not stay up" in text for text in log.texts) == 7
    assert case.workers.crew.trouble() == ""


def test_a_machine_that_has_no_place_for_a_worker_is_asked_again() -> None:
    case = Case(1)
    case.cannot_spawn = OSError("no memory")
    with Log() as log:
        case.workers.start()
        case.pass_time(10)
        assert log.texts[0] == "no worker can be started: no memory"
        assert len(log.texts) < 20
        assert case.workers.crew.trouble() == "1 of 1 workers are missing: they do not stay up"
        case.cannot_spawn = None
        case.pass_time(10)
    assert case.spawned[0].said[:2] == ["apply", "open"]
    assert case.workers.crew.trouble() == ""


def test_stopping_waits_for_all_to_end_and_starts_none() -> None:
    case = started()
    stopped = outcome(case.workers.stop(7.0))
    case.flow()
    assert [process.said[-1] for process in case.spawned] == ["leave"] * 2
    assert case.spawned[0].messages[-1]["timeout"] == 7.0
    case.spawned[0].die("with status 0")
    case.pass_time(1)
    assert stopped == []
    case.spawned[1].die("with status 0")
    case.pass_time(1)
    assert stopped == [None]
    assert len(case.spawned) == 2


def test_a_worker_that_does_not_end_in_time_is_killed() -> None:
    case = started()
    stopped = outcome(case.workers.stop(7.0))
    case.pass_time(7 + ANSWER_LIMIT + 1)
    assert stopped == [None]
    assert all(process.killed for process in case.spawned)


# Restarts.


def test_fresh_workers_accept_before_the_old_ones_leave() -> None:
    case = started()
    case.workers.apply(snapshot(A, drain_timeout=9.0))
    case.flow()
    restarted = outcome(case.workers.crew.restart())
    old, fresh = case.spawned[:2], case.spawned[2:]
    for process in fresh:
        process.answers["open"] = Deferred()
    case.flow()
    assert [process.said for process in fresh] == [["apply", "open"]] * 2
    assert restarted == []
    assert not any("leave" in process.said for process in old)
    for process in fresh:
        process.answers["open"].callback(None)
    case.flow()
    assert restarted == [None]
    assert [process.said[-1] for process in old] == ["leave"] * 2
    assert (old[0].messages[-1]["timeout"], old[0].messages[-1]["grace"]) == (9.0, 5.0)


def test_workers_that_leave_are_told_on_of_all_changes_and_are_not_replaced() -> None:
    case = started()
    case.workers.crew.restart()
    case.flow()
    applied = outcome(case.workers.apply(snapshot(B)))
    drained = outcome(case.workers.drain("app", [A], 5.0))
    case.flow()
    assert (applied, drained) == ([None], [None])
    assert all(process.snapshot == snapshot(B) for process in case.spawned)
    assert case.spawned[0].said[-2:] == ["apply", "drain"]
    for process in case.spawned[:2]:
        process.die("with status 0")
    with Log() as log:
        case.pass_time(1)
    assert log.texts == []
    assert len(case.spawned) == 4
    assert [each["state"] for each in case.workers.crew.describe()] == ["serving"] * 2


def test_fresh_workers_that_do_not_come_up_leave_everything_as_it_was() -> None:
    case = started()
    restarted = outcome(case.workers.crew.restart())
    case.spawned[2].channel.tell("failed", error="SyntaxError: line 3")
    with Log():
        case.flow()
        case.pass_time(1)
    (failure,) = restarted
    assert failure.check(NotRestarted)
    assert failure.getErrorMessage() == (
        "the old workers go on, since the new ones do not start: SyntaxError: line 3"
    )
    assert [process.pid for process in case.alive()] == [100, 101]
    assert not any("leave" in process.said for process in case.alive())
    assert "open" not in case.spawned[3].said


@pytest.mark.parametrize("opening", [False, True], ids=["before", "while"])
def test_a_fresh_worker_that_dies_before_all_of_them_accept_is_replaced(opening: bool) -> None:
    case = started()
    opened: Deferred[None] = Deferred()
    case.answers["open"] = opened
    restarted = outcome(case.workers.crew.restart())
    dies, lives = case.spawned[2:]
    lives.stuck = not opening
    case.flow()
    with Log() as log:
        dies.die()
        case.pass_time(0.2)
        assert restarted == []
        lives.stuck = False
        opened.callback(None)
        case.pass_time(0.2)
    assert restarted == [None]
    assert log.texts == ["worker 102 has ended by SIGKILL: its connections are lost"]
    states = [each["state"] for each in case.workers.crew.describe()]
    assert states == ["leaving"] * 2 + ["serving"] * 2


def test_the_only_fresh_worker_is_replaced_if_it_dies_before_it_accepts() -> None:
    case = started(1)
    case.answers["open"] = Deferred()
    restarted = outcome(case.workers.crew.restart())
    case.flow()
    del case.answers["open"]
    with Log():
        case.spawned[1].die()
        case.pass_time(0.2)
    assert restarted == [None]
    assert [each["state"] for each in case.workers.crew.describe()] == ["leaving", "serving"]


def test_whoever_stops_waiting_for_fresh_workers_does_not_keep_them_from_taking_over() -> None:
    case = started()
    opened: Deferred[None] = Deferred()
    case.answers["open"] = opened
    restart = case.workers.crew.restart()
    case.flow()
    restart.cancel()
    opened.callback(None)
    case.flow()
    states = [each["state"] for each in case.workers.crew.describe()]
    assert states == ["leaving"] * 2 + ["serving"] * 2
    for process in case.spawned[:2]:
        process.die("with status 0")
    case.pass_time(0.2)
    assert outcome(case.workers.crew.restart()) == []


def test_a_restart_that_nobody_waits_for_any_more_is_given_up_while_workers_start() -> None:
    case = started()
    restart = case.workers.crew.restart()
    restart.addErrback(lambda failure: failure.trap(NotRestarted))
    restart.cancel()
    case.flow()
    assert [process.pid for process in case.alive()] == [100, 101]
    assert [each["state"] for each in case.workers.crew.describe()] == ["serving"] * 2


def test_a_socket_that_comes_later_is_for_fresh_workers_which_take_over() -> None:
    case = started()
    one, two = socket.socket(), socket.socket()
    with one, two, Log():
        case.workers.listen_tls(one)
        case.workers.listen_tls(two)
        case.pass_time(0.1)
        assert case.tls_sockets == [one, two]
        assert [process.said for process in case.spawned[2:]] == [["apply", "open"]] * 2
        assert [process.said[-1] for process in case.spawned[:2]] == ["leave"] * 2


def test_workers_that_can_not_be_replaced_for_a_socket_are_tried_to_be_again() -> None:
    case = started()
    with socket.socket() as sock, Log() as log:
        case.cannot_spawn = OSError("no memory")
        case.workers.listen_tls(sock)
        case.pass_time(0.1)
        assert "no worker can be started: no memory" in log.texts[0]
        case.cannot_spawn = None
        case.pass_time(RENEW_AFTER + 0.1)
    assert [process.said[-1] for process in case.spawned] == ["leave"] * 2 + ["open"] * 2


def test_a_socket_that_is_there_from_the_start_makes_nobody_leave() -> None:
    case = Case()
    with socket.socket() as sock:
        case.workers.listen_tls(sock)
        case.start()
        case.pass_time(0.2)
    assert len(case.spawned) == 2
    case.workers.stop(1.0)


def test_one_restart_at_a_time() -> None:
    case = started()
    first = outcome(case.workers.crew.restart())
    assert outcome(case.workers.crew.restart())[0].check(NotRestarted)
    case.flow()
    assert first == [None]
    for process in case.spawned[:2]:
        process.die("with status 0")
    case.pass_time(0.2)
    assert outcome(case.workers.crew.restart()) == []


def test_old_workers_that_linger_do_not_keep_others_from_being_restarted_for_ever() -> None:
    case = started(1)
    results = []
    for _ in range(4):
        results.append(outcome(case.workers.crew.restart()))
        case.flow()
    assert [result[0] for result in results[:3]] == [None] * 3
    assert "too many workers have not ended yet" in results[3][0].getErrorMessage()
    case.spawned[0].die("with status 0")
    case.pass_time(0.2)
    again = outcome(case.workers.crew.restart())
    case.flow()
    assert again == [None]


def test_the_slot_of_a_worker_that_has_ended_counts_for_nobody() -> None:
    case = started()
    first, second = case.spawned
    case.shares.say(first.slot, 0)
    case.shares.say(second.slot, 9)
    assert case.shares.least() == 0
    first.die()
    assert case.shares.least() == 9


def test_succeed_is_what_an_apply_without_workers_returns() -> None:
    case = Case()
    assert outcome(case.workers.apply(snapshot(A))) == outcome(succeed(None))
