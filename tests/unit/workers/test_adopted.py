"""Processes that were started by the program which this process ran before."""

from __future__ import annotations

import os
import signal

from kproxy.workers.spawning import AdoptedProcess


def child(code: str) -> int:
    """A child of which nothing is known but its number."""
    return os.posix_spawn("/bin/sh", ["sh", "-c", code], {})


def wait(pid: int) -> None:
    """Wait for its end, which is still there to be seen."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_how_it_has_ended_is_known_and_stays_so() -> None:
    process = AdoptedProcess(child("exit 3"))
    wait(process.pid)
    assert process.end() == "with status 3"
    assert process.end() == "with status 3"


def test_one_that_runs_has_not_ended_and_can_be_killed() -> None:
    process = AdoptedProcess(child("kill -STOP $$"))
    assert process.end() is None
    process.kill()
    wait(process.pid)
    assert process.end() == "by SIGKILL"


def test_one_that_has_ended_is_not_killed_since_its_number_may_be_another_s() -> None:
    first = AdoptedProcess(child("exit 0"))
    wait(first.pid)
    first.kill()
    assert first.end() == "with status 0"
    other = AdoptedProcess(os.getpid())  # nobody's child here
    assert other.end() == "unnoticed"
    other.kill()


def test_one_that_was_killed_by_a_signal_is_told_by_its_name() -> None:
    process = AdoptedProcess(child(f"kill -{int(signal.SIGTERM)} $$"))
    wait(process.pid)
    assert process.end() == "by SIGTERM"
