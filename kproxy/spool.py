"""A body that is collected: in memory while it is small, in an unlinked temporary file when it is not.

The file has no name, so that nothing is left on disk however the process ends. It is written and read
in a thread, except where the kernel has the data at hand: a slow disk stalls one body, not all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from kproxy.stored import PIECE, MemoryBody, SpooledBody, StoredBody
from kproxy.threads import InThread
from kproxy.transfer import Source, Transfer

Pairs = list[tuple[bytes, bytes]]


class Spool:
    """Takes a body piece by piece.

    @param memory: bytes that it may hold in memory.
    @param pause: called when what waits for the disk is that much; the sender should pause.
    @param resume: called when there is room again.
    @param source: where a thread may fetch the rest of the body by itself, if there is such a thing.
    @ivar size: bytes taken so far.
    """

    __slots__ = (
        "_fetching",
        "_file",
        "_finished",
        "_in_thread",
        "_memory",
        "_parts",
        "_pause",
        "_paused",
        "_resume",
        "_source",
        "_waiting",
        "_writing",
        "error",
        "size",
    )

    def __init__(
        self,
        memory: int,
        in_thread: InThread,
        pause: Callable[[], object],
        resume: Callable[[], object],
        source: Source | None = None,
    ) -> None:
        self.size = 0
        self.error: OSError | None = None
        self._memory = memory
        self._in_thread = in_thread
        self._pause = pause
        self._resume = resume
        self._source = source
        self._parts: list[bytes] = []
        self._waiting = 0  # bytes that wait in memory
        self._writing = 0  # bytes that a thread is writing
        self._fetching = False  # whether it reads from the source, too
        self._paused = False
        self._file: Any = None
        self._finished: Callable[[], object] | None = None

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.error is not None or not data:
            return  # where there was an error, nothing will come of it; the end tells
        self._waiting += len(data)
        self._parts.append(data)
        if self._waiting > self._memory or self._file is not None:
            self._spill()

    def _spill(self) -> None:
        """Write what waits if it is worth a thread's time, and pause the sender if it is too much."""
        if self._file is None:
            try:
                self._file = tempfile.TemporaryFile(prefix="kproxy-", buffering=0)  # noqa: SIM115
            except OSError as error:
                self._give_up(error)
                return
        if not self._writing and (self._waiting >= self._memory // 2 or self._finished):
            self._begin_to_write()
        self._set_pace()

    def _begin_to_write(self) -> None:
        """Have a thread write all that waits and fetch what has come behind it."""
        parts, self._parts = self._parts, []
        self._writing, self._waiting = self._waiting, 0
        lent = None if self._source is None else self._source.lend_socket()
        if lent is not None:
            self._fetching = True
            self._set_pace()
        transfer = Transfer(self._file, parts, lent)
        self._in_thread(transfer.run, lambda: self._written(transfer))

    def _set_pace(self) -> None:
        """Pause the sender, or let it go on. While a thread fetches what it has sent, nobody else may
        read that."""
        too_much = self._waiting + self._writing >= max(self._memory, PIECE)
        if self._paused != (self._fetching or too_much):
            self._paused = not self._paused
            (self._pause if self._paused else self._resume)()

    def _give_up(self, error: OSError) -> None:
        self.error = error
        self._parts = []
        self._waiting = 0

    def _written(self, transfer: Transfer) -> None:
        self._writing = 0
        self._fetching = False
        self.size += transfer.fetched
        if transfer.error is not None:
            self._give_up(transfer.error)
        if transfer.fetched:
            self._source.taken(transfer.fetched)  # type: ignore[union-attr]
        if self._parts:
            self._spill()
        elif self._finished is not None:
            # Who is told holds this spool: forgetting them lets the file close without the collector.
            finished, self._finished = self._finished, None
            finished()
        self._set_pace()

    def finish(self, done: Callable[[], object]) -> None:
        """Call `done` when all of it is where it belongs; at once if that is in memory."""
        if self._writing or (self._file is not None and self._parts):
            self._finished = done
            if not self._writing:
                self._spill()
        else:
            done()

    def in_memory(self) -> bytes | None:
        """The whole body, if it has stayed in memory."""
        if self._file is not None:
            return None
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def body(self, trailers: Pairs) -> StoredBody:
        """The body, after `finish`."""
        data = self.in_memory()
        if data is not None:
            return MemoryBody(data, trailers)
        return SpooledBody(self._file, self.size, trailers, self._in_thread)

    def file(self) -> Any:
        """The file that the body is in, after `finish`; None while it is in memory."""
        return self._file
