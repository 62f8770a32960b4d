"""How many workers there should be."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal

from kproxy.config.model import MOST_WORKERS

Workers = int | Literal["auto"]


def parse(text: str) -> Workers:
    """@raise ValueError: it is neither ``auto`` nor a number of workers."""
    if text == "auto":
        return "auto"
    count = int(text)
    if not 0 <= count <= MOST_WORKERS:
        raise ValueError(f"should be auto, or from 0 to {MOST_WORKERS}")
    return count


def wanted(workers: Workers) -> int:
    """How many there should be on this machine."""
    return cpus() if workers == "auto" else workers


def cpus(root: Path = Path("/")) -> int:
    """How many CPUs this process may use: those of its affinity, and no more than its control group
    may use of them together, rounded up.

    @param root: below which ``proc`` and ``sys`` are.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        count = os.cpu_count() or 1
    quota = _quota(root)
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def _quota(root: Path) -> float | None:
    """The CPUs that the control groups of this process leave it; None: there is no limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, read = root / "sys/fs/cgroup", _quota_2
        elif "cpu" in controllers.split(","):
            top, read = root / "sys/fs/cgroup/cpu", _quota_1
        else:
            continue
        # In a container the path may be that of the host, of which only the top can be seen.
        group = top / path.lstrip("/")
        groups = [top, *(each for each in (group, *group.parents) if top in each.parents)]
        limits += [limit for limit in map(read, groups) if limit is not None]
    return min(limits, default=None)


def _quota_2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return None if quota < 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
