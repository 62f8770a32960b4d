"""A client's HTTP/2 connection: frames to requests, responses to frames (RFC 9113).

The state machine, the windows and the reading of compressed fields are those of the `h2` library.
The rules that keep the rest right:

1. `FrameReader` cuts what comes into frames, and h2 gets one at a time: what one frame brings about
   has happened before h2 sees the next, and what h2 never should see (RFC 9113 sections 5.3, 5.5)
   does not reach it.
2. A malformed request ends its stream, not the connection (section 8.1.1). So fields are read by us,
   not by h2, and a Content-Length is compared before h2 gets to it.
3. What costs more to answer than to send is counted (`http2_limits`).
4. What goes out waits in the `Outbox` (`http2_outbox`), where streams take turns.
5. It ends in three steps (`http2_leaving`), and what comes after the second is not looked at.

It is a protocol in asyncio's shape, as that of HTTP/1 is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from twisted.logger import Logger

from kproxy.http.http1_response import _address
from kproxy.http.http2_frames import ConnectionFailed, FrameReader
from kproxy.http.http2_incoming import Incoming
from kproxy.http.http2_leaving import Leaving
from kproxy.http.http2_machine import Machine
from kproxy.http.http2_outbox import Outbox
from kproxy.http.http2_stream import HTTP2Stream

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from kproxy.http.site import Site

_log = Logger()


class HTTP2Connection(asyncio.Protocol):
    """The server side of one connection.

    @ivar machine: the state machine, for the streams.
    @ivar outbox: the way out, for the streams.
    @ivar client: the address at its other end.
    @ivar host: the address at this one.
    """

    def __init__(
        self, site: Site, secure: bool = True, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.site = site
        self.secure = secure
        self.random = random
        self.transport: Any = None
        self.client: IAddress
        self.host: IAddress
        self.machine = Machine(site.http2_fields)
        self.outbox = Outbox(self.machine, secure)
        self._reader = FrameReader()
        self._streams: dict[int, HTTP2Stream] = {}
        self._leaving = Leaving(site.clock, self.machine, self.outbox, self._streams, self._linger)
        self._incoming = Incoming(self, self._streams, self._leaving)
        self._closing = False  # all has been said, and what comes is not looked at
        self._reading = True

    # What the transport tells.

    def connection_made(self, transport: Any) -> None:
        self.transport = self.outbox.transport = transport
        self.client = _address(transport.get_extra_info("peername"))
        self.host = _address(transport.get_extra_info("sockname"))
        self.site.opened(self)
        self.site.waiting.add(self)
        self.outbox.flush()
        if self.site.draining:
            self.close_when_idle()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        outbox = self.outbox
        outbox.collecting = True
        try:
            for frame in self._reader.feed(data):
                self._incoming.take(frame)
                if self._ended():
                    break
        except ConnectionFailed as error:
            self._fail(error.code, str(error))
        except ProtocolError as error:
            self._failed(str(error))  # h2 has its GOAWAY ready
        finally:
            outbox.collecting = False
        outbox.pump()
        if self._reading and outbox.overflows():
            self._reading = False
            self.transport.pause_reading()

    def _ended(self) -> bool:
        """Whether what comes is of no interest any more."""
        return self._closing

    def eof_received(self) -> None:
        """The client has closed its side, and the transport closes the other."""
        self._end_streams()

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self.outbox.transport = None
        self._leaving.stop()
        self.site.closed(self)
        self._end_streams()

    def _end_streams(self) -> None:
        for stream in list(self._streams.values()):
            stream.lost()

    def pause_writing(self) -> None:
        self.outbox.blocked = True
        self.outbox.remember()
        self.site.stalled_writes.add(self)

    def resume_writing(self) -> None:
        self.outbox.blocked = False
        self.site.stalled_writes.remove(self)
        if not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()
        self.outbox.pump()

    # Time limits.

    def write_overdue(self) -> None:
        """The client has not taken anything for long."""
        if self.outbox.moves():
            self.site.stalled_writes.add(self)
        else:
            self.abort()

    def head_overdue(self) -> None:
        """The connection was idle for long, or a field block has not ended in time."""
        if self._closing:
            return
        if not self._reader.begun:
            self.transport.close()
        elif self._reader.in_block:
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM, "the headers did not come in time")
        elif not self._streams:
            self._leaving.at_once(ErrorCodes.NO_ERROR)
            self._linger()
        self.outbox.flush()

    def linger_overdue(self) -> None:
        """The client has had the time to read what it was told, if it could have it."""
        if self.outbox.unsent():
            self.site.lingering.add(self)
        else:
            self.transport.close()

    # What streams ask.

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Bytes of a body that are not held here any more."""
        if not self._closing:
            self.machine.acknowledge_received_data(size, stream_id)
            self.outbox.flush()

    def reset(self, stream: HTTP2Stream, code: ErrorCodes) -> None:
        """RST_STREAM, unless both sides have ended the stream already."""
        if not self._closing and stream.open:
            self.machine.reset_stream(stream.id, code)
            self.outbox.flush()

    def forget(self, stream: HTTP2Stream) -> None:
        """A stream has ended."""
        self._streams.pop(stream.id, None)
        if not self._streams and not self._closing:
            self.site.waiting.add(self)
            self._leaving.stream_ended()

    # The end.

    def close_when_idle(self) -> None:
        """Take no new request, and close when those at hand have been answered; WebSockets, whose
        end nobody can foresee, end at once."""
        if self._closing:
            return
        if not self._reader.begun:
            self.transport.close()
        elif self._leaving.announce():
            for stream in list(self._streams.values()):
                stream.close_tunnel()
            self.outbox.flush()

    def _fail(self, code: ErrorCodes, reason: str) -> None:
        if not self._closing:
            self._leaving.at_once(code)
            self._failed(reason)

    def _failed(self, reason: str) -> None:
        """An error of the connection has been told the client."""
        _log.info(
            "closed an HTTP/2 connection from {client}: {reason}",
            client=getattr(self.client, "host", ""),
            reason=reason,
        )
        self._linger()
        self._end_streams()

    def _linger(self) -> None:
        """All has been said: close when the client has, or soon."""
        if not self._closing:
            self._closing = True
            self._leaving.stop()
            self.site.waiting.remove(self)
            self.site.lingering.add(self)
            if self.outbox.remember():
                self.site.stalled_writes.add(self)
            if not self._reading and not self.transport.is_closing():
                self._reading = True
                self.transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection now."""
        self._closing = True
        self.transport.abort()
