"""Programs are started and, above all, ended."""

import sys
import time

import pytest

from bench import processes
from bench.procfs import session_pids


def wait_for_none(session, tries=500):
    """The processes of a session, after giving a signal that was sent the time to arrive."""
    while (pids := session_pids(session)) and tries:
        time.sleep(0.01)
        tries -= 1
    return pids


def test_a_program_is_ended_with_its_children_when_the_block_is_left(tmp_path):
    script = "sleep 60 & echo started; wait"
    with processes.stopped_at_exit(processes.spawn(["/bin/sh", "-c", script], tmp_path)) as shell:
        out = tmp_path / "stdout"
        processes.wait_until(lambda: out.read_text() == "started\n", shell, tmp_path, 10)
    assert shell.returncode is not None
    assert wait_for_none(shell.pid) == []


def test_a_program_that_ends_early_is_quoted(tmp_path):
    script = "import sys; sys.exit('no such option')"
    process = processes.spawn([sys.executable, "-c", script], tmp_path)
    with (
        processes.stopped_at_exit(process),
        pytest.raises(processes.NotReadyError, match="exited with 1: no such option"),
    ):
        processes.wait_until(lambda: False, process, tmp_path, 10)


def test_nothing_answers_on_a_free_port():
    assert processes.status_of(processes.free_port(), "localhost") is None
