"""A client's HTTP/2 connection: frames to requests, responses to frames (RFC 9113).

The state machine, the windows and the reading of compressed fields are those of the `h2` library.
The rules that keep the rest right:

1. `FrameReader` cuts what comes into frames, and h2 gets one at a time: what one frame brings about
   has happened before h2 sees the next, and what h2 never should see (RFC 9113 sections 5.3, 5.5)
   does not reach it.
2. A malformed request ends its stream, not the connection (section 8.1.1). So fields are read here,
   not in h2, and a Content-Length is compared before h2 gets to it.
3. All that goes out passes `_out`, in order. It is handed to the transport when what came in has
   been looked at to its end, or at once when something else brought it about.
4. Streams that have to wait for the connection stand in line, and send one frame in turn.
5. What costs more to answer than to send (resets, pings, settings, empty frames) is counted.
6. The connection ends in three steps: GOAWAY, so that no new stream comes; the last stream; and then
   a time to read on, since a close with bytes unread would destroy what is on its way.

It is a protocol in asyncio's shape, as that of HTTP/1 is.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
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
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    Allowance,
    ConnectionFailed,
    Frame,
    FrameReader,
)
from kproxy.http.http2_machine import LAST_STREAM, MAX_STREAMS, Machine
from kproxy.http.http2_stream import HTTP2Stream
from kproxy.sockets import unconfirmed

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall

    from kproxy.http.site import Site

SEND_AT_ONCE: Final = 64 * 1024
"""Bytes of responses that are handed to the transport in one piece."""
MOST_UNSENT: Final = 256 * 1024
"""Bytes that wait for the client, over which it is not listened to."""
MOST_RESETS: Final = 200
MOST_IDLE_FRAMES: Final = 1000
PER_SECONDS: Final = 10.0
FINAL_GOAWAY: Final = 1.0
"""Seconds between the announcement that the connection will end, and that no new request is taken,
for a client that does not answer the ping between them."""

_log = Logger()


class HTTP2Connection(asyncio.Protocol):
    """The server side of one connection.

    @ivar machine: the state machine, for the streams.
    @ivar blocked: the transport takes nothing now.
    @ivar in_line: streams that have something to send, and room for it in their own windows.
    """

    def __init__(
        self, site: Site, secure: bool = True, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.site = site
        self.secure = secure
        self.random = random
        self.transport: Any = None
        self.machine = Machine(site.http2_fields)
        self.blocked = False
        self.in_line: deque[HTTP2Stream] = deque()
        self._client: IAddress | None = None
        self._host: IAddress | None = None
        self._reader = FrameReader()
        self._streams: dict[int, HTTP2Stream] = {}
        self._out: list[bytes | memoryview] = []
        self._out_size = 0
        self._batching = False
        self._pumping = False
        self._reading = True
        self._unsent = 0
        self._closing = False  # all has been said, and what comes is not looked at
        self._lost = False
        self._leaving = False  # it ends with its last stream
        self._last_stream = LAST_STREAM  # of those that are served, once GOAWAY has said so
        self._goaway_timer: IDelayedCall | None = None
        self._resets = Allowance(site.clock, MOST_RESETS, PER_SECONDS)
        self._idle_frames = Allowance(site.clock, MOST_IDLE_FRAMES, PER_SECONDS)

    # What the transport tells.

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.site.opened(self)
        self.site.waiting.add(self)
        self.flush()
        if self.site.draining:
            self.close_when_idle()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._batching = True
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
            self._batching = False
        self.flush()
        if self.blocked and self._reading and self._over_the_limit():
            self._reading = False
            self.transport.pause_reading()

    def _ended(self) -> bool:
        """Whether what comes is of no interest any more."""
        return self._closing

    def _over_the_limit(self) -> bool:
        unsent: int = self.transport.get_write_buffer_size()
        return unsent > MOST_UNSENT

    def eof_received(self) -> None:
        """The client has closed its side, and the transport closes the other."""
        self._end_streams()

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = self._lost = True
        if self._goaway_timer is not None:
            self._goaway_timer.cancel()
            self._goaway_timer = None
        self.site.closed(self)
        self._end_streams()

    def _end_streams(self) -> None:
        for stream in list(self._streams.values()):
            stream.lost()

    def pause_writing(self) -> None:
        self.blocked = True
        self._unsent = self.transport.get_write_buffer_size()
        self.site.stalled_writes.add(self)

    def resume_writing(self) -> None:
        self.blocked = False
        self.site.stalled_writes.remove(self)
        if not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()
        self._pump()
        self.flush()

    # Time limits.

    def _unsent_bytes(self) -> int:
        """What the client has not got; beneath TLS there may be some that its transport does not
        tell of."""
        unsent: int = self.transport.get_write_buffer_size()
        return unsent or (unconfirmed(self.transport) if self.secure else 0)

    def write_overdue(self) -> None:
        """The client has not taken anything for long."""
        unsent = self._unsent_bytes()
        if unsent < self._unsent:
            self._unsent = unsent
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
            self.write(
                self.machine.goaway_frame(
                    self.machine.highest_inbound_stream_id, ErrorCodes.NO_ERROR
                )
            )
            self._linger()
        self.flush()

    def linger_overdue(self) -> None:
        """The client has had the time to read what it was told, if it could have it."""
        if self._unsent_bytes():
            self.site.lingering.add(self)
        else:
            self.transport.close()

    # Frames.

    def _frame(self, frame: Frame) -> None:
        """Let h2 see a frame, and let happen what it says that the frame means."""
        kind, flags, stream_id, length, whole = frame
        if kind == DATA:
            self._before_data(frame)
        elif kind == HEADERS:
            if not flags & END_HEADERS:
                self.site.waiting.add(self)
            elif self.machine.opens_stream(frame):
                self._open_stream(frame)
                return
        elif kind == GOAWAY:
            self._client_leaves(frame)
            return
        elif kind == RST_STREAM:
            if stream_id > self.machine.highest_inbound_stream_id:
                raise ConnectionFailed(ErrorCodes.PROTOCOL_ERROR, "a reset before its stream")
        elif kind == PRIORITY:
            self._idle_frames.spend("PRIORITY frames")
            if length == 5 and stream_id:
                return  # RFC 9113 section 5.3.2: it has no meaning any more
        elif kind in (PING, SETTINGS):
            self._idle_frames.spend("PING and SETTINGS frames")
        elif kind > 9:
            self._idle_frames.spend("frames of an unknown type")
            return  # RFC 9113 section 5.5
        for event in self.machine.receive_data(whole):
            handle = _HANDLERS.get(event.__class__)
            if handle is not None:
                handle(self, event)

    def _before_data(self, frame: Frame) -> None:
        """Compare a body with its Content-Length: h2 would end the connection over it."""
        ends = frame.flags & END_STREAM
        size = frame.length
        if frame.flags & PADDED and size:
            size -= 1 + frame.whole[9]
        if size <= 0 and not ends:
            self._idle_frames.spend("empty DATA frames")
        stream = self._streams.get(frame.stream_id)
        if stream is None or stream.left_to_come is None:
            return
        if size > stream.left_to_come or (ends and size != stream.left_to_come):
            self._malformed(frame.stream_id, "the body is not what its Content-Length says")

    def _malformed(self, stream_id: int, reason: str) -> None:
        """A stream error (RFC 9113 section 8.1.1)."""
        _log.info(
            "refused a request from {client}: {reason}",
            client=getattr(self.client, "host", ""),
            reason=reason,
        )
        self._resets.spend("malformed requests")
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
        if stream_id > self._last_stream or len(self._streams) >= MAX_STREAMS:
            self._resets.spend("requests")
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
            self._resets.spend("requests that were taken back")
            stream.lost()

    def _window_updated(self, event: WindowUpdated) -> None:
        if event.stream_id:
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                self.line_up(stream)
        self._pump()

    def _settings_changed(self, event: RemoteSettingsChanged) -> None:
        for stream in list(self._streams.values()):
            self.line_up(stream)
        self._pump()

    # What goes out.

    def write(self, *parts: bytes | memoryview) -> None:
        """Frames that h2 did not make, behind those that it did."""
        made = self.machine.data_to_send()
        if made:
            self._out.append(made)
        self._out += parts
        self._out_size += len(parts[-1])
        if self._out_size >= SEND_AT_ONCE:
            self._hand_over()

    def flush(self) -> None:
        """Send what there is to send, unless more is about to come."""
        if not self._batching and not self._pumping:
            self._hand_over()

    def _hand_over(self) -> None:
        made = self.machine.data_to_send()
        if self._lost:
            self._out.clear()
            return
        if not self._out:
            if made:
                self.transport.write(made)
            return
        out, self._out = self._out, []
        self._out_size = 0
        if made:
            out.append(made)
        self.transport.write(b"".join(out))

    def line_up(self, stream: HTTP2Stream) -> None:
        """Let a stream go on as soon as the connection has room."""
        if not stream.in_turn and stream.can_send():
            stream.in_turn = True
            self.in_line.append(stream)

    def _pump(self) -> None:
        """Let the streams in line send, in turn, as long as there is room."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.in_line and not self.blocked and self._has_room():
                stream = self.in_line.popleft()
                stream.in_turn = False
                if stream.can_send():
                    stream.send_turn()
                    self.line_up(stream)
        finally:
            self._pumping = False
        self.flush()

    def _has_room(self) -> bool:
        return self.machine.outbound_flow_control_window > 0

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Bytes of a body that are not held here any more."""
        if not self._closing:
            self.machine.acknowledge_received_data(size, stream_id)
            self.flush()

    def reset(self, stream: HTTP2Stream, code: ErrorCodes) -> None:
        """RST_STREAM, unless both sides have ended the stream already."""
        if not self._closing and stream.open:
            self.machine.reset_stream(stream.id, code)
            self.flush()

    def forget(self, stream: HTTP2Stream) -> None:
        """A stream has ended."""
        self._streams.pop(stream.id, None)
        if not self._streams and not self._closing:
            if self._leaving and self._last_stream != LAST_STREAM:
                self._linger()
            else:
                self.site.waiting.add(self)

    # The end.

    def close_when_idle(self) -> None:
        """Take no new request, and close when those at hand have been answered; WebSockets, whose
        end nobody can foresee, end at once.

        RFC 9113 section 6.8: first it is only announced, since a request may be on its way. That is
        here when the answer to a ping is.
        """
        if self._closing or self._leaving:
            return
        self._leaving = True
        if not self._reader.begun:
            self.transport.close()
            return
        self.write(self.machine.goaway_frame(LAST_STREAM, ErrorCodes.NO_ERROR))
        self.machine.ping(_PING)
        self._goaway_timer = self.site.clock.callLater(FINAL_GOAWAY, self._take_no_more)
        for stream in list(self._streams.values()):
            if stream.upgraded:
                stream.close_tunnel()
        self.flush()

    def _ping_answered(self, event: PingAckReceived) -> None:
        if event.ping_data == _PING and self._goaway_timer is not None:
            self._goaway_timer.cancel()
            self._take_no_more()

    def _take_no_more(self) -> None:
        self._goaway_timer = None
        if self._closing:
            return
        self._last_stream = self.machine.highest_inbound_stream_id
        self.write(self.machine.goaway_frame(self._last_stream, ErrorCodes.NO_ERROR))
        if not self._streams:
            self._linger()
        self.flush()

    def _client_leaves(self, frame: Frame) -> None:
        """GOAWAY: the client opens no more streams, and waits for those that it has."""
        if frame.stream_id:
            raise ConnectionFailed(ErrorCodes.PROTOCOL_ERROR, "GOAWAY on a stream")
        if frame.length < 8:
            raise ConnectionFailed(ErrorCodes.FRAME_SIZE_ERROR, "a GOAWAY that is too short")
        self._leaving = True
        self._last_stream = self.machine.highest_inbound_stream_id
        if not self._streams:
            self._linger()

    def _fail(self, code: ErrorCodes, reason: str) -> None:
        if not self._closing:
            self.write(self.machine.goaway_frame(self.machine.highest_inbound_stream_id, code))
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
            self.site.waiting.remove(self)
            self.site.lingering.add(self)
            self._unsent = self._unsent_bytes()
            if self._unsent:
                self.site.stalled_writes.add(self)
            if not self._reading and not self.transport.is_closing():
                self._reading = True
                self.transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection now."""
        self._closing = True
        self.transport.abort()

    # Addresses, in Twisted's form.

    @property
    def client(self) -> IAddress:
        if self._client is None:
            self._client = _address(self.transport.get_extra_info("peername"))
        return self._client

    @property
    def host(self) -> IAddress:
        if self._host is None:
            self._host = _address(self.transport.get_extra_info("sockname"))
        return self._host


_PING: Final = b"kproxy\0\0"
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
