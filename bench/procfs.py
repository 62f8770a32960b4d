"""CPU time, memory and connections of processes, from /proc.

Every proxy leads a session of its own, so that its session id finds its workers too; and where those
lead sessions of their own, as kproxy's do, they are found as its children.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
STATE_FIELD, PARENT_FIELD, SESSION_FIELD, UTIME_FIELD, STIME_FIELD = 0, 1, 3, 11, 12
ENDED_UTIME_FIELD, ENDED_STIME_FIELD = 13, 14
"""Where proc(5)'s fields 3, 4, 6 and 14 to 17 stand after the command's closing parenthesis."""
ESTABLISHED = "01"
"""A connection's state in ``net/tcp``."""


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
    """The processes of a session, and all that they have started; but not those that have ended and
    only wait to be reaped."""
    found: set[int] = set()
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = stat_fields((entry / "stat").read_text())
        except OSError:
            continue
        if fields[STATE_FIELD] != "Z":
            children.setdefault(int(fields[PARENT_FIELD]), []).append(int(entry.name))
            if int(fields[SESSION_FIELD]) == session:
                found.add(int(entry.name))
    waiting = list(found)
    while waiting:
        new = set(children.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return sorted(found)


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
    return _ticks_ns(folder, UTIME_FIELD, STIME_FIELD)


def ended_cpu_ns(pid: int, proc: Path = PROC) -> int:
    """Nanoseconds, by the tick, that those children of a process spent which have ended."""
    return _ticks_ns(proc / str(pid), ENDED_UTIME_FIELD, ENDED_STIME_FIELD)


def _ticks_ns(folder: Path, *numbers: int) -> int:
    fields = stat_fields((folder / "stat").read_text())
    return sum(int(fields[n]) for n in numbers) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def busy_ns(proc: Path = PROC) -> int:
    """Nanoseconds, by the tick, that all cores of the machine together were not idle."""
    user, nice, system, _, _, *interrupts = map(int, (proc / "stat").read_text().split()[1:8])
    ticks = user + nice + system + sum(interrupts)
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def process_memory_kb(pid: int, proc: Path = PROC) -> int:
    """The proportional set size of a process, or its resident set where the former is unknown."""
    folder = proc / str(pid)
    try:
        return rollup_kb((folder / "smaps_rollup").read_text())
    except OSError:
        return rollup_kb((folder / "status").read_text(), "VmRSS")


def process_memory(pid: int, proc: Path = PROC) -> dict[str, int]:
    """What a process holds, in KB: its resident, proportional and unique set size."""
    rollup = (proc / str(pid) / "smaps_rollup").read_text()
    unique = rollup_kb(rollup, "Private_Clean") + rollup_kb(rollup, "Private_Dirty")
    return {"rss": rollup_kb(rollup, "Rss"), "pss": rollup_kb(rollup), "uss": unique}


def cpu_ns(pids: Iterable[int]) -> int:
    """CPU nanoseconds of several processes."""
    return sum(process_cpu_ns(pid) for pid in pids)


def memory_kb(pids: Iterable[int]) -> int:
    """Memory of several processes."""
    return sum(process_memory_kb(pid) for pid in pids)


def client_ports(pid: int, port: int, proc: Path = PROC) -> set[int]:
    """The connections that a process has on a port of IPv4 that it listens on, by the ports of those
    who connected."""
    clients = {}
    for line in (proc / "net" / "tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *others = line.split()
        if state == ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
            clients[f"socket:[{others[5]}]"] = int(remote.rpartition(":")[2], 16)
    found = set()
    for descriptor in (proc / str(pid) / "fd").iterdir():
        try:
            found.add(clients.get(os.readlink(descriptor), 0))
        except OSError:  # closed meanwhile
            continue
    return found - {0}
