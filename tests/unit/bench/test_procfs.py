"""What /proc says, read from a copy of it."""

import pytest

from bench.procfs import (
    busy_ns,
    client_ports,
    ended_cpu_ns,
    process_cpu_ns,
    process_memory,
    process_memory_kb,
    rollup_kb,
    schedstat_ns,
    session_pids,
    stat_fields,
)

STAT = "{pid} (a (strange) name) {state} {parent} {session} {session} 0 -1 4 99 0 0 0 150 50 30 10"
ROLLUP = (
    "55bf74a67000-7ffc79fc7000 ---p 00000000 00:00 0   [rollup]\nRss: 1740 kB\nPss: 499 kB\n"
    "Private_Clean: 100 kB\nPrivate_Dirty: 50 kB\n"
)
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 70 1 0
   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 71 1 0
   2: 0100007F:1F90 0100007F:C002 01 00000000:00000000 00:00000000 00000000     0        0 72 1 0
   3: 0100007F:C003 0100007F:1F91 01 00000000:00000000 00:00000000 00000000     0        0 73 1 0
"""


@pytest.fixture
def proc(tmp_path):
    """A /proc with sessions 10 (processes 10, 11, and 12 that has ended), 20, and 30, whose leader 11
    has started."""
    for pid, parent, session, state in (
        (10, 1, 10, "S"),
        (11, 10, 10, "R"),
        (12, 10, 10, "Z"),
        (20, 1, 20, "S"),
        (30, 11, 30, "S"),
    ):
        folder = tmp_path / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True)
        stat = STAT.format(pid=pid, parent=parent, session=session, state=state)
        (folder / "stat").write_text(stat)
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


def test_a_session_is_all_its_living_processes_and_what_they_have_started(proc):
    assert session_pids(10, proc) == [10, 11, 30]
    assert session_pids(20, proc) == [20]


def test_cpu_time_is_the_sum_over_threads(proc):
    for thread, nanoseconds in (("10", 700), ("12", 300)):
        folder = proc / "10" / "task" / thread
        folder.mkdir(exist_ok=True)
        (folder / "schedstat").write_text(f"{nanoseconds} 0 0")
    assert process_cpu_ns(10, proc) == 1000


def test_without_schedstat_cpu_time_is_counted_in_ticks(proc, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    assert process_cpu_ns(20, proc) == 2_000_000_000


def test_children_that_have_ended_have_spent_cpu_time_too(proc, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    assert ended_cpu_ns(10, proc) == 400_000_000


def test_cores_are_busy_when_they_neither_idle_nor_wait_for_a_disk(proc, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    (proc / "stat").write_text("cpu  10 20 30 4000 5000 1 2 600 700 0\ncpu0 9 9 9 9 9 9 9 9 9 9\n")
    assert busy_ns(proc) == 630_000_000


def test_a_process_has_those_connections_of_a_port_whose_sockets_it_holds(proc):
    (proc / "net").mkdir()
    (proc / "net" / "tcp").write_text(TCP)
    (proc / "10" / "fd").mkdir()
    for number, held in enumerate(("socket:[70]", "socket:[72]", "socket:[73]", "/dev/null")):
        (proc / "10" / "fd" / str(number)).symlink_to(held)
    assert client_ports(10, 8080, proc) == {0xC002}


def test_memory_can_be_told_in_three_ways(proc):
    (proc / "10" / "smaps_rollup").write_text(ROLLUP)
    assert process_memory(10, proc) == {"rss": 1740, "pss": 499, "uss": 150}


def test_memory_is_the_proportional_set_size(proc):
    (proc / "10" / "smaps_rollup").write_text(ROLLUP)
    assert process_memory_kb(10, proc) == 499


def test_without_a_rollup_memory_is_the_resident_set(proc):
    (proc / "10" / "status").write_text("Name:\tnginx\nVmRSS:\t  2048 kB\n")
    assert process_memory_kb(10, proc) == 2048
