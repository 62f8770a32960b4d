"""What /proc says, read from a copy of it."""

import pytest

from bench.procfs import (
    process_cpu_ns,
    process_memory_kb,
    rollup_kb,
    schedstat_ns,
    session_pids,
    stat_fields,
)

STAT = "{pid} (a (strange) name) {state} 1 {session} {session} 0 -1 4194560 99 0 0 0 150 50 0 0"
ROLLUP = "55bf74a67000-7ffc79fc7000 ---p 00000000 00:00 0   [rollup]\nRss: 1740 kB\nPss: 499 kB\n"


@pytest.fixture
def proc(tmp_path):
    """A /proc with sessions 10 (processes 10, 11, and 12 that has ended) and 20."""
    for pid, session, state in ((10, 10, "S"), (11, 10, "R"), (12, 10, "Z"), (20, 20, "S")):
        folder = tmp_path / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True)
        (folder / "stat").write_text(STAT.format(pid=pid, session=session, state=state))
    (tmp_path / "self").mkdir()
    return tmp_path


def test_a_commands_parentheses_do_not_shift_the_fields():
    assert stat_fields("7 (a) b) c) S 1 2")[:3] == ["S", "1", "2"]


def test_schedstat_begins_with_nanoseconds_on_the_cpu():
    assert schedstat_ns("123456 50015 1\n") == 123_456


def test_a_value_of_a_rollup_is_found_by_name():
    assert rollup_kb(ROLLUP) == 499
    assert rollup_kb(ROLLUP, "Rss") == 1740
    with pytest.raises(KeyError):
        rollup_kb(ROLLUP, "Swap")


def test_a_session_is_all_its_living_processes(proc):
    assert sorted(session_pids(10, proc)) == [10, 11]


def test_cpu_time_is_the_sum_over_threads(proc):
    for thread, nanoseconds in (("10", 700), ("12", 300)):
        folder = proc / "10" / "task" / thread
        folder.mkdir(exist_ok=True)
        (folder / "schedstat").write_text(f"{nanoseconds} 0 0")
    assert process_cpu_ns(10, proc) == 1000


def test_without_schedstat_cpu_time_is_counted_in_ticks(proc, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    assert process_cpu_ns(20, proc) == 2_000_000_000


def test_memory_is_the_proportional_set_size(proc):
    (proc / "10" / "smaps_rollup").write_text(ROLLUP)
    assert process_memory_kb(10, proc) == 499


def test_without_a_rollup_memory_is_the_resident_set(proc):
    (proc / "10" / "status").write_text("Name:\tnginx\nVmRSS:\t  2048 kB\n")
    assert process_memory_kb(10, proc) == 2048
