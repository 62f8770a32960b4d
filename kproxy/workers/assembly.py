"""Workers, made of their parts."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kproxy.dataplane import DataPlane
from kproxy.workers.crew import SLOTS
from kproxy.workers.pool import Workers
from kproxy.workers.shares import Shares, shared_memory
from kproxy.workers.spawning import Spawner


def assembled_workers(
    count: int,
    rehearsal: DataPlane,
    reactor: Any,
    sockets: Sequence[socket.socket],
    access_log: Path | None,
    write_lines: Callable[[str], object],
    *,
    metrics: bool,
) -> Workers:
    """Workers that accept from some sockets; see `Workers` and `Spawner`."""
    tls_sockets: list[socket.socket] = []
    memory = shared_memory(SLOTS * count)
    spawner = Spawner(reactor, sockets, tls_sockets, memory, access_log, metrics)
    return Workers(
        count,
        rehearsal,
        spawner.spawn,
        Shares(memory),
        reactor,
        write_lines,
        tls_sockets,
        spawner.adopt,
    )
