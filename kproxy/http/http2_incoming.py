"""What a client's frames mean: which streams they open, what they bring them, what they end.

A `HTTP2Connection` (`kproxy.http.http2`) gives it one frame at a time; rules 1 and 2 there are kept
here.
"""

from __future__ import annotations

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
from h2.stream import H2Stream
from twisted.logger import Logger

from kproxy.http.heads import BadHead
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
    is_priority,
)
from kproxy.http.http2_limits import LAST_TYPE, Allowances, data_size
from kproxy.http.http2_machine import MAX_STREAMS
from kproxy.http.http2_stream import HTTP2Stream

if TYPE_CHECKING:
    from kproxy.http.http2 import HTTP2Connection
    from kproxy.http.http2_leaving import Leaving

_log = Logger()


class Incoming:
    """The way in of one connection."""

    __slots__ = (
        "_allowances",
        "_connection",
        "_leaving",
        "_machine",
        "_outbox",
        "_site",
        "_streams",
    )

    def __init__(
        self, connection: HTTP2Connection, streams: dict[int, HTTP2Stream], leaving: Leaving
    ) -> None:
        """@param streams: those that there are; new ones are added."""
        self._connection = connection
        self._site = connection.site
        self._machine = connection.machine
        self._outbox = connection.outbox
        self._streams = streams
        self._leaving = leaving
        self._allowances = Allowances(connection.site.clock, connection.machine)

    def take(self, frame: Frame) -> None:
        """Let h2 see a frame, and let happen what it says that the frame means."""
        kind = frame.kind
        if kind == HEADERS:
            if not frame.flags & END_HEADERS:
                self._site.waiting.add(self._connection)
            elif self._machine.opens_stream(frame):
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
                if frame.stream_id > self._machine.highest_inbound_stream_id:
                    raise ConnectionFailed(ErrorCodes.PROTOCOL_ERROR, "a reset before its stream")
                if frame.stream_id not in self._streams:
                    self._allowances.count_late_reset()
            elif kind == PRIORITY:
                if is_priority(frame):
                    return  # RFC 9113 section 5.3.2: it has no meaning any more
            elif kind > LAST_TYPE:
                return  # RFC 9113 section 5.5
        for event in self._machine.receive_data(frame.whole):
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
            client=getattr(self._connection.client, "host", ""),
            reason=reason,
        )
        self._allowances.resets.spend("malformed requests")
        self._machine.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.lost()

    def _open_stream(self, frame: Frame) -> None:
        ended = bool(frame.flags & END_STREAM)
        self._request(*self._machine.open_stream(frame), ended)
        stream = self._streams.get(frame.stream_id)
        if ended and stream is not None:
            stream.receive_end([])

    def _request_received(self, event: RequestReceived) -> None:
        stream = self._machine.streams[event.stream_id]
        self._request(stream, event.headers, event.stream_ended is not None)

    def _request(self, machine: H2Stream, fields: Iterable[Any], ended: bool) -> None:
        stream_id = machine.stream_id
        if stream_id > self._leaving.last_stream or len(self._streams) >= MAX_STREAMS:
            self._allowances.resets.spend("requests")
            self._machine.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        stream = HTTP2Stream(self._connection, stream_id, machine)
        try:
            head = self._site.http2_heads.request(fields, self._connection.secure, ended)
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
        self._site.waiting.remove(self._connection)

    def _trailers_received(self, event: TrailersReceived) -> None:
        self._site.waiting.remove(self._connection)
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        try:
            trailers = self._site.http2_heads.trailers(event.headers)
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
            self._connection.acknowledge(stream_id, size)
            return
        if size > len(data):
            self._connection.acknowledge(stream_id, size - len(data))
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
                self._outbox.line_up(stream)

    def _settings_changed(self, event: RemoteSettingsChanged) -> None:
        for stream in list(self._streams.values()):
            self._outbox.line_up(stream)

    def _ping_answered(self, event: PingAckReceived) -> None:
        self._leaving.ping_answered(event.ping_data)

    def _client_leaves(self, frame: Frame) -> None:
        """GOAWAY: the client opens no more streams, and waits for those that it has."""
        if frame.stream_id:
            raise ConnectionFailed(ErrorCodes.PROTOCOL_ERROR, "GOAWAY on a stream")
        if frame.length < 8:
            raise ConnectionFailed(ErrorCodes.FRAME_SIZE_ERROR, "a GOAWAY that is too short")
        self._leaving.client_leaves()


_HANDLERS: Final[dict[type, Callable[[Incoming, Any], None]]] = {
    RequestReceived: Incoming._request_received,
    TrailersReceived: Incoming._trailers_received,
    DataReceived: Incoming._data_received,
    StreamEnded: Incoming._stream_ended,
    StreamReset: Incoming._stream_reset,
    WindowUpdated: Incoming._window_updated,
    RemoteSettingsChanged: Incoming._settings_changed,
    PingAckReceived: Incoming._ping_answered,
}
