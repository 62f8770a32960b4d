"""How a program was started, and how another one is in the same way."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from kproxy.succession.command import CommandLine, command_line, options_again, whole_command_line

PYTHON = "/venv/bin/python"


def started(*original: str, arguments: list[str], argv: list[str]) -> CommandLine | None:
    return command_line(arguments, argv, original, PYTHON)


def test_what_was_started_by_twistd_can_be_again() -> None:
    argv = ["/venv/bin/twistd", "-n", "kproxy", "--config", "x"]
    command = started("python", "-X", "dev", *argv, arguments=["--config", "x"], argv=argv)
    program = (PYTHON, "-X", "dev", "/venv/bin/twistd", "-n")
    assert command == CommandLine(program, ("kproxy", "--config", "x"), os.getcwd())
    assert command is not None
    assert command.again() == [*program, "kproxy", "--config", "x"]
    assert command.again(["--pidfile="]) == [*program, "--pidfile=", "kproxy", "--config", "x"]


def test_the_program_of_python_m_twisted_gets_no_options_of_twistd() -> None:
    original = ["python", "-m", "twisted", "kproxy", "--config", "x"]
    argv = ["/lib/twisted/__main__.py", "kproxy", "--config", "x"]
    command = started(*original, arguments=["--config", "x"], argv=argv)
    assert command is not None
    assert command.again(["--pidfile="]) == [PYTHON, *original[1:]]


def test_a_program_that_runs_twistd_by_itself_is_started_as_it_was() -> None:
    command = whole_command_line()
    assert command.again(["--pidfile="]) == [sys.executable, *sys.orig_argv[1:]]


def test_options_are_not_needed() -> None:
    command = started("python", "twistd", "kproxy", arguments=[], argv=["twistd", "kproxy"])
    assert command is not None
    assert command.again() == [PYTHON, "twistd", "kproxy"]


@pytest.mark.parametrize(
    ("original", "argv"),
    [
        # A script that calls twistd, with arguments of its own.
        (["python", "kproxy", "run", "--debug"], ["kproxy", "run", "--debug"]),
        # One that changes what it was given.
        (["python", "start.py"], ["twistd", "kproxy", "--config", "x"]),
        (["python", "-c", "...", "kproxy", "--config", "y"], ["-c", "kproxy", "--config", "y"]),
        (["python", "twistd", "other", "--config", "x"], ["twistd", "other", "--config", "x"]),
        ([], []),
    ],
)
def test_what_was_started_in_another_way_can_not(original: list[str], argv: list[str]) -> None:
    assert started(*original, arguments=["--config", "x"], argv=argv) is None


def test_in_the_foreground_only_the_file_with_the_number_is_left_alone() -> None:
    assert options_again({"logfile": "x.log", "syslog": 0}, daemon=False) == ["--pidfile="]


@pytest.mark.parametrize(
    ("said", "log"),
    [({}, "twistd.log"), ({"logfile": "k.log"}, "k.log"), ({"logfile": None}, None)],
)
def test_a_daemon_stays_one_and_writes_its_log_on(
    said: dict[str, Any], log: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / (log or "twistd.log")
    expected = ["--pidfile=", "--nodaemon", f"--logfile={file}"]
    assert options_again(said, daemon=True) == expected


def test_an_absolute_log_is_that(tmp_path: Path) -> None:
    said = {"logfile": str(tmp_path / "k.log")}
    assert options_again(said, daemon=True)[-1] == f"--logfile={tmp_path / 'k.log'}"


def test_a_daemon_that_logs_to_syslog_goes_on_with_that() -> None:
    said = {"syslog": 1, "logfile": "k.log"}
    assert options_again(said, daemon=True) == ["--pidfile=", "--nodaemon"]
