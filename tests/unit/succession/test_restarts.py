"""What ``kproxy restart`` asks for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from kproxy import __version__
from kproxy.control.deployment import OperationFailed
from kproxy.control.progress import Tell, untold
from kproxy.succession.restarts import Restarts
from tests.unit.control.support import Log


class Crew:
    """Workers that are restarted when they are told to be.

    @ivar restarts: how often they were asked.
    """

    def __init__(self) -> None:
        self.restarts = 0
        self.restarted: Deferred[None] = succeed(None)
        self.taken_over: Deferred[None] = Deferred()

    def restart(self) -> Deferred[None]:
        self.restarts += 1
        return self.restarted

    def renewed(self) -> Deferred[None]:
        return self.taken_over

    def describe(self) -> list[Any]:
        return [{"pid": 11, "state": "serving", "seconds": 1}]

    def trouble(self) -> str:
        return "one is missing"


class Succession:
    def __init__(self) -> None:
        self.told: list[Tell] = []

    def run(self, tell: Tell) -> Deferred[None]:
        self.told.append(tell)
        return Deferred()


def outcome(waiting: Deferred[None]) -> list[Any]:
    results: list[Any] = []
    waiting.addBoth(lambda result: results.append(result))
    return results


def why_not(waiting: Deferred[None]) -> str:
    (failure,) = outcome(waiting)
    failure.trap(OperationFailed)
    return str(failure.getErrorMessage())


def restarts(crew: Any = None, succession: Any = None, generation: int = 1) -> Restarts:
    return Restarts(crew, succession, generation)


def test_workers_are_restarted_by_themselves() -> None:
    crew, succession = Crew(), Succession()
    assert outcome(restarts(crew, succession).restart(False, untold)) == [None]
    assert crew.restarts == 1
    assert succession.told == []


def test_the_program_is_replaced_with_all() -> None:
    crew, succession = Crew(), Succession()
    assert outcome(restarts(crew, succession).restart(True, untold)) == []
    assert crew.restarts == 0
    assert succession.told == [untold]


def test_a_program_that_was_started_in_another_way_is_not_replaced() -> None:
    crew = Crew()
    assert "twistd kproxy" in why_not(restarts(crew).restart(True, untold))
    assert crew.restarts == 0


def test_without_workers_there_is_no_restart() -> None:
    for everything in (False, True):
        assert "no workers" in why_not(restarts().restart(everything, untold))


def test_a_restart_by_a_signal_that_fails_is_logged() -> None:
    crew = Crew()
    crew.restarted = fail(OperationFailed("no memory"))
    with Log() as log:
        restarts(crew).by_signal()
        restarts().by_signal()
    assert log.texts[0] == "there was no restart: no memory"
    assert "no workers" in log.texts[1]


def test_the_end_of_a_restart_is_when_the_workers_of_the_next_program_have_taken_over() -> None:
    crew = Crew()
    restarted = outcome(restarts(crew, None, 3).restarted(2))
    assert restarted == []
    crew.taken_over.callback(None)
    assert restarted == [None]


def test_the_same_program_as_before_is_no_end() -> None:
    for generation in (3, 4):
        assert "the old program goes on" in why_not(restarts(Crew(), None, 3).restarted(generation))


def test_there_is_something_to_tell() -> None:
    assert restarts(None, None, 2).describe() == {"version": __version__, "generation": 2}
    told = restarts(Crew(), None, 2).describe()
    assert told["workers"] == [{"pid": 11, "state": "serving", "seconds": 1}]
    assert told["workers_trouble"] == "one is missing"
