"""The lines of a worker's access log: the control process writes those of all workers, so that each
is whole however long it is, and whatever becomes of the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kproxy.lines import FLUSH_AFTER, LineWriter
from kproxy.threads import InThread
from kproxy.workers.channel import Channel


class ChannelLines:
    """Collects lines, and sends many at once.

    @param orphaned: makes what lines are written by when the control process is gone.
    """

    def __init__(
        self, clock: IReactorTime, channel: Channel, orphaned: Callable[[], LineWriter]
    ) -> None:
        self._clock = clock
        self._channel = channel
        self._orphaned = orphaned
        self._writer: LineWriter | None = None
        self._lines: list[str] = []
        self._timer: IDelayedCall | None = None

    def write(self, line: str) -> None:
        """Add a line; it ends with its line feed."""
        self._lines.append(line)
        if self._timer is None:
            self._timer = self._clock.callLater(FLUSH_AFTER, self.flush)

    def flush(self) -> None:
        """Send what there is."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if not self._lines:
            return
        text, self._lines = "".join(self._lines), []
        if not self._channel.is_lost:
            self._channel.tell("lines", text.encode("utf-8"))
            return
        if self._writer is None:
            self._writer = self._orphaned()
        self._writer.write(text)

    def close(self) -> None:
        """Send what there is, for the last time."""
        self.flush()
        if self._writer is not None:
            self._writer.close()


def line_writer(clock: IReactorTime, in_thread: InThread, path: str | None) -> LineWriter:
    """Writes to where the control process did."""
    return LineWriter(clock, in_thread, None if path is None else Path(path))
