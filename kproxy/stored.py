"""Bodies that are all there, and can be sent again and again, at their receiver's pace."""

from __future__ import annotations

import os
from typing import Any

from zope.interface import implementer

from kproxy.interfaces import IBody, IBodyReceiver
from kproxy.threads import InThread

Pairs = list[tuple[bytes, bytes]]
PIECE = 256 * 1024
"""Bytes that are read and sent at once."""
NOWAIT = getattr(os, "RWF_NOWAIT", 0)
"""Asks the kernel for what it has in memory only; not on every platform."""


@implementer(IBody)
class StoredBody:
    """What all of them share. A subclass says where the next piece comes from."""

    __slots__ = ("_busy", "_paused", "_position", "_receiver", "_trailers", "length")
    replayable = True

    def __init__(self, length: int, trailers: Pairs) -> None:
        self.length = length
        self._trailers = trailers
        self._receiver: IBodyReceiver | None = None
        self._position = 0
        self._paused = False
        self._busy = False  # sending, or waiting for a piece

    def start(self, receiver: IBodyReceiver) -> None:
        self._receiver = receiver
        self._position = 0
        self._paused = False
        self._send()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._send()

    def stop(self) -> None:
        self._receiver = None

    def _send(self) -> None:
        """Send until the receiver has had enough, or the next piece has to be waited for."""
        if self._busy:
            return
        self._busy = True
        while self._receiver is not None and not self._paused:
            if self._position >= self.length:
                receiver, self._receiver = self._receiver, None
                receiver.body_end(self._trailers)
                continue  # it may have been started again
            piece = self._piece()
            if piece is None:
                return
            self._deliver(piece)
        self._busy = False

    def _piece(self) -> bytes | None:
        """The next piece. None: `_came` will be called with it."""
        raise NotImplementedError

    def _deliver(self, piece: bytes) -> None:
        receiver: IBodyReceiver = self._receiver  # type: ignore[assignment]
        if piece:
            self._position += len(piece)
            receiver.body_data(piece)
        else:
            self._receiver = None
            receiver.body_lost(OSError("a stored body could not be read"))

    def _came(self, piece: bytes, position: int) -> None:
        """A piece that was waited for is there; it is empty if it could not be read."""
        self._busy = False
        if self._receiver is not None:
            if position == self._position:  # else it was started anew meanwhile
                self._deliver(piece)
            self._send()


class FileBody(StoredBody):
    """The content of a seekable file, read in the reactor's thread: for requests to a stock Site."""

    __slots__ = ("_file",)

    def __init__(self, file: Any, length: int, trailers: Pairs | None = None) -> None:
        super().__init__(length, trailers or [])
        self._file = file

    def _piece(self) -> bytes:
        self._file.seek(self._position)
        data: bytes = self._file.read(min(PIECE, self.length - self._position))
        return data


class MemoryBody(StoredBody):
    """Bytes."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes, trailers: Pairs) -> None:
        super().__init__(len(data), trailers)
        self._data = data

    def _piece(self) -> bytes:
        return self._data


class SpooledBody(StoredBody):
    """The content of a file; what the kernel has not at hand is read in another thread."""

    __slots__ = ("_file", "_in_thread")

    def __init__(self, file: Any, length: int, trailers: Pairs, in_thread: InThread) -> None:
        super().__init__(length, trailers)
        self._file = file
        self._in_thread = in_thread

    def _piece(self) -> bytes | None:
        buffer = bytearray(min(PIECE, self.length - self._position))
        try:
            count = (
                os.preadv(self._file.fileno(), [buffer], self._position, NOWAIT) if NOWAIT else 0
            )
        except OSError:
            count = 0
        if count:
            return bytes(buffer[:count])
        self._read_in_thread()
        return None

    def _read_in_thread(self) -> None:
        position = self._position
        piece = b""

        def read() -> None:
            nonlocal piece
            try:
                piece = os.pread(self._file.fileno(), PIECE, position)
            except OSError:
                piece = b""

        self._in_thread(read, lambda: self._came(piece, position))
