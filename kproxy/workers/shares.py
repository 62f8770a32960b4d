"""How many connections each worker has, in memory that all of them see."""

from __future__ import annotations

import mmap
import os

from kproxy.descriptors import anonymous_file

_SIZE = 4


def shared_memory(slots: int) -> int:
    """A descriptor of memory for so many workers."""
    descriptor = anonymous_file("kproxy-shares")
    os.truncate(descriptor, slots * _SIZE)
    return descriptor


class Shares:
    """A slot for each worker: how many connections it has, if it accepts any.

    A slot is written by its worker, and by the control process once that is gone. Numbers that are
    a moment old do no harm, so there is no lock.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, 0)
        self._counts = memoryview(self._memory).cast("i")

    def say(self, slot: int, connections: int) -> None:
        """The worker accepts, and has so many."""
        self._counts[slot] = connections + 1

    def leave(self, slot: int) -> None:
        """The worker does not accept."""
        self._counts[slot] = 0

    def least(self) -> int:
        """The fewest that a worker has which accepts; 0 if none does."""
        return min(filter(None, self._counts.tolist()), default=1) - 1
