"""How often a client may do what costs it less than the proxy (RFC 9113 section 10.5).

What waits or is collected is bounded where it waits: bodies by the windows of `http2_machine`, field
blocks by `http2_frames`, requests by the number of streams. What is left is what leaves nothing behind
and costs all the same: a request that is taken back (rapid reset), a ping, an empty frame. An orderly
client does those now and then, so that they are counted, and too many of them end the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes
from twisted.internet.interfaces import IReactorTime

from kproxy.http.http2_frames import (
    DATA,
    END_STREAM,
    PADDED,
    PING,
    PRIORITY,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFailed,
    Frame,
)

if TYPE_CHECKING:
    from kproxy.http.http2_machine import Machine

MOST_RESETS: Final = 200
"""Streams that come to nothing: taken back, malformed, refused, within `PER_SECONDS`."""
MOST_IDLE_FRAMES: Final = 1000
"""Frames that move nothing, within `PER_SECONDS`."""
PER_SECONDS: Final = 10.0
UPDATES_PER_FRAME: Final = 32
"""WINDOW_UPDATE frames for each frame of a response, which move something: clients give back what they
have read to the stream and to the connection, and some do so for each small piece of a frame (Go's, for
every 4 KB)."""

_IDLE: Final = {
    PRIORITY: "PRIORITY frames",
    PING: "PING and SETTINGS frames",
    SETTINGS: "PING and SETTINGS frames",
}
LAST_TYPE: Final = 9
"""The last type of frame that RFC 9113 knows; those over it are extensions, and ignored."""


class Allowance:
    """What may be done so many times within some seconds."""

    __slots__ = ("_left", "_most", "_now", "_seconds", "_until")

    def __init__(self, clock: IReactorTime, most: int, seconds: float) -> None:
        self._now = clock.seconds
        self._most = most
        self._seconds = seconds
        self._left = most
        self._until = clock.seconds() + seconds

    def spend(self, what: str) -> None:
        """It was done once more.

        @raise ConnectionFailed: too often.
        """
        now = self._now()
        if now >= self._until:
            self._until = now + self._seconds
            self._left = self._most
        self._left -= 1
        if self._left < 0:
            raise ConnectionFailed(ErrorCodes.ENHANCE_YOUR_CALM, f"too many {what}")


class Allowances:
    """Those of one connection.

    @ivar resets: is spent by whoever ends a stream that has come to nothing.
    """

    __slots__ = ("_idle_frames", "_machine", "_updates", "resets")

    def __init__(self, clock: IReactorTime, machine: Machine) -> None:
        self._machine = machine
        self._updates = 0
        self.resets = Allowance(clock, MOST_RESETS, PER_SECONDS)
        self._idle_frames = Allowance(clock, MOST_IDLE_FRAMES, PER_SECONDS)

    def count(self, frame: Frame) -> None:
        """A frame has come, which does not begin a request.

        @raise ConnectionFailed: too many of its kind.
        """
        kind = frame.kind
        if kind == WINDOW_UPDATE:
            self._updates += 1
            if self._updates > UPDATES_PER_FRAME * self._machine.frames_sent:
                self._idle_frames.spend("WINDOW_UPDATE frames")
        elif kind == DATA:
            if not frame.flags & END_STREAM and data_size(frame) <= 0:
                self._idle_frames.spend("empty DATA frames")
        elif kind in _IDLE:
            self._idle_frames.spend(_IDLE[kind])
        elif kind > LAST_TYPE:
            self._idle_frames.spend("frames of an unknown type")

    def count_late_reset(self) -> None:
        """A stream was reset that had ended.

        @raise ConnectionFailed: too often.
        """
        self._idle_frames.spend("resets of streams that have ended")


def data_size(frame: Frame) -> int:
    """Bytes of a DATA frame that are not padding; less than 0 if there is more padding than frame."""
    if frame.flags & PADDED and frame.length:
        return frame.length - 1 - frame.whole[9]
    return frame.length
