"""What a thread does in one go for a body on its way to a file.

It writes what has been read. What has arrived behind that it brings to the file right away, within the
kernel (splice(2)): this costs no copy into the process, and no change of thread for each piece.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Any, Protocol

CAN_FETCH = hasattr(os, "splice")
"""Whether the platform can do that: Linux."""
MOST_PARTS = 512
"""Parts that one call to the kernel takes; the limit is 1024 everywhere (IOV_MAX)."""
MOST_FETCHED = 16 * 1024 * 1024
"""Bytes after which a thread is free for other bodies."""
PIPE = 1024 * 1024
"""Bytes that go through at a time; by default as much as an unprivileged process may have."""


class Source(Protocol):
    """A producer whose body comes over a socket. While it is paused, others may read from that."""

    def lend_socket(self) -> tuple[int, int] | None:
        """Where the rest of the body can be read, without waiting.

        @return: a descriptor, which the caller closes, and the bytes that are left of the body; None:
            nothing has come, or it can't be had in this way.
        """

    def taken(self, size: int) -> object:
        """So many bytes of the body, not 0, have been read there, and nobody reads any more."""


class Transfer:
    """Writes parts of a body into a file, and behind them what has come from a socket.

    @param file: it is at the body's end, and stays open for as long as this exists.
    @param lent: what `Source.lend_socket` has returned.
    @ivar fetched: bytes that were read from the socket.
    @ivar error: why not all of it is in the file; None if it is.
    """

    __slots__ = ("_file", "_lent", "_parts", "error", "fetched")

    def __init__(self, file: Any, parts: list[bytes], lent: tuple[int, int] | None) -> None:
        self._file = file
        self._parts = parts
        self._lent = lent
        self.fetched = 0
        self.error: OSError | None = None

    def run(self) -> None:
        """Do it, in a thread."""
        try:
            file = self._file.fileno()
            self._write_parts(file)
            if self._lent is not None:
                self._fetch(file, *self._lent)
        except OSError as error:
            self.error = error
        finally:
            if self._lent is not None:
                os.close(self._lent[0])

    def _write_parts(self, file: int) -> None:
        parts, self._parts = self._parts, []
        for first in range(0, len(parts), MOST_PARTS):
            some = parts[first : first + MOST_PARTS]
            rest = sum(map(len, some)) - os.writev(file, some)
            if rest:
                _write(file, memoryview(b"".join(some))[-rest:])

    def _fetch(self, file: int, socket: int, left: int) -> None:
        try:
            out, into = os.pipe()
        except OSError:
            return  # what comes is read as it is without all this
        try:
            with suppress(OSError):
                fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE)
            left = min(left, MOST_FETCHED)
            while left:
                try:
                    size = os.splice(socket, into, left)
                except OSError:
                    return  # there is nothing now; or it is broken, which its owner will find out
                if not size:
                    return
                left -= size
                self.fetched += size
                _empty(out, file, size)
        finally:
            os.close(out)
            os.close(into)


def _empty(pipe: int, file: int, size: int) -> None:
    """Bring what is in a pipe to a file."""
    while size:
        try:
            size -= os.splice(pipe, file, size)
        except OSError:  # not every file system takes it so; if that is not the reason, this tells
            data = os.read(pipe, size)
            size -= len(data)
            _write(file, data)


def _write(file: int, data: bytes | memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]
