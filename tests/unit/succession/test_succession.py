"""The end of the old program: it makes way if the new one comes up."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from kproxy.control.deployment import OperationFailed
from kproxy.listening import Port
from kproxy.signals import release_signals
from kproxy.succession.command import CommandLine
from kproxy.succession.legacy import VARIABLE, Legacy, take
from kproxy.succession.succession import (
    A_MOMENT,
    Estate,
    NotReplaced,
    Succession,
    rehearse,
    tell_how_it_went,
)
from kproxy.threads import at_once
from kproxy.workers.channel import Memory
from kproxy.workers.guests import Guest
from tests.unit.control.support import Log

WAITING, REHEARSING, REPLACING = (
    {"event": "restart", "step": step} for step in ("waiting", "rehearsing", "replacing")
)


def program(code: str, folder: Path) -> CommandLine:
    """A program that does this, where it is started for a rehearsal."""
    start = f"import json, os, sys\nlegacy = json.load(open(int(os.environ[{VARIABLE!r}])))\n"
    # Quick to start: it needs nothing of what is installed.
    return CommandLine(
        (sys.executable, "-I", "-S", "-c", start + code), ("kproxy", "--config", "x"), str(folder)
    )


def says(error: str) -> str:
    return f"os.write(legacy['report'], json.dumps(dict(error={error!r})).encode())\n"


COMES_UP = says("")


class Replaced(Exception):
    """There is another program in this process now."""


@dataclass
class Crew:
    """Workers that are quiet when they are told to be."""

    guest: Guest
    silence: Deferred[None] = field(default_factory=lambda: succeed(None))
    asked: int = 0

    async def quiet(self) -> None:
        await self.silence

    def guests(self) -> list[Guest]:
        self.asked += 1
        return [self.guest]


class Case:
    """A process, and what becomes of it.

    @ivar events: what whoever waits is told.
    @ivar executed: what ran in the place of the program.
    @ivar busy: whether other operations are under way.
    """

    def __init__(self, folder: Path, ends: tuple[int, int]) -> None:
        self.folder = folder
        self.clock = Clock()
        self.events: list[Any] = []
        self.executed: list[tuple[str, list[str], str, Legacy]] = []
        self.inheritable: list[bool] = []
        self.flushed = 0
        self.busy = False
        self.saved: Deferred[None] = succeed(None)
        self.cannot_execute: OSError | None = None
        self.ends = ends
        memory = Memory(unread="", said=3, unanswered=[])
        self.crew = Crew(Guest(11, ends[1], 0, 1.0, "serving", memory))
        self.command = program(COMES_UP, folder)
        self.threads = at_once

    def succession(self) -> Succession:
        crew: Any = self.crew
        estate = Estate(crew, lambda: self.busy, lambda: self.saved, self.legacy, self.flush)
        return Succession(
            self.command, lambda: ["--pidfile="], estate, self.clock, self.threads, self.execute
        )

    def legacy(self) -> Legacy:
        return Legacy(2, "1.0", ports=(Port("::", 80, self.ends[0]),))

    def flush(self) -> None:
        self.flushed += 1

    def execute(self, path: str, argv: list[str], environ: Mapping[str, str]) -> None:
        if self.cannot_execute is not None:
            raise self.cannot_execute
        self.inheritable = [os.get_inheritable(end) for end in self.ends]
        legacy = take(dict(environ, **{VARIABLE: str(os.dup(int(environ[VARIABLE])))}))
        assert legacy is not None
        assert {k: v for k, v in environ.items() if k != VARIABLE} == dict(os.environ)
        self.executed.append((path, argv, os.getcwd(), legacy))
        raise Replaced

    def run(self, succession: Succession | None = None) -> list[Any]:
        results: list[Any] = []
        with Log():
            (succession or self.succession()).run(self.events.append).addBoth(results.append)
        return results


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    ends = os.pipe()
    yield Case(there, ends)
    release_signals()
    for end in ends:
        os.close(end)


def held() -> set[int]:
    """The signals that wait."""
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])}


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


# It makes way.


def test_a_program_that_comes_up_takes_over(case: Case) -> None:
    (failure,) = case.run()
    assert failure.check(Replaced)
    assert case.events == [REHEARSING, REPLACING]
    ((path, argv, folder, legacy),) = case.executed
    assert path == argv[0] == sys.executable
    assert argv[-4:] == ["--pidfile=", "kproxy", "--config", "x"]
    assert folder == str(case.folder)
    assert legacy.generation == 2
    assert legacy.ports == case.legacy().ports
    assert legacy.workers == (case.crew.guest,)
    assert case.inheritable == [True, True]
    assert case.flushed == 1


def test_signals_wait_for_the_new_program(case: Case) -> None:
    case.run()
    assert held() >= {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


def test_it_waits_for_other_operations_and_says_so_once(case: Case) -> None:
    case.busy = True
    results = case.run()
    for _ in range(20):
        case.clock.advance(A_MOMENT)
    assert case.events == [WAITING]
    assert results == []
    case.busy = False
    case.clock.advance(A_MOMENT)
    assert results[0].check(Replaced)
    assert case.events == [WAITING, REHEARSING, REPLACING]


def test_it_waits_for_those_that_have_begun_since(case: Case) -> None:
    def rehearsing(work: Any, done: Any) -> None:
        work()
        case.busy = True
        done()

    case.threads = rehearsing
    results = case.run()
    assert case.events == [REHEARSING, REPLACING, WAITING]
    case.clock.advance(A_MOMENT)
    assert results == []
    case.busy = False
    case.clock.advance(A_MOMENT)
    assert results[0].check(Replaced)


def test_it_waits_until_the_state_is_safe(case: Case) -> None:
    case.saved = Deferred()
    results = case.run()
    assert (results, case.events) == ([], [])
    case.saved.callback(None)
    assert results[0].check(Replaced)


def test_it_waits_until_the_workers_have_heard_all(case: Case) -> None:
    case.crew.silence = Deferred()
    results = case.run()
    assert (results, case.events) == ([], [])
    case.crew.silence.callback(None)
    assert results[0].check(Replaced)


def test_what_begins_while_it_waits_for_silence_is_waited_for(case: Case) -> None:
    case.crew.silence = Deferred()
    results = case.run()
    case.busy = True
    case.crew.silence.callback(None)
    assert case.events == [WAITING]
    assert results == []
    case.busy = False
    case.clock.advance(A_MOMENT)
    assert results[0].check(Replaced)


# It goes on.


def test_a_program_that_does_not_come_up_changes_nothing(case: Case) -> None:
    case.command = program(says("deploy.yml:1:1: what: is unknown"), case.folder)
    before = (os.getcwd(), held(), open_descriptors())
    (failure,) = case.run()
    assert failure.check(NotReplaced)
    assert failure.getErrorMessage() == (
        "the old program goes on: the new one does not come up: deploy.yml:1:1: what: is unknown"
    )
    assert case.events == [REHEARSING]
    assert case.executed == []
    assert case.crew.asked == 0
    assert (os.getcwd(), held(), open_descriptors()) == before
    assert [os.get_inheritable(end) for end in case.ends] == [False, False]


def test_a_program_that_can_not_be_run_changes_nothing(case: Case) -> None:
    case.cannot_execute = FileNotFoundError(2, "No such file or directory")
    before = (os.getcwd(), held(), open_descriptors())
    (failure,) = case.run()
    assert failure.check(NotReplaced)
    assert "No such file or directory" in failure.getErrorMessage()
    assert (os.getcwd(), held(), open_descriptors()) == before
    assert [os.get_inheritable(end) for end in case.ends] == [False, False]


def test_a_folder_that_is_gone_changes_nothing(case: Case) -> None:
    case.threads = lambda work, done: (work(), case.folder.rmdir(), done())[-1]
    before = (os.getcwd(), held(), open_descriptors())
    (failure,) = case.run()
    assert failure.check(NotReplaced)
    assert case.executed == []
    assert (os.getcwd(), held(), open_descriptors()) == before


def test_after_a_failure_it_can_be_tried_again(case: Case) -> None:
    case.cannot_execute = OSError("busy")
    succession = case.succession()
    assert case.run(succession)[0].check(NotReplaced)
    case.cannot_execute = None
    assert case.run(succession)[0].check(Replaced)


def test_one_at_a_time(case: Case) -> None:
    case.busy = True
    succession = case.succession()
    first = case.run(succession)
    (failure,) = case.run(succession)
    assert failure.check(OperationFailed)
    assert failure.getErrorMessage() == "the proxy is being restarted already"
    case.busy = False
    case.clock.advance(A_MOMENT)
    assert first[0].check(Replaced)


def test_whoever_gives_up_while_it_waits_leaves_everything_as_it_was(case: Case) -> None:
    case.busy = True
    succession = case.succession()
    results: list[Any] = []
    waiting = succession.run(case.events.append)
    waiting.addBoth(results.append)
    waiting.cancel()
    assert results[0].check(CancelledError)
    case.busy = False
    case.clock.advance(A_MOMENT)
    assert case.executed == []
    assert case.clock.getDelayedCalls() == []
    assert case.run(succession)[0].check(Replaced)


def test_whoever_gives_up_during_the_rehearsal_leaves_everything_as_it_was(case: Case) -> None:
    ends: list[Any] = []
    case.threads = lambda work, done: (work(), ends.append(done))[-1]
    results: list[Any] = []
    waiting = case.succession().run(case.events.append)
    waiting.addBoth(results.append)
    waiting.cancel()
    ends[0]()
    assert results[0].check(CancelledError)
    assert case.executed == []


# Rehearsals.


def tried(case: Case, code: str) -> str:
    return rehearse(program(code, case.folder), ["--pidfile="], case.legacy())


def test_a_rehearsal_has_the_sockets_but_not_the_workers(case: Case) -> None:
    code = (
        "assert legacy['workers'] == [], legacy\n"
        "assert sys.argv[1:] == ['--pidfile=', '--logfile=-', 'kproxy', '--config', 'x'], sys.argv\n"
        f"assert os.getcwd() == {str(case.folder)!r}\n"
        "os.fstat(legacy['ports'][0]['descriptor'])\n"
        "assert sys.stdin.read() == ''\n"
    )
    assert tried(case, code + COMES_UP) == ""


def test_what_a_rehearsal_leaves_open_is_nothing(case: Case) -> None:
    before = open_descriptors()
    tried(case, COMES_UP)
    tried(case, "sys.exit('no')")
    assert open_descriptors() == before


def test_what_a_program_says_at_its_end_is_why_it_does_not_come_up(case: Case) -> None:
    assert tried(case, "sys.exit('deploy.yml: no')") == "deploy.yml: no"
    assert tried(case, "print('usage: ...')\nsys.exit(2)") == "usage: ..."


def test_of_much_the_end_is_told(case: Case) -> None:
    said = tried(case, "sys.stderr.write('x' * 100000 + 'ImportError: yaml')\nsys.exit(1)")
    assert said.endswith("xImportError: yaml")
    assert len(said) < 5000


@pytest.mark.parametrize("status", [0, 3])
def test_a_program_that_ends_without_a_word_does_not_come_up(case: Case, status: int) -> None:
    assert tried(case, f"sys.exit({status})") == f"it ended with status {status}"


def test_a_program_that_is_not_there_does_not_come_up(case: Case) -> None:
    command = CommandLine(("/no/such/python",), (), str(case.folder))
    assert "No such file" in rehearse(command, [], case.legacy())


def test_how_it_went_is_told_in_a_few_words(case: Case, tmp_path: Path) -> None:
    report = os.open(tmp_path / "report", os.O_RDWR | os.O_CREAT)
    tell_how_it_went(Legacy(report=report), "ü" * 100_000)
    os.close(report)
    assert json.loads((tmp_path / "report").read_text())["error"] == "ü" * 4000
