"""What a process of kproxy uses."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from kproxy.metrics.catalog import Measured

STATM = Path("/proc/self/statm")


def measure_process(name: str, statm: Path = STATM) -> Measured:
    """What this process uses.

    @param name: what it is called in the label ``process``.
    @param statm: of Linux; where there is none, the peak of memory stands for what is resident now.
    """
    labels = (name,)
    return {
        "kproxy_process_cpu_seconds_total": [(labels, [time.process_time()])],
        "kproxy_process_resident_memory_bytes": [(labels, [_resident(statm)])],
    }


def _resident(statm: Path) -> int:
    try:
        pages = int(statm.read_text("ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
