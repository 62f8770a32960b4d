"""CPU time and memory of a session of processes, from /proc.

Every proxy leads a session of its own, so that its session id finds its workers too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
STATE_FIELD, SESSION_FIELD, UTIME_FIELD, STIME_FIELD = 0, 3, 11, 12
"""Where proc(5)'s fields 3, 6, 14 and 15 stand after the command's closing parenthesis."""


def stat_fields(stat: str) -> list[str]:
    """The fields of a ``stat`` file after the command, which may hold spaces and parentheses."""
    return stat.rpartition(")")[2].split()


def schedstat_ns(schedstat: str) -> int:
    """Nanoseconds on the CPU: the first number of a ``schedstat`` file."""
    return int(schedstat.split()[0])


def rollup_kb(rollup: str, key: str = "Pss") -> int:
    """One value of a ``smaps_rollup`` or ``status`` file, in KB; KeyError if it isn't there."""
    for line in rollup.splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    raise KeyError(key)


def session_pids(session: int, proc: Path = PROC) -> list[int]:
    """The processes of a session, without those that have ended and only wait to be reaped."""
    found = []
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = stat_fields((entry / "stat").read_text())
        except OSError:
            continue
        if int(fields[SESSION_FIELD]) == session and fields[STATE_FIELD] != "Z":
            found.append(int(entry.name))
    return found


def process_cpu_ns(pid: int, proc: Path = PROC) -> int:
    """Nanoseconds that a process has spent on the CPU.

    The sum of its threads' ``schedstat``, or, where the kernel keeps none, utime + stime.
    """
    folder = proc / str(pid)
    try:
        tasks = list((folder / "task").iterdir())
        exact = sum(schedstat_ns((task / "schedstat").read_text()) for task in tasks)
    except OSError:
        exact = 0
    if exact:
        return exact
    fields = stat_fields((folder / "stat").read_text())
    ticks = int(fields[UTIME_FIELD]) + int(fields[STIME_FIELD])
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def process_memory_kb(pid: int, proc: Path = PROC) -> int:
    """The proportional set size of a process, or its resident set where the former is unknown."""
    folder = proc / str(pid)
    try:
        return rollup_kb((folder / "smaps_rollup").read_text())
    except OSError:
        return rollup_kb((folder / "status").read_text(), "VmRSS")


def cpu_ns(pids: Iterable[int]) -> int:
    """CPU nanoseconds of several processes."""
    return sum(process_cpu_ns(pid) for pid in pids)


def memory_kb(pids: Iterable[int]) -> int:
    """Memory of several processes."""
    return sum(process_memory_kb(pid) for pid in pids)
