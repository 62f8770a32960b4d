"""Writing to a socket past the transport that it belongs to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from kproxy.sockets import send_now
from kproxy.streaming import streaming
from tests.unit.http.memory import Engine, Later, get, read_messages


class Transport:
    """One of asyncio's shape that keeps what its socket does not take, as it is, as uvloop's do."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.waiting: list[bytes | memoryview] = []
        self.closing = False

    def get_extra_info(self, name: str) -> Any:
        return self.sock if name == "socket" else ("192.0.2.1", 80)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.waiting))

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes | memoryview) -> None:
        self.waiting.append(data)
        self.send_waiting()

    def send_waiting(self) -> None:
        while self.waiting:
            try:
                sent = self.sock.send(self.waiting[0])
            except BlockingIOError:
                return
            if sent < len(self.waiting[0]):
                self.waiting[0] = memoryview(self.waiting[0])[sent:]
            else:
                del self.waiting[0]


@pytest.fixture
def pair() -> Iterator[tuple[Transport, socket.socket]]:
    ours, client = socket.socketpair()
    with ours, client:
        ours.setblocking(False)
        client.setblocking(False)
        yield Transport(ours), client


def fill(sock: socket.socket) -> int:
    """Send until the socket takes no more; how much that was."""
    size = 0
    try:
        while True:
            size += sock.send(b"." * 4096)
    except BlockingIOError:
        return size


def read_all(sock: socket.socket) -> bytes:
    """What there is to read."""
    data = b""
    try:
        while piece := sock.recv(1 << 20):
            data += piece
    except BlockingIOError:
        pass
    return data


def test_parts_are_sent_in_their_order(pair: tuple[Transport, socket.socket]) -> None:
    transport, client = pair
    assert send_now(transport, (b"head", memoryview(b"and body"))) == 12
    assert client.recv(100) == b"headand body"


def test_a_part_may_be_empty(pair: tuple[Transport, socket.socket]) -> None:
    transport, client = pair
    assert send_now(transport, (b"", memoryview(b"body"))) == 4
    assert client.recv(100) == b"body"


def test_only_what_the_socket_takes_is_sent(pair: tuple[Transport, socket.socket]) -> None:
    transport, client = pair
    data = bytes(range(256)) * 16 * 1024
    sent = send_now(transport, (data,))
    assert 0 < sent < len(data)
    assert read_all(client) == data[:sent]


def test_nothing_is_sent_to_a_full_socket(pair: tuple[Transport, socket.socket]) -> None:
    transport, _ = pair
    fill(transport.sock)
    assert send_now(transport, (b"x",)) == 0


def test_nothing_overtakes_what_waits(pair: tuple[Transport, socket.socket]) -> None:
    transport, client = pair
    transport.waiting = [b"first"]
    assert send_now(transport, (b"second",)) == 0
    assert read_all(client) == b""


def test_nothing_is_sent_once_a_transport_closes(pair: tuple[Transport, socket.socket]) -> None:
    transport, client = pair
    transport.closing = True
    assert send_now(transport, (b"x",)) == 0
    assert read_all(client) == b""


def test_a_broken_socket_takes_nothing(pair: tuple[Transport, socket.socket]) -> None:
    transport, client = pair
    client.close()
    assert send_now(transport, (b"x",)) == 0
    transport.sock.close()
    assert send_now(transport, (b"x",)) == 0


def test_a_transport_without_a_socket_takes_nothing() -> None:
    class Bare:
        def get_extra_info(self, name: str) -> None:
            return None

    assert send_now(Bare(), (b"x",)) == 0


@pytest.mark.parametrize("full", [False, True])
def test_a_client_that_is_slow_gets_what_was_lent_and_not_what_came_there_later(
    pair: tuple[Transport, socket.socket], full: bool
) -> None:
    transport, client = pair
    app = Later()
    connection: Any = Engine(app, clock=Clock()).site.factory(False)()
    connection.connection_made(transport)
    connection.data_received(get())
    (request,) = app.requests
    body = bytes(range(256)) * 8 * 1024
    room = memoryview(bytearray(len(body) // 8))
    request.responseHeaders.setRawHeaders("content-length", [str(len(body))])
    skip = fill(transport.sock) if full else 0
    for start in range(0, len(body), len(room)):
        room[:] = body[start : start + len(room)]
        streaming(request).write_lent(room)
    request.finish()
    room[:] = bytes(len(room))
    assert transport.waiting
    received = b""
    while transport.waiting:
        received += read_all(client)
        transport.send_waiting()
    received += read_all(client)
    (message,) = read_messages(received[skip:])
    assert message.body == body
