"""Files to sockets by the kernel, beside a transport that goes on doing the rest.

The rules that keep it right:

1. The socket is written to directly only while the transport has nothing to send: bytes keep their
   order.
2. When the socket takes no more, the next piece goes through the transport, which waits for room and
   tells (`resumeProducing`) when it has nothing left. So nothing here waits for a socket by itself.
3. Only what the kernel has in memory is sent in the reactor's thread. What it has not is read in
   another thread first: a slow disk stalls one response, not all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from kproxy.threads import InThread

AT_ONCE = 1024 * 1024
"""Bytes that one connection sends before others have their turn."""
PIECE = 128 * 1024

_log = Logger()


@implementer(IPushProducer)
class FileSender:
    """Sends the first bytes of a file to a transport.

    @param done: called when all of it was sent, or handed to the transport.
    """

    __slots__ = (
        "_clock",
        "_done",
        "_fetched",
        "_fetching",
        "_file",
        "_in_thread",
        "_length",
        "_position",
        "_transport",
    )

    def __init__(
        self,
        transport: Any,
        file: Any,
        length: int,
        in_thread: InThread,
        clock: IReactorTime,
        done: Callable[[], object],
    ) -> None:
        self._transport = transport
        self._file = file
        self._length = length
        self._in_thread = in_thread
        self._clock = clock
        self._position = 0
        self._fetched = 0
        self._fetching = False
        self._done: Callable[[], object] | None = done

    def start(self) -> None:
        # The transport is to say when it has something to send, and when it has nothing left.
        self._transport.set_write_buffer_limits(high=0)
        self._send()

    def _send(self) -> None:
        """Send what can be sent now, within bounds."""
        if self._fetching or self._done is None:
            return
        transport = self._transport
        if self._position < self._length:
            if self._position >= self._fetched and not self._in_memory():
                self._fetch()
                return
            if transport.get_write_buffer_size() == 0:
                self._send_directly()
            if self._position < self._fetched and not self._send_piece():
                return
            if self._position < self._length:
                if transport.get_write_buffer_size() == 0:
                    # It has taken all, and will not tell: others have their turn, and then this.
                    self._later()
                return
        done, self._done = self._done, None
        transport.set_write_buffer_limits()
        done()

    def _in_memory(self) -> bool:
        """Whether the next bytes can be sent without waiting for the disk."""
        self._fetched = end = min(self._position + AT_ONCE, self._length)
        try:
            for position in (self._position, end - 1):
                os.preadv(self._file.fileno(), [bytearray(1)], position, os.RWF_NOWAIT)
        except (OSError, AttributeError):
            return False
        return True

    def _later(self) -> None:
        """Go on when the others have had their turn."""
        self._fetching = True
        self._clock.callLater(0, self._go_on)

    def _fetch(self) -> None:
        """Go on when the next bytes have been read in another thread."""
        self._fetching = True
        self._in_thread(self._read_window, self._go_on)

    def _go_on(self) -> None:
        self._fetching = False
        self._send()

    def _read_window(self) -> None:
        """Have the kernel read the next bytes into its memory; whoever sends them hears of errors."""
        with suppress(OSError):
            os.pread(self._file.fileno(), self._fetched - self._position, self._position)

    def _send_directly(self) -> None:
        """Fill the socket, which may be broken as well as full: the transport will find out."""
        socket = self._transport.get_extra_info("socket")
        count = self._fetched - self._position
        try:
            sent = os.sendfile(socket.fileno(), self._file.fileno(), self._position, count)
        except OSError:
            return
        self._position += sent

    def _send_piece(self) -> bool:
        """Let the transport wait until the socket takes more, and say so. Whether there was a piece."""
        count = min(self._fetched - self._position, PIECE)
        try:
            data = os.pread(self._file.fileno(), count, self._position)
        except OSError as error:
            self._break_off(str(error))
            return False
        if not data:
            self._break_off("it is shorter than it was")
            return False
        self._position += len(data)
        self._transport.write(data)
        return True

    def _break_off(self, reason: str) -> None:
        """What is left can't be had: cut the client off, so that it does not take this for all."""
        _log.error("a response can't be read from its temporary file: {reason}", reason=reason)
        self._done = None
        self._transport.abort()

    def pauseProducing(self) -> None:
        """The transport has something to send; `resumeProducing` follows when it has not."""

    def resumeProducing(self) -> None:
        self._send()

    def stopProducing(self) -> None:
        self._done = None
