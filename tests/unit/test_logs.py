"""The proxy's own events as lines of JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure

from kproxy.logs import EventLog, takes_events


class Case:
    """A logger whose events are written as lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.from_thread: list[Callable[[], object]] = []
        log = EventLog(self.lines.append, self.from_thread.append)
        self.log = Logger("kproxy.test", observer=LogPublisher(log))

    @property
    def entry(self) -> dict[str, Any]:
        (line,) = self.lines
        assert line.endswith("\n")
        assert line.count("\n") == 1
        entry: dict[str, Any] = json.loads(line)
        return entry


@pytest.fixture
def case() -> Case:
    return Case()


def test_an_event_has_the_fields_that_a_line_of_the_access_log_begins_with(case: Case) -> None:
    case.log.info("up")
    entry = case.entry
    assert list(entry) == ["time", "level", "msg", "logger"]
    assert entry["time"].endswith("Z")
    assert (entry["level"], entry["msg"], entry["logger"]) == ("INFO", "up", "kproxy.test")


def test_what_a_message_speaks_of_has_fields_of_its_own(case: Case) -> None:
    case.log.info("{service} has {count} and {path}", service="a", count=2, path=Path("/x"))
    entry = case.entry
    assert entry["msg"] == "a has 2 and /x"
    assert (entry["service"], entry["count"], entry["path"]) == ("a", 2, "/x")


def test_what_a_message_does_not_speak_of_stays_out(case: Case) -> None:
    case.log.info("quiet", secret="hush")
    assert "secret" not in case.entry


def test_a_field_can_not_pass_for_the_time_or_the_message(case: Case) -> None:
    case.log.info("{msg} at {time}", msg="lies", time="never")
    assert case.entry["msg"] == "lies at never"
    assert case.entry["time"] != "never"


@pytest.mark.parametrize(
    ("level", "name"),
    [
        ("debug", "DEBUG"),
        ("info", "INFO"),
        ("warn", "WARN"),
        ("error", "ERROR"),
        ("critical", "ERROR"),
    ],
)
def test_levels_have_the_names_of_the_access_log(case: Case, level: str, name: str) -> None:
    getattr(case.log, level)("x")
    assert case.entry["level"] == name


def test_a_message_of_several_lines_is_one_line(case: Case) -> None:
    case.log.error("bad file:\nline 1\nline 2")
    assert case.entry["msg"] == "bad file:\nline 1\nline 2"


def test_a_failure_is_told_with_its_traceback(case: Case) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        case.log.failure("it failed", Failure())
    assert case.entry["error"] == "ValueError: broken"
    assert "ValueError" in case.entry["traceback"]


def test_a_message_that_can_not_be_formatted_is_a_line_all_the_same(case: Case) -> None:
    case.log.info("{missing}")
    assert "missing" in case.entry["msg"]


def test_an_event_of_another_thread_is_written_in_the_reactor_s(case: Case) -> None:
    thread = threading.Thread(target=lambda: case.log.info("from afar"))
    thread.start()
    thread.join()
    assert case.lines == []
    (write,) = case.from_thread
    write()
    assert case.entry["msg"] == "from afar"


@pytest.mark.parametrize("options", [{}, {"logfile": "-"}, {"logfile": ""}])
def test_standard_output_gets_json(options: dict[str, Any]) -> None:
    assert takes_events({"nodaemon": 1, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"nodaemon": 0},
        {"nodaemon": 1, "logfile": "kproxy.log"},
        {"nodaemon": 1, "syslog": 1},
        {"nodaemon": 1, "logger": print},
    ],
)
def test_what_the_operator_asks_of_twistd_is_left_to_twistd(options: dict[str, Any]) -> None:
    assert not takes_events(options)
