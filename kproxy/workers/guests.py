"""Workers that were started by the program which this process ran before (`kproxy.succession`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kproxy.workers.channel import Channel, Memory
from kproxy.workers.member import Process


@dataclass(frozen=True, slots=True)
class Guest:
    """One of them."""

    pid: int
    descriptor: int
    """Of this end of its channel."""
    slot: int
    seconds: float
    """How long ago it was started."""
    state: str
    """As `Member.state` has it."""
    memory: Memory


Adopt = Callable[[Guest, Channel], Process]
"""Connect the channel to a guest's."""
