"""What HTTP/1 does otherwise when TLS lies under it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from kproxy.http.site import Limits
from kproxy.sockets import unconfirmed
from tests.unit.http.memory import Echo, Engine, Later, Wire, get, post, read_message


class Secure(Wire):
    """A transport as those of TLS: it has a socket under it, and does not close at once.

    @ivar sock: what it says is its socket.
    """

    loseWriteConnection = property()  # type: ignore[assignment]
    sock: Any = None

    def loseConnection(self) -> None:
        """The goodbye; the end comes when the other side says it too."""
        self.disconnecting = True

    @property
    def farewell(self) -> bool:
        return self.disconnecting and self.lost is None


class SecureEngine(Engine):
    def client(self, *, secure: bool = True) -> Secure:
        wire = Secure(self.clock)
        wire.attach(self.site.factory(secure)())
        wire.protocol.get_extra_info = lambda name, default=None: (
            wire.sock if name == "socket" else default
        )
        return wire


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a connection, the first of which sends."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def fill(sock: socket.socket) -> None:
    """Send until nobody takes any more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(1 << 16))


class Transport:
    def __init__(self, sock: Any) -> None:
        self.sock = sock

    def get_extra_info(self, name: str) -> Any:
        return self.sock


def test_what_the_peer_has_not_confirmed_is_counted(pair: Any) -> None:
    ours, _ = pair
    assert unconfirmed(Transport(ours)) == 0
    fill(ours)
    assert unconfirmed(Transport(ours)) > 0


def test_where_nobody_knows_nothing_is_unconfirmed() -> None:
    assert unconfirmed(Transport(None)) == 0
    closed = socket.socket()
    closed.close()
    assert unconfirmed(Transport(closed)) == 0
    with open("/dev/null") as file:
        assert unconfirmed(Transport(file)) == 0


@pytest.mark.parametrize("data", [get(b"/", b"Connection: close"), post(bytes(100))[:-50]])
def test_the_end_is_a_goodbye_and_a_client_that_does_not_answer_it_is_cut_off(data: bytes) -> None:
    engine = SecureEngine(Echo(), Limits(linger=2))
    client = engine.client()
    client.send(data)
    assert read_message(client.received)[0].status == 200
    assert client.farewell
    engine.clock.advance(1.9)
    assert client.lost is None
    engine.clock.advance(0.1)
    client.turn()
    assert client.aborted


def test_a_client_that_still_reads_the_last_answer_is_not_cut_off(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    engine = SecureEngine(Echo(), Limits(linger=2, stalled=60))
    client = engine.client()
    client.sock = ours
    fill(ours)
    client.send(get(b"/", b"Connection: close"))
    engine.clock.advance(2)
    client.turn()
    assert client.lost is None
    # It reads some: that is worth another while.
    before = unconfirmed(Transport(ours))
    while unconfirmed(Transport(ours)) >= before:
        theirs.recv(1 << 16)
    engine.clock.advance(60)
    client.turn()
    assert client.lost is None
    # It reads nothing more.
    engine.clock.advance(60)
    client.turn()
    assert client.aborted


def test_no_file_is_sent_beside_tls(pair: tuple[socket.socket, socket.socket]) -> None:
    resource = Later()
    client = SecureEngine(resource).client()
    client.sock = pair[0]
    client.send(get())
    request = resource.requests[0]
    request.setHeader(b"content-length", b"5")
    request.channel.begin()
    assert not request.channel.send_file(None, 5, None, None)
