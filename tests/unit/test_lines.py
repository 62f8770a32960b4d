"""The access log's writer: whole lines, many at once, never in a request's way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from kproxy.lines import FLUSH_AFTER, LineWriter
from tests.unit.test_spool import Threads


class Case:
    """A writer to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.threads = Threads()
        self.writer = LineWriter(self.clock, self.threads, path)

    def settle(self) -> None:
        """Let time pass until nothing waits."""
        for _ in range(5):
            self.clock.advance(FLUSH_AFTER)
            self.threads.run()

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "access.log")


@pytest.fixture
def errors() -> Iterator[list[dict[str, Any]]]:
    """What was logged meanwhile."""
    events: list[dict[str, Any]] = []
    observer = events.append
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def test_lines_wait_a_little_and_are_written_together(case: Case) -> None:
    for i in range(100):
        case.writer.write(f"{i}\n")
    case.clock.advance(FLUSH_AFTER / 2)
    case.writer.write("last\n")
    assert case.threads.jobs == []
    case.clock.advance(FLUSH_AFTER / 2)
    assert case.text == ""
    assert case.threads.run() == 1
    assert case.text == "".join(f"{i}\n" for i in range(100)) + "last\n"


def test_nothing_ticks_while_there_is_nothing_to_write(case: Case) -> None:
    assert case.clock.getDelayedCalls() == []
    case.writer.write("a\n")
    case.settle()
    assert case.clock.getDelayedCalls() == []


def test_lines_stay_in_order_while_the_disk_is_slow(case: Case) -> None:
    case.writer.write("a\n")
    case.clock.advance(FLUSH_AFTER)
    case.writer.write("b\n")
    case.clock.advance(FLUSH_AFTER)
    case.writer.write("c\n")
    case.clock.advance(FLUSH_AFTER)
    assert len(case.threads.jobs) == 1
    case.settle()
    assert case.text == "a\nb\nc\n"


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text("before\n")
    case = Case(tmp_path / "access.log")
    case.writer.write("ä\n")
    case.settle()
    assert case.text == "before\nä\n"


def test_a_write_that_takes_a_part_is_followed_by_the_rest(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    case.writer.write("a whole line\n")
    case.settle()
    monkeypatch.undo()
    assert case.text == "a whole line\n"


def test_without_a_path_lines_go_to_a_descriptor() -> None:
    read, write = os.pipe()
    clock, threads = Clock(), Threads()
    writer = LineWriter(clock, threads, None, write)
    writer.write("a\n")
    clock.advance(FLUSH_AFTER)
    threads.run()
    writer.reopen()
    assert threads.run() == 0
    writer.write("b\n")
    writer.close()
    assert os.read(read, 100) == b"a\nb\n"
    os.close(read)
    os.close(write)


def test_a_reader_that_does_not_keep_up_costs_lines_not_memory(
    case: Case, monkeypatch: pytest.MonkeyPatch, errors: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr("kproxy.lines.MOST_WAITING", 1000)
    case.writer.write("first\n")
    case.clock.advance(FLUSH_AFTER)
    for i in range(50):
        for j in range(100):
            case.writer.write(f"{i}.{j}\n")
        case.clock.advance(FLUSH_AFTER)
    assert not case.writer._lines
    assert sum(map(len, case.writer._pieces)) <= 1000
    case.settle()
    lines = case.text.splitlines()
    assert lines[:3] == ["first", "0.0", "0.1"]
    kept = len(lines) - 1
    assert 100 < kept < 5000
    told = [event for event in errors if event.get("lost")]
    assert [event["lost"] for event in told] == [5000 - kept]
    case.writer.write("again\n")
    case.settle()
    assert case.text.endswith("\nagain\n")


def test_a_disk_that_is_full_is_reported_and_does_not_stop_the_log(
    case: Case, monkeypatch: pytest.MonkeyPatch, errors: list[dict[str, Any]]
) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    case.writer.write("lost\n")
    case.settle()
    monkeypatch.undo()
    assert any("No space left" in str(event.get("error")) for event in errors)
    case.writer.write("kept\n")
    case.settle()
    assert case.text == "kept\n"


# Rotation.


def test_after_a_rotation_lines_go_to_the_new_file(case: Case) -> None:
    case.writer.write("old\n")
    case.settle()
    rotated = case.path.rename(case.path.with_suffix(".1"))
    case.writer.write("on the way\n")
    case.writer.reopen()
    case.writer.write("new\n")
    case.settle()
    assert rotated.read_text() + case.text == "old\non the way\nnew\n"
    assert case.text.endswith("new\n")


def test_the_old_file_is_closed_when_nobody_writes_to_it_any_more(case: Case) -> None:
    case.writer.write("old\n")
    case.clock.advance(FLUSH_AFTER)
    old = case.writer._descriptor
    case.path.rename(case.path.with_suffix(".1"))
    case.writer.reopen()
    os.fstat(old)
    case.settle()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(old)
    assert case.path.with_suffix(".1").read_text() + case.text == "old\n"


def test_it_does_not_matter_in_which_order_threads_come_to_write_and_to_rotate(case: Case) -> None:
    case.writer.write("a\n")
    case.clock.advance(FLUSH_AFTER)
    rotated = case.path.rename(case.path.with_suffix(".1"))
    case.writer.reopen()
    case.threads.jobs.reverse()
    case.writer.write("b\n")
    case.settle()
    assert rotated.read_text() + case.text == "a\nb\n"


def test_a_file_that_can_not_be_opened_anew_is_reported_and_the_old_one_goes_on(
    case: Case, errors: list[dict[str, Any]]
) -> None:
    case.writer.write("a\n")
    case.settle()
    moved = case.path.parent.rename(case.path.parent.with_suffix(".moved"))
    case.writer.reopen()
    assert any(str(case.path) in str(event.get("error")) for event in errors)
    case.writer.write("b\n")
    case.settle()
    assert (moved / case.path.name).read_text() == "a\nb\n"


# The end.


def test_closing_writes_what_waits(case: Case) -> None:
    case.writer.write("a\n")
    case.writer.close()
    assert case.text == "a\n"
    assert case.clock.getDelayedCalls() == []


def test_closing_writes_what_waits_behind_a_thread_that_has_not_begun(case: Case) -> None:
    case.writer.write("a\n")
    case.clock.advance(FLUSH_AFTER)
    case.writer.write("b\n")
    case.writer.close()
    assert case.text == "a\nb\n"
    case.threads.run()
    assert case.text == "a\nb\n"


def test_closing_writes_what_waits_behind_a_thread_that_is_done(case: Case) -> None:
    case.writer.write("a\n")
    case.clock.advance(FLUSH_AFTER)
    case.writer.write("b\n")
    work, done = case.threads.jobs.pop()
    work()
    case.writer.close()
    assert case.text == "a\nb\n"
    done()
    case.settle()
    assert case.text == "a\nb\n"


def test_what_comes_after_the_end_is_written_at_once(case: Case) -> None:
    case.writer.close()
    case.writer.write("the very last\n")
    assert case.text == "the very last\n"
    assert case.clock.getDelayedCalls() == []


def test_a_disk_that_stays_full_is_told_of_once(
    case: Case, errors: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    write = os.write
    monkeypatch.setattr(os, "write", full)
    for _ in range(3):
        case.writer.write("lost\n")
        case.settle()
    assert len(errors) == 1
    monkeypatch.setattr(os, "write", write)
    case.writer.write("kept\n")
    case.settle()
    assert case.text == "kept\n"
