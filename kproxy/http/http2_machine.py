"""h2's state machine, set up for this proxy, with a short way for what every request does.

Everything here that reaches into h2 does what h2 itself would, by the same states and windows, and
leaves out what was measured to cost more than the rest of a request: frames that are parsed twice and
copied four times, lists of fields that are walked a dozen times, streams that are counted for each
new one. Whatever is not the common case goes through h2 as it is.
"""

from __future__ import annotations

from typing import Any, Final

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream, H2StreamStateMachine, StreamClosedBy, StreamInputs, StreamState
from hpack.exceptions import HPACKError, OversizedHeaderListError

from kproxy.http.headers import Pairs
from kproxy.http.heads import MAX_HEAD
from kproxy.http.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PREFACE,
    PRIORITIZED,
    ConnectionFailed,
    Frame,
    frame_header,
)
from kproxy.http.http2_hpack import BlockDecoder, FieldEncodings, PlainEncoder

MAX_STREAMS: Final = 100
"""Requests of one client at the same time; what RFC 9113 section 6.5.2 recommends at least."""
STREAM_WINDOW: Final = 256 * 1024
"""Bytes of a body that a client may send before it was asked to go on."""
CONNECTION_WINDOW: Final = 1024 * 1024
"""The same for all its bodies together: what waits here of them is never more."""
LAST_STREAM: Final = 2**31 - 1

_SETTINGS: Final[dict[SettingCodes, int]] = {
    SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
    SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
    SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
}
_CONFIGURATION: Final = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_inbound_headers=False,  # StreamHeadReader does
    normalize_inbound_headers=False,
    validate_outbound_headers=False,  # they were read strictly, or made here
    normalize_outbound_headers=False,
)


_ENDED: Final = StreamState.HALF_CLOSED_REMOTE
"""The state of a stream whose request has come whole: that in which most answers are sent."""


def _end(state: H2StreamStateMachine) -> None:
    """Our side of a stream ends."""
    if state.state is _ENDED:
        state.state = StreamState.CLOSED
        state.stream_closed_by = StreamClosedBy.SEND_END_STREAM
    else:
        state.process_input(StreamInputs.SEND_END_STREAM)


class Machine(H2Connection):
    """The server side of a connection, which has its first frames to send.

    @ivar frames_sent: those of responses.
    """

    MAX_CLOSED_STREAMS = 2 * MAX_STREAMS  # h2 keeps an entry for each stream that ended
    encoder: Any
    decoder: Any

    def __init__(self, encodings: FieldEncodings) -> None:
        super().__init__(_CONFIGURATION)
        self.frames_sent = 0
        self.encoder = PlainEncoder(encodings)
        # Over the limit that the client is told, there is an answer; over this one, there is none.
        self.decoder = BlockDecoder(2 * MAX_HEAD)
        self.local_settings = Settings(client=False, initial_values=_SETTINGS)
        self.initiate_connection()
        self.receive_data(PREFACE)  # FrameReader has compared it
        self.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        # HTTP2Connection keeps to the number of streams, and ends the stream that is too many. To h2
        # it would be the end of the connection.
        lenient = {**_SETTINGS, SettingCodes.MAX_CONCURRENT_STREAMS: LAST_STREAM}
        self.local_settings = Settings(client=False, initial_values=lenient)

    # In.

    def opens_stream(self, frame: Frame) -> bool:
        """Whether this is a whole field block, with nothing else in its frame, on a new stream."""
        return (
            frame.flags & (END_HEADERS | PADDED | PRIORITIZED) == END_HEADERS
            and frame.stream_id > self.highest_inbound_stream_id
            and frame.stream_id % 2 == 1
        )

    def open_stream(self, frame: Frame) -> tuple[H2Stream, Pairs]:
        """The stream that such a frame opens, and its fields.

        @raise ConnectionFailed: they can't be unpacked.
        """
        try:
            fields: Pairs = self.decoder.decode(frame.whole[9:])
        except OversizedHeaderListError as error:
            raise ConnectionFailed(ErrorCodes.ENHANCE_YOUR_CALM, str(error)) from None
        except (HPACKError, IndexError) as error:
            raise ConnectionFailed(ErrorCodes.COMPRESSION_ERROR, str(error)) from None
        if len(self.streams) > 2 * MAX_STREAMS:
            self.open_inbound_streams  # noqa: B018 - it forgets those that are closed
        if self.state_machine.state is not ConnectionState.SERVER_OPEN:
            self.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        self.streams[frame.stream_id] = stream = H2Stream(
            frame.stream_id,
            config=_CONFIGURATION,
            inbound_window_size=STREAM_WINDOW,
            outbound_window_size=self.remote_settings.initial_window_size,
        )
        stream.max_outbound_frame_size = self.max_outbound_frame_size
        self.highest_inbound_stream_id = frame.stream_id
        state = stream.state_machine
        state.client = False
        state.headers_received = True
        state.state = _ENDED if frame.flags & END_STREAM else StreamState.OPEN
        return stream, fields

    # Out: what is returned goes on the wire behind `data_to_send()`.

    def fields_frames(
        self, stream: H2Stream, fields: Pairs, end: bool, *, interim: bool = False
    ) -> bytes:
        """As `send_headers`: a response's head, an interim one, or trailers.

        @param fields: with names in lower case, and none that HTTP/2 does not have.
        """
        state = stream.state_machine
        if interim:
            state.process_input(StreamInputs.SEND_INFORMATIONAL_HEADERS)
        elif state.headers_sent or state.state is not _ENDED:
            state.process_input(StreamInputs.SEND_HEADERS)
        else:
            state.headers_sent = True
        if end:
            _end(state)
        self.frames_sent += 1
        flags = END_STREAM if end else 0
        kind, most, stream_id = HEADERS, self.max_outbound_frame_size, stream.stream_id
        block: bytes = self.encoder.encode(fields)
        frames = b""
        while len(block) > most:
            frames += frame_header(most, kind, flags, stream_id) + block[:most]
            kind, flags, block = CONTINUATION, 0, block[most:]
        return frames + frame_header(len(block), kind, flags | END_HEADERS, stream_id) + block

    def data_header(self, stream: H2Stream, size: int, end: bool) -> bytes:
        """As `send_data`: the header of a frame with so many bytes, for which there is room."""
        state = stream.state_machine
        if state.state is not _ENDED:
            state.process_input(StreamInputs.SEND_DATA)
        if end:
            _end(state)
        self.frames_sent += 1
        self.outbound_flow_control_window -= size
        stream.outbound_flow_control_window -= size
        return frame_header(size, DATA, END_STREAM if end else 0, stream.stream_id)

    def goaway_frame(self, last_stream: int, code: ErrorCodes) -> bytes:
        """As `close_connection`, after which h2 would let nothing be sent any more."""
        payload = last_stream.to_bytes(4, "big") + int(code).to_bytes(4, "big")
        return frame_header(len(payload), GOAWAY, 0, 0) + payload

    def room(self, stream: H2Stream) -> int:
        """Bytes of a stream that may be sent now in one frame."""
        window = min(stream.outbound_flow_control_window, self.outbound_flow_control_window)
        return max(0, min(window, self.max_outbound_frame_size))
