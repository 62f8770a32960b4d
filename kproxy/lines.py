"""A stream of whole lines that never makes a request wait."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kproxy.threads import InThread

FLUSH_AFTER = 0.1
"""Seconds that a line may wait for others, to be written with them."""
PIECE = 64
"""Lines that are joined as soon as they are there. Waiting one by one, all those of `FLUSH_AFTER` would
push out of the processor's cache what the next request needs, and be fetched again to be written."""
MOST_WAITING = 32 * 1024 * 1024
"""Bytes that may wait while the reader of the log does not keep up; what comes then is lost."""

_log = Logger()


class LineWriter:
    """Collects lines and writes many at once, in a thread, to a file or to standard output.

    @param path: where to append; None: the file descriptor.

    The lock is held by who writes, so that lines keep their order and no descriptor is closed (and
    its number given to a connection, say) while it is written to.
    """

    __slots__ = (
        "_busy",
        "_clock",
        "_closed",
        "_descriptor",
        "_failing",
        "_in_thread",
        "_lines",
        "_lock",
        "_lost",
        "_path",
        "_pieces",
        "_timer",
        "_writing",
    )

    def __init__(
        self, clock: IReactorTime, in_thread: InThread, path: Path | None, descriptor: int = 1
    ) -> None:
        self._clock = clock
        self._in_thread = in_thread
        self._path = path
        self._descriptor = descriptor if path is None else self._open(path)
        self._lines: list[str] = []
        self._pieces: list[bytes] = []  # what came before them
        self._writing: list[bytes] = []
        self._busy = False
        self._lock = Lock()
        self._timer: IDelayedCall | None = None
        self._lost = 0
        self._failing = False
        self._closed = False

    @staticmethod
    def _open(path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, line: str) -> None:
        """Add a line, or several; each ends with its line feed."""
        self._lines.append(line)
        if self._closed:
            self.close()
            return
        if len(self._lines) >= PIECE:
            self._join()
        if self._timer is None:
            self._timer = self._clock.callLater(FLUSH_AFTER, self._flush)

    def _join(self) -> None:
        if self._lines:
            self._pieces.append("".join(self._lines).encode("utf-8"))
            self._lines = []

    def _flush(self) -> None:
        self._join()
        if self._busy:
            self._timer = self._clock.callLater(FLUSH_AFTER, self._flush)
            self._shed()
            return
        self._timer = None
        self._busy = True
        self._writing, self._pieces = self._pieces, []
        if self._lost:
            _log.error("the access log's reader is too slow: {lost} lines lost", lost=self._lost)
            self._lost = 0
        self._in_thread(self._write_out, self._written)

    def _shed(self) -> None:
        """The reader does not keep up: keep what was there first, within bounds."""
        kept = []
        size = 0
        for piece in self._pieces:
            size += len(piece)
            if size > MOST_WAITING:
                break
            kept.append(piece)
        self._lost += sum(piece.count(b"\n") for piece in self._pieces[len(kept) :])
        self._pieces = kept

    def _write_out(self) -> None:
        error = self._write_lines()
        # Said once, not again and again: it may itself be a line of this stream.
        if error is not None and not self._failing:
            _log.error("the access log can't be written: {error}", error=error)
        self._failing = error is not None

    def _write_lines(self) -> OSError | None:
        with self._lock:
            pieces, self._writing = self._writing, []
            try:
                for piece in pieces:
                    data = memoryview(piece)
                    while data:
                        data = data[os.write(self._descriptor, data) :]
            except OSError as error:
                return error
            return None

    def _written(self) -> None:
        self._busy = False

    def reopen(self) -> None:
        """Open the file anew by its name, after a log rotation."""
        if self._path is None:
            return
        try:
            new = self._open(self._path)
        except OSError as error:
            _log.error("the access log can't be opened anew: {error}", error=error)
            return
        self._in_thread(lambda: self._use(new), lambda: None)

    def _use(self, descriptor: int) -> None:
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = descriptor

    def close(self) -> None:
        """Write what waits now, and what may still come as it comes."""
        self._closed = True
        self.flush()

    def flush(self) -> None:
        """Write what waits now; blocks until it is written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            self._join()
            self._writing += self._pieces
            self._pieces = []
        self._write_out()
