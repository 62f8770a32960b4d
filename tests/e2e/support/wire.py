"""HTTP/1.1 as it is on the wire, for clients and targets that say and see every byte.

None of this is shared with kproxy: what reads kproxy's output here is not what kproxy reads with.
"""

from __future__ import annotations

import select
import socket
import struct
from dataclasses import dataclass, field

from tests.e2e.support.waiting import PATIENCE

Pairs = list[tuple[str, str]]


class Gone(ConnectionError):
    """The other side closed the connection in the middle of something."""


@dataclass
class Head:
    """The first line and the header fields of a message."""

    first: str
    headers: Pairs
    raw: bytes = b""

    def get(self, name: str) -> str | None:
        """The value of a field, several joined as RFC 9110 section 5.3 has it; None: not there."""
        values = self.all(name)
        return ", ".join(values) if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def has(self, name: str) -> bool:
        return bool(self.all(name))


@dataclass
class Request(Head):
    @property
    def method(self) -> str:
        return self.first.split(" ")[0]

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    @property
    def version(self) -> str:
        return self.first.split(" ")[2]


@dataclass
class Response(Head):
    body: bytes = b""
    trailers: Pairs = field(default_factory=list)
    interim: list[Response] = field(default_factory=list)
    """The 1xx responses before it."""

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])

    @property
    def text(self) -> str:
        return self.body.decode()


class Wire:
    """One end of a TCP connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.closed = False
        sock.settimeout(PATIENCE)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Saying.

    def send(self, data: bytes | str) -> None:
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def send_until_blocked(self, data: bytes, most: int) -> int:
        """Send the same piece again and again, until nobody takes any more or `most` is sent.

        @return: the bytes that were sent.
        """
        sent = 0
        self.sock.setblocking(False)
        try:
            while sent < most:
                if not select.select([], [self.sock], [], 1.0)[1]:
                    break
                sent += self.sock.send(data[: most - sent])
        finally:
            self.sock.settimeout(PATIENCE)
        return sent

    def end(self) -> None:
        """Say nothing more, but go on listening."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.closed = True
        self.sock.close()

    def reset(self) -> None:
        """Close with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    # Hearing.

    def more(self, size: int = 65536) -> bool:
        """Wait for more bytes in the buffer; False: the other side has ended."""
        data = self.sock.recv(size)
        self.buffer += data
        return bool(data)

    def read_some(self, size: int = 1 << 20) -> bytes:
        """What is there, or comes next; empty at the end."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        return self.sock.recv(size)

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            if not self.more():
                raise Gone(f"closed before {mark!r}, after {self.buffer[-2000:]!r}")
        before, _, self.buffer = self.buffer.partition(mark)
        return before + mark

    def read_exactly(self, size: int) -> bytes:
        parts = [self.buffer[:size]]
        left = size - len(parts[0])
        self.buffer = self.buffer[size:]
        while left:
            data = self.sock.recv(min(left, 1 << 20))
            if not data:
                raise Gone(f"closed {left} bytes before the end")
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def read_to_end(self) -> bytes:
        """Everything until the other side ends in an orderly way."""
        while self.more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def at_end(self) -> bool:
        """Wait until the other side has closed, or reset; False: it said something instead."""
        if self.buffer:
            return False
        try:
            return not self.more()
        except ConnectionError:
            return True

    def silent(self) -> bool:
        """Whether nothing has come that was not read yet, the end included."""
        return not self.buffer and not select.select([self.sock], [], [], 0)[0]

    # Messages.

    def _head(self) -> tuple[str, Pairs, bytes]:
        raw = self.read_until(b"\r\n\r\n")
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        headers = []
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon, f"not a header: {line!r}"
            headers.append((name, value.strip(" \t")))
        return first, headers, raw

    def read_request(self) -> Request | None:
        """The head of the next request; None: the connection ended before it."""
        if not self.buffer and self.at_end():
            return None
        return Request(*self._head())

    def read_body(self, head: Head) -> bytes:
        """The body that the head announces."""
        if (head.get("transfer-encoding") or "").lower() == "chunked":
            return self.read_chunked()[0]
        return self.read_exactly(int(head.get("content-length") or 0))

    def read_chunk(self) -> bytes:
        size = int(self.read_until(b"\r\n").split(b";")[0], 16)
        if size == 0:
            return b""
        data = self.read_exactly(size)
        assert self.read_exactly(2) == b"\r\n"
        return data

    def read_chunked(self) -> tuple[bytes, Pairs]:
        """A chunked body and its trailers."""
        parts = []
        while chunk := self.read_chunk():
            parts.append(chunk)
        trailers = []
        while (line := self.read_until(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            trailers.append((name, value.strip()))
        return b"".join(parts), trailers

    def read_response_head(self) -> Response:
        """The head of the final response; the interim ones before it are kept with it."""
        interim = []
        while True:
            response = Response(*self._head())
            if response.status >= 200 or response.status == 101:
                response.interim = interim
                return response
            interim.append(response)

    def read_response(self, method: str = "GET") -> Response:
        """A whole response to a request with that method."""
        response = self.read_response_head()
        if method == "HEAD" or response.status in (101, 204, 304):
            return response
        if response.has("transfer-encoding"):
            assert response.get("transfer-encoding") == "chunked"
            assert not response.has("content-length")
            response.body, response.trailers = self.read_chunked()
        elif response.has("content-length"):
            response.body = self.read_exactly(int(response.get("content-length") or 0))
        else:
            response.body = self.read_to_end()
        return response


def request_text(
    method: str = "GET",
    path: str = "/",
    host: str = "app.example",
    headers: dict[str, str] | Pairs | None = None,
    body: bytes = b"",
) -> bytes:
    """A well-formed request."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    names = {name.lower() for name, _ in pairs}
    if "host" not in names and host:
        pairs.insert(0, ("Host", host))
    if body and not names & {"content-length", "transfer-encoding"}:
        pairs.append(("Content-Length", str(len(body))))
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


def response_text(body: bytes | str = b"", status: str = "200 OK", **headers: str) -> bytes:
    """A well-formed response; ``x_y="z"`` becomes ``x-y: z``."""
    data = body.encode() if isinstance(body, str) else body
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{lines}\r\n".encode() + data


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
