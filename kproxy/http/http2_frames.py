"""Bytes from an HTTP/2 client, cut into frames, before the state machine of `h2` sees them.

h2 takes bytes too, but waits for the whole of a frame before it looks at the frame's size, and tells
of a frame only what it thinks of it. What is decided here is what has to be decided before: that the
connection begins as it should, and that nothing is collected without bound (RFC 9113 section 10.5).
Pure: bytes in, frames or an error out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from h2.errors import ErrorCodes

from kproxy.http.heads import MAX_HEAD

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
"""Types of frames, RFC 9113 section 6; those over 9 are extensions."""

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME: Final = 16 * 1024
"""Bytes of a frame's payload: what every endpoint takes, and all that is taken here."""
MAX_BLOCK: Final = 2 * MAX_HEAD
"""Bytes of a compressed field block. Compressed fields over their limit are mostly smaller than this,
so that most clients that send too many get a 431 and not a closed connection."""

_FIELD_BLOCKS: Final = frozenset((HEADERS, CONTINUATION))
_SIZES: Final = {(SETTINGS, ACK): 0}
"""Payloads that have one size, where h2 has another error code for those of another."""

_HEADER: Final = struct.Struct(">HBBBL")
_STREAM_ID: Final = struct.Struct(">L")


class ConnectionFailed(Exception):
    """An error of the whole connection (RFC 9113 section 5.4.1): its code, and a reason for the log."""

    def __init__(self, code: ErrorCodes, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Frame(NamedTuple):
    """One frame."""

    kind: int
    flags: int
    stream_id: int
    length: int
    """Bytes of the payload."""
    whole: bytes
    """Header and payload."""


def frame_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a payload of so many bytes."""
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def is_priority(frame: Frame) -> bool:
    """Whether a PRIORITY frame is one: its size, that it is for a stream, and that this does not
    depend on itself (RFC 9113 section 6.3, RFC 7540 section 5.3.1)."""
    if frame.length != 5 or not frame.stream_id:
        return False
    (depends_on,) = _STREAM_ID.unpack_from(frame.whole, 9)
    return bool(depends_on & 0x7FFFFFFF != frame.stream_id)


class FrameReader:
    """Cuts what a client sends into frames.

    @ivar in_block: a field block has begun and not ended.
    """

    def __init__(self) -> None:
        self.in_block = False
        self._buffer = b""
        self._begun = False
        self._settled = False
        self._block = 0

    @property
    def begun(self) -> bool:
        """Whether the client has shown that it speaks HTTP/2."""
        return self._begun

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now.

        @raise ConnectionFailed: as soon as it can be told.
        """
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        position = 0
        if not self._begun:
            if data[: len(PREFACE)] != PREFACE[: len(data)]:
                raise ConnectionFailed(ErrorCodes.PROTOCOL_ERROR, "it does not speak HTTP/2")
            if len(data) < len(PREFACE):
                self._buffer = data
                return
            self._begun = True
            position = len(PREFACE)
        size = len(data)
        while size - position >= 9:
            high, low, kind, flags, stream_id = _HEADER.unpack_from(data, position)
            length = high << 8 | low
            if length > MAX_FRAME or length != _SIZES.get((kind, flags & ACK), length):
                raise ConnectionFailed(ErrorCodes.FRAME_SIZE_ERROR, "a frame has a wrong size")
            end = position + 9 + length
            if kind in _FIELD_BLOCKS or not self._settled or self.in_block:
                self._check(kind, flags, length)
            if end > size:
                break
            if kind in _FIELD_BLOCKS:
                self._count(flags, length)
            self._settled = True
            whole = data if position == 0 and end == size else data[position:end]
            position = end
            yield Frame(kind, flags, stream_id & 0x7FFFFFFF, length, whole)
        if position < size:
            self._buffer = data[position:] if position else data

    def _check(self, kind: int, flags: int, length: int) -> None:
        """Look at a frame whose payload may not have come."""
        if not self._settled and (kind != SETTINGS or flags & ACK):
            raise ConnectionFailed(ErrorCodes.PROTOCOL_ERROR, "it did not begin with its settings")
        if self.in_block and kind != CONTINUATION:
            raise ConnectionFailed(ErrorCodes.PROTOCOL_ERROR, "a field block was interrupted")
        if self._block + length > MAX_BLOCK:
            raise ConnectionFailed(ErrorCodes.ENHANCE_YOUR_CALM, "a field block is too large")

    def _count(self, flags: int, length: int) -> None:
        self.in_block = not flags & END_HEADERS
        self._block = self._block + length if self.in_block else 0
