"""A body that is collected: in memory while it is small, in an unlinked temporary file when it is not.

The file has no name, so that nothing is left on disk however the process ends. It is written and read
in a thread, except where the kernel has the data at hand: a slow disk stalls one body, not all.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from kproxy.interfaces import IBody, IBodyReceiver
from kproxy.threads import InThread

Pairs = list[tuple[bytes, bytes]]
PIECE = 256 * 1024
MOST_PARTS = 512
"""Parts that one call to the kernel takes; the limit is 1024 everywhere (IOV_MAX)."""
NOWAIT = getattr(os, "RWF_NOWAIT", 0)


class Spool:
    """Takes a body piece by piece.

    @param memory: bytes that it may hold in memory.
    @param pause: called when what waits for the disk is that much; the sender should pause.
    @param resume: called when there is room again.
    @ivar size: bytes taken so far.
    """

    __slots__ = (
        "_file",
        "_finished",
        "_in_thread",
        "_memory",
        "_parts",
        "_pause",
        "_paused",
        "_resume",
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
    ) -> None:
        self.size = 0
        self.error: OSError | None = None
        self._memory = memory
        self._in_thread = in_thread
        self._pause = pause
        self._resume = resume
        self._parts: list[bytes] = []
        self._waiting = 0  # bytes that wait in memory
        self._writing = 0  # bytes that a thread is writing
        self._paused = False
        self._file: Any = None
        self._finished: Callable[[], object] | None = None

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.error is not None:
            return  # nothing will come of it; the end tells
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
            parts, self._parts = self._parts, []
            self._writing, self._waiting = self._waiting, 0
            self._in_thread(lambda: self._write_out(parts), self._written)
        if not self._paused and self._waiting + self._writing >= max(self._memory, PIECE):
            self._paused = True
            self._pause()

    def _give_up(self, error: OSError) -> None:
        self.error = error
        self._parts = []
        self._waiting = 0

    def _write_out(self, parts: list[bytes]) -> None:
        try:
            descriptor = self._file.fileno()
            for first in range(0, len(parts), MOST_PARTS):
                some = parts[first : first + MOST_PARTS]
                rest = sum(map(len, some)) - os.writev(descriptor, some)
                if rest:
                    data = memoryview(b"".join(some))[-rest:]
                    while data:
                        data = data[os.write(descriptor, data) :]
        except OSError as error:
            self.error = error

    def _written(self) -> None:
        self._writing = 0
        if self.error is not None:
            self._give_up(self.error)
        if self._parts:
            self._spill()
        elif self._finished is not None:
            # Who is told holds this spool: forgetting them lets the file close without the collector.
            finished, self._finished = self._finished, None
            finished()
        if self._paused and self._waiting + self._writing < max(self._memory, PIECE):
            self._paused = False
            self._resume()

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
        return StoredBody(self.in_memory(), self._file, self.size, trailers, self._in_thread)

    def file(self) -> Any:
        """The file that the body is in, after `finish`; None while it is in memory."""
        return self._file


@implementer(IBody)
class StoredBody:
    """A body that is all there, in memory or in a file; it can be sent again and again."""

    __slots__ = (
        "_data",
        "_file",
        "_in_thread",
        "_paused",
        "_position",
        "_reading",
        "_receiver",
        "_trailers",
        "length",
    )
    replayable = True

    def __init__(
        self, data: bytes | None, file: Any, length: int, trailers: Pairs, in_thread: InThread
    ) -> None:
        self.length = length
        self._data = data
        self._file = file
        self._trailers = trailers
        self._in_thread = in_thread
        self._receiver: IBodyReceiver | None = None
        self._position = 0
        self._paused = False
        self._reading = False

    def start(self, receiver: IBodyReceiver) -> None:
        self._receiver = receiver
        self._position = 0
        self._paused = False
        self._send()

    def _send(self) -> None:
        """Send until the receiver has had enough, or the next piece has to come from the disk."""
        if self._reading:
            return
        self._reading = True
        while self._receiver is not None and not self._paused:
            if self._position >= self.length:
                receiver, self._receiver = self._receiver, None
                receiver.body_end(self._trailers)
                continue  # It may have been started again.
            piece = self._piece_at_hand()
            if piece is None:
                self._read_in_thread()
                return
            self._deliver(piece)
        self._reading = False

    def _deliver(self, piece: bytes) -> None:
        self._position += len(piece)
        self._receiver.body_data(piece)  # type: ignore[union-attr]

    def _piece_at_hand(self) -> bytes | None:
        if self._data is not None:
            return self._data
        if not NOWAIT:
            return None
        buffer = bytearray(min(PIECE, self.length - self._position))
        try:
            count = os.preadv(self._file.fileno(), [buffer], self._position, NOWAIT)
        except OSError:
            return None
        return bytes(buffer[:count]) or None

    def _read_in_thread(self) -> None:
        result: list[bytes | OSError] = []
        position = self._position

        def read() -> None:
            try:
                result.append(os.pread(self._file.fileno(), PIECE, position))
            except OSError as error:
                result.append(error)

        def done() -> None:
            self._reading = False
            piece = result[0]
            receiver = self._receiver
            if receiver is None:
                return
            if position != self._position:  # started anew meanwhile
                self._send()
                return
            if isinstance(piece, OSError) or not piece:
                self._receiver = None
                receiver.body_lost(OSError("a temporary file could not be read"))
                return
            self._deliver(piece)
            self._send()

        self._in_thread(read, done)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._send()

    def stop(self) -> None:
        self._receiver = None
