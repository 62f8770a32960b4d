"""A client of HTTP/2 over TLS, a thin one: h2's state machine on a blocking socket."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hyperframe.frame import Frame, GoAwayFrame, PingFrame

from tests.e2e.support.waiting import PATIENCE

Pairs = list[tuple[str, str]]


class Answer:
    """What has come on one stream.

    @ivar taken: bytes of the body, of which `body` has only the first MiB.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.interim: list[int] = []
        self.trailers: dict[str, str] = {}
        self.body = b""
        self.taken = 0
        self.ended = False
        self.reset: int | None = None

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class HTTP2Client:
    """One connection.

    @param reading: whether it takes what comes without being asked (its windows are opened again).
    """

    def __init__(self, sock: ssl.SSLSocket, host: str, *, reading: bool = True) -> None:
        assert sock.selected_alpn_protocol() == "h2"
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.host = host
        self.reading = reading
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        self.answers: dict[int, Answer] = {}
        self.closed = False
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> HTTP2Client:
        return self

    def __exit__(self, *error: Any) -> None:
        self.sock.close()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        headers: Pairs | None = None,
        *,
        end: bool = True,
        **pseudo: str,
    ) -> int:
        """Send a head; the stream."""
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "https"), (":authority", self.host)]
        fields += [(":path", path), *((f":{name}", value) for name, value in pseudo.items())]
        self.answers[stream] = Answer()
        self.h2.send_headers(stream, fields + (headers or []), end_stream=end)
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send all of this, as fast as the windows let it."""
        view = memoryview(data)
        while view:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room <= 0:
                self.receive()
                continue
            self.h2.send_data(stream, view[:room])
            view = view[room:]
            self.flush()
        if end:
            self.h2.end_stream(stream)
            self.flush()

    def send_while_there_is_room(self, stream: int, data: bytes) -> int:
        """Send what the windows allow now; how much that was."""
        sent = 0
        while sent < len(data):
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room <= 0:
                break
            self.h2.send_data(stream, data[sent : sent + room])
            sent += len(data[sent : sent + room])
            self.flush()
        return sent

    def receive(self) -> None:
        """Take what comes next."""
        data = self.sock.recv(256 * 1024)
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            self._event(event)
        self.flush()

    def _event(self, event: Any) -> None:
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if answer is None:
            return
        if isinstance(event, ResponseReceived):
            answer.headers = dict(event.headers)  # type: ignore[arg-type]
            answer.status = int(answer.headers[":status"])
        elif isinstance(event, InformationalResponseReceived):
            answer.interim.append(int(dict(event.headers)[":status"]))  # type: ignore[index]
        elif isinstance(event, DataReceived):
            data = event.data or b""
            answer.taken += len(data)
            if len(answer.body) < 2**20:
                answer.body += data
            if self.reading:
                size = event.flow_controlled_length or 0
                self.h2.acknowledge_received_data(size, event.stream_id or 0)
        elif isinstance(event, TrailersReceived):
            answer.trailers = dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)  # type: ignore[arg-type]

    def until(self, check: Callable[[], object]) -> None:
        """Read on until it is so."""
        while not check():
            assert not self.closed, "closed too early"
            self.receive()

    def answer(self, stream: int) -> Answer:
        """The whole answer."""
        answer = self.answers[stream]
        self.until(lambda: answer.over)
        return answer

    def last_words(self) -> list[GoAwayFrame]:
        """Every GOAWAY until the connection closes; h2 takes nothing after the first."""
        said: list[GoAwayFrame] = []
        data = b""
        while True:
            more = self.sock.recv(65536)
            if not more:
                return said
            data += more
            while len(data) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(data[:9]))
                if len(data) < 9 + length:
                    break
                frame.parse_body(memoryview(data[9 : 9 + length]))
                data = data[9 + length :]
                if isinstance(frame, GoAwayFrame):
                    said.append(frame)
                elif isinstance(frame, PingFrame):
                    answer = PingFrame(0, frame.opaque_data, flags=["ACK"])
                    self.sock.sendall(answer.serialize())

    def get(self, path: str = "/") -> Answer:
        return self.answer(self.request(path=path))


def tls_socket(address: str, port: int, host: str, root: str) -> ssl.SSLSocket:
    """A connection by TLS that offers HTTP/2 and HTTP/1.1."""
    context = ssl.create_default_context(cadata=root)
    context.set_alpn_protocols(["h2", "http/1.1"])
    sock = socket.create_connection((address, port), PATIENCE)
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
