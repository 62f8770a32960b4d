"""A client of HTTP/2 for tests: the h2 library's state machine, or raw frames, over a `Wire`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
)

from kproxy.http.http2 import HTTP2Connection

from .memory import Engine, Wire

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Pairs = list[tuple[bytes, bytes]]

GET: Pairs = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.com"),
    (b":path", b"/"),
]


def fields(*more: tuple[bytes, bytes], **pseudo: bytes | None) -> Pairs:
    """The fields of a GET, with others behind, and pseudo-header fields changed or (None) left out."""
    changed = {b":" + name.encode(): value for name, value in pseudo.items()}
    first = [(name, changed.pop(name, value)) for name, value in GET]
    first += list(changed.items())
    return [(name, value) for name, value in first if value is not None] + list(more)


def posting(*more: tuple[bytes, bytes], **pseudo: bytes | None) -> Pairs:
    return fields(*more, method=b"POST", **pseudo)


class Answer:
    """What came back on one stream.

    @ivar reset: the code of RST_STREAM.
    """

    def __init__(self) -> None:
        self.headers: Pairs = []
        self.interim: list[Pairs] = []
        self.body = b""
        self.trailers: Pairs = []
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers[0][1])

    def get(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


class Client:
    """An orderly client: h2's own.

    @param window: the size of its windows for each stream; None: it takes all there is, at once.
    """

    def __init__(self, wire: Wire, window: int | None = None, **settings: int) -> None:
        self.wire = wire
        config = H2Configuration(client_side=True, header_encoding=None)
        config.validate_outbound_headers = config.normalize_outbound_headers = False
        self.h2 = H2Connection(config)
        self.events: list[Any] = []
        self.answers: dict[int, Answer] = {}
        self.taking = window is None
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({4: window})
        self.turn()
        self.turn()

    def turn(self) -> None:
        """Send what there is to send, and read what has come."""
        data = self.h2.data_to_send()
        if data:
            self.wire.send(data)
        self.wire.turn()
        for event in self.h2.receive_data(self.wire.take()):
            self.events.append(event)
            self._event(event)
        if self.h2._data_to_send:
            self.turn()

    def _event(self, event: Any) -> None:
        answer = self.answers.setdefault(getattr(event, "stream_id", 0) or 0, Answer())
        if isinstance(event, ResponseReceived):
            answer.headers = list(event.headers)
        elif isinstance(event, InformationalResponseReceived):
            answer.interim.append(list(event.headers))
        elif isinstance(event, DataReceived):
            answer.body += event.data
            if self.taking and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            answer.trailers = list(event.headers)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)

    def request(self, headers: Pairs = GET, body: bytes | None = None, *, end: bool = True) -> int:
        """Send a request; its stream.

        @param end: whether it ends with this.
        """
        stream_id = self.h2.get_next_available_stream_id()
        self.answers[stream_id] = Answer()
        self.h2.send_headers(stream_id, headers, end_stream=end and body is None)
        if body is not None:
            self.data(stream_id, body, end=end)
        else:
            self.turn()
        return stream_id

    def data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send a piece of a body, for which there must be room."""
        size = self.h2.max_outbound_frame_size
        pieces = [data[i : i + size] for i in range(0, len(data), size)] or [b""]
        for piece in pieces[:-1]:
            self.h2.send_data(stream_id, piece)
        self.h2.send_data(stream_id, pieces[-1], end_stream=end)
        self.turn()

    def ask(self, headers: Pairs = GET, body: bytes | None = None) -> Answer:
        """Send a request, and read the answer, which must be there at once."""
        return self.answers[self.request(headers, body)]

    def take(self, size: int, stream_id: int | None = None) -> None:
        """Let the other side send so many bytes more."""
        self.h2.increment_flow_control_window(size, stream_id)
        self.turn()


def connect(engine: Engine, *, secure: bool = True) -> Wire:
    """A connection on which HTTP/2 is spoken, and nothing was said yet."""
    connection = HTTP2Connection(engine.site, secure, random=lambda size: b"\x01" * size)
    return Wire(engine.clock).attach(connection)


def client(engine: Engine, window: int | None = None, *, secure: bool = True) -> Client:
    """A client that has said hello."""
    return Client(connect(engine, secure=secure), window)


class RawClient:
    """A client that sends any frames, and reads what comes back as frames."""

    def __init__(self, wire: Wire, *, greet: bool = True) -> None:
        self.wire = wire
        self.encoder = Encoder()
        self._rest = b""
        self.frames: list[Frame] = []
        if greet:
            self.wire.send(PREFACE)
            self.send(SettingsFrame(0))
            self.read()
            self.frames.clear()

    def send(self, *frames: Frame) -> None:
        for frame in frames:
            self.send_bytes(frame.serialize())

    def send_bytes(self, data: bytes) -> None:
        if self.wire.lost is None:
            self.wire.send(data)

    def read(self) -> list[Frame]:
        """All that has come back so far."""
        self.wire.turn()
        data = self._rest + self.wire.take()
        while len(data) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(data[:9]))
            if len(data) < 9 + length:
                break
            frame.parse_body(memoryview(data[9 : 9 + length]))
            self.frames.append(frame)
            data = data[9 + length :]
        self._rest = data
        return self.frames

    def headers(
        self, stream_id: int = 1, headers: Iterable[tuple[bytes, bytes]] = GET, *flags: str
    ) -> HeadersFrame:
        """A HEADERS frame that is whole."""
        frame = HeadersFrame(stream_id, self.encoder.encode(headers))
        frame.flags.add("END_HEADERS")
        for flag in flags:
            frame.flags.add(flag)
        return frame

    def get(self, stream_id: int = 1, headers: Iterable[tuple[bytes, bytes]] = GET) -> None:
        """Send a request that ends with its head."""
        self.send(self.headers(stream_id, headers, "END_STREAM"))

    def data(self, stream_id: int, data: bytes, *flags: str) -> DataFrame:
        return DataFrame(stream_id, data, flags=list(flags))

    def continuation(self, stream_id: int, data: bytes, *flags: str) -> ContinuationFrame:
        return ContinuationFrame(stream_id, data, flags=list(flags))

    # What came back.

    @property
    def goaway(self) -> ErrorCodes | None:
        """The code of the last GOAWAY."""
        codes = [f.error_code for f in self.read() if isinstance(f, GoAwayFrame)]
        return ErrorCodes(codes[-1]) if codes else None

    def resets(self, stream_id: int = 1) -> list[ErrorCodes]:
        """The codes of RST_STREAM for a stream."""
        return [
            ErrorCodes(f.error_code)
            for f in self.read()
            if isinstance(f, RstStreamFrame) and f.stream_id == stream_id
        ]

    def answered(self, stream_id: int = 1) -> bool:
        """Whether there is a response on a stream."""
        return any(isinstance(f, HeadersFrame) and f.stream_id == stream_id for f in self.read())
