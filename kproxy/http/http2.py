"""A client's HTTP/2 connection: frames to requests, responses to frames (RFC 9113).

The state machine, the windows and the reading of compressed fields are those of the `h2` library.
The rules that keep the rest right:

1. `FrameReader` cuts what comes into frames, and h2 gets one at a time: what one frame brings about
   has happened before h2 sees the next, and what h2 never should see (RFC 9113 sections 5.3, 5.5)
   does not reach it.
2. A malformed request ends its stream, not the connection (section 8.1.1). So fields are read here,
   not in h2, and a Content-Length is compared before h2 gets to it.
3. What costs more to answer than to send is counted (`http2_limits`).
4. What goes out waits in the `Outbox` (`http2_outbox`), where streams take turns.
5. It ends in three steps (`http2_leaving`), and what comes after the second is not looked at.

It is a protocol in asyncio's shape, as that of HTTP/1 is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.stream import H2Stream
from twisted.logger import Logger

from kproxy.http.heads import BadHead
from kproxy.http.http1_response import _address
from kproxy.http.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    ConnectionFailed,
    Frame,
    FrameReader,
)
from kproxy.http.http2_leaving import Leaving
from kproxy.http.http2_limits import LAST_TYPE, Allowances, data_size
from kproxy.http.http2_machine import MAX_STREAMS, Machine
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
        self._allowances = Allowances(site.clock, self.machine)
        self._leaving = Leaving(site.clock, self.machine, self.outbox, self._streams, self._linger)
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
                self._frame(frame)
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

    # Frames.

    def _frame(self, frame: Frame) -> None:
        """Let h2 see a frame, and let happen what it says that the frame means."""
        kind = frame.kind
        if kind == HEADERS:
            if not frame.flags & END_HEADERS:
                self.site.waiting.add(self)
            elif self.machine.opens_stream(frame):
                self._open_stream(frame)
                return
        else:
            self._allowances.count(frame)
            if kind == DATA:
                self._compare_length(frame)
            elif kind == GOAWAY:
                self._client_leaves(frame)
                return
            elif kind == RST_STREAM:
                if frame.stream_id > self.machine.highest_inbound_stream_id:
                    raise ConnectionFailed(ErrorCodes.PROTOCOL_ERROR, "a reset before its stream")
                if frame.stream_id not in self._streams:
                    self._allowances.count_late_reset()
            elif kind == PRIORITY:
                if frame.length == 5 and frame.stream_id:
                    return  # RFC 9113 section 5.3.2: it has no meaning any more
            elif kind > LAST_TYPE:
                return  # RFC 9113 section 5.5
        for event in self.machine.receive_data(frame.whole):
            handle = _HANDLERS.get(event.__class__)
            if handle is not None:
                handle(self, event)

    def _compare_length(self, frame: Frame) -> None:
        """Compare a body with its Content-Length: h2 would end the connection over it."""
        stream = self._streams.get(frame.stream_id)
        if stream is None or stream.left_to_come is None:
            return
        size = data_size(frame)
        ends = frame.flags & END_STREAM
        if size > stream.left_to_come or (ends and size != stream.left_to_come):
            self._malformed(frame.stream_id, "the body is not what its Content-Length says")

    def _malformed(self, stream_id: int, reason: str) -> None:
        """A stream error (RFC 9113 section 8.1.1)."""
        _log.info(
            "refused a request from {client}: {reason}",
            client=getattr(self.client, "host", ""),
            reason=reason,
        )
        self._allowances.resets.spend("malformed requests")
        self.machine.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.lost()

    def _open_stream(self, frame: Frame) -> None:
        ended = bool(frame.flags & END_STREAM)
        self._request(*self.machine.open_stream(frame), ended)
        stream = self._streams.get(frame.stream_id)
        if ended and stream is not None:
            stream.receive_end([])

    def _request_received(self, event: RequestReceived) -> None:
        stream = self.machine.streams[event.stream_id]
        self._request(stream, event.headers, event.stream_ended is not None)

    def _request(self, machine: H2Stream, fields: Iterable[Any], ended: bool) -> None:
        stream_id = machine.stream_id
        if stream_id > self._leaving.last_stream or len(self._streams) >= MAX_STREAMS:
            self._allowances.resets.spend("requests")
            self.machine.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        stream = HTTP2Stream(self, stream_id, machine)
        try:
            head = self.site.http2_heads.request(fields, self.secure, ended)
        except BadHead as error:
            if error.status == 400:
                self._malformed(stream_id, str(error))
                return
            self._open(stream)
            stream.refuse(error, ended)
            return
        self._open(stream)
        stream.begin_request(head)

    def _open(self, stream: HTTP2Stream) -> None:
        self._streams[stream.id] = stream
        self.site.waiting.remove(self)

    def _trailers_received(self, event: TrailersReceived) -> None:
        self.site.waiting.remove(self)
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        try:
            trailers = self.site.http2_heads.trailers(event.headers)
            if stream.left_to_come:
                raise BadHead("the body is not what its Content-Length says")
        except BadHead as error:
            self._malformed(stream.id, str(error))
            return
        stream.receive_end(trailers)

    def _data_received(self, event: DataReceived) -> None:
        stream_id: int = event.stream_id
        data: bytes = event.data
        stream = self._streams.get(stream_id)
        size: int = event.flow_controlled_length
        if stream is None or stream.body is None:
            self.acknowledge(stream_id, size)
            return
        if size > len(data):
            self.acknowledge(stream_id, size - len(data))
        stream.receive(data)

    def _stream_ended(self, event: StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.receive_end([])

    def _stream_reset(self, event: StreamReset) -> None:
        """By the client, or by h2, which had a reason to."""
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._allowances.resets.spend("requests that were taken back")
            stream.lost()

    def _window_updated(self, event: WindowUpdated) -> None:
        if event.stream_id:
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                self.outbox.line_up(stream)

    def _settings_changed(self, event: RemoteSettingsChanged) -> None:
        for stream in list(self._streams.values()):
            self.outbox.line_up(stream)

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

    def _ping_answered(self, event: PingAckReceived) -> None:
        self._leaving.ping_answered(event.ping_data)

    def _client_leaves(self, frame: Frame) -> None:
        """GOAWAY: the client opens no more streams, and waits for those that it has."""
        if frame.stream_id:
            raise ConnectionFailed(ErrorCodes.PROTOCOL_ERROR, "GOAWAY on a stream")
        if frame.length < 8:
            raise ConnectionFailed(ErrorCodes.FRAME_SIZE_ERROR, "a GOAWAY that is too short")
        self._leaving.client_leaves()

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


_HANDLERS: Final[dict[type, Callable[[HTTP2Connection, Any], None]]] = {
    RequestReceived: HTTP2Connection._request_received,
    TrailersReceived: HTTP2Connection._trailers_received,
    DataReceived: HTTP2Connection._data_received,
    StreamEnded: HTTP2Connection._stream_ended,
    StreamReset: HTTP2Connection._stream_reset,
    WindowUpdated: HTTP2Connection._window_updated,
    RemoteSettingsChanged: HTTP2Connection._settings_changed,
    PingAckReceived: HTTP2Connection._ping_answered,
}
