"""Files to sockets by the kernel, beside a transport that does the rest."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from kproxy.http.files import AT_ONCE, FileSender
from tests.unit.test_spool import Threads


class SocketTransport:
    """A transport of asyncio's shape over one end of a pair of sockets, which the test drives."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.waiting = b""
        self.limits: list[dict[str, int]] = []
        self.protocol: Any = None
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True
        self.waiting = b""

    def get_extra_info(self, name: str) -> Any:
        assert name == "socket"
        return self.sock

    def set_write_buffer_limits(self, **limits: int) -> None:
        self.limits.append(limits)

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def write(self, data: bytes) -> None:
        self.waiting += data
        self.try_to_send()

    def try_to_send(self) -> None:
        """Send what the socket takes; told is who waits if that was all."""
        try:
            while self.waiting:
                self.waiting = self.waiting[self.sock.send(self.waiting) :]
        except BlockingIOError:
            pass

    def turn(self) -> None:
        had = bool(self.waiting)
        self.try_to_send()
        if had and not self.waiting:
            self.protocol.resumeProducing()


class Case:
    """A sender, and the client at the other end of the socket."""

    def __init__(self, content: bytes, length: int | None = None) -> None:
        ours, self.client = socket.socketpair()
        ours.setblocking(False)
        self.client.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        self.transport = SocketTransport(ours)
        self.threads = Threads()
        self.clock = Clock()
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed below
        self.file.write(content)
        self.done: list[int] = []
        length = len(content) if length is None else length
        self.sender = FileSender(
            self.transport,
            self.file,
            length,
            self.threads,
            self.clock,
            lambda: self.done.append(length),
        )
        self.transport.protocol = self.sender
        self.got = b""

    def read(self) -> None:
        """The client takes what has come."""
        try:
            while data := self.client.recv(1 << 20):
                self.got += data
        except BlockingIOError:
            pass

    def finish(self) -> bytes:
        """Let everything happen, with a client that reads."""
        for _ in range(10_000):
            self.read()
            self.transport.turn()
            ran = self.threads.run_one()
            self.clock.advance(0)
            if self.done and not ran and not self.transport.waiting:
                break
        self.read()
        return self.got

    def close(self) -> None:
        for closable in (self.transport.sock, self.client, self.file):
            closable.close()


@pytest.fixture
def case() -> Iterator[Callable[..., Case]]:
    """Makes cases, and closes them."""
    cases: list[Case] = []

    def make(content: bytes, length: int | None = None) -> Case:
        cases.append(Case(content, length))
        return cases[-1]

    yield make
    for each in cases:
        each.close()


Make = Callable[..., Case]
LARGE = b"".join(b"%08d" % i for i in range(400_000))


@pytest.mark.parametrize("size", [1, 1000, 100_000, AT_ONCE, AT_ONCE + 1, len(LARGE)])
def test_a_file_arrives_whole(case: Make, size: int) -> None:
    one = case(LARGE[:size])
    one.sender.start()
    assert one.finish() == LARGE[:size]
    assert one.done == [size]


def test_only_so_much_of_a_file_is_sent_as_was_said(case: Make) -> None:
    one = case(LARGE, 200_000)
    one.sender.start()
    assert one.finish() == LARGE[:200_000]


def test_an_empty_file_is_done_at_once(case: Make) -> None:
    one = case(b"")
    one.sender.start()
    assert one.done == [0]


def test_what_was_written_before_arrives_before(case: Make) -> None:
    for head in (b"head", b"h" * 500_000):
        one = case(LARGE)
        one.transport.write(head)
        one.sender.start()
        assert one.finish() == head + LARGE


def test_a_client_that_does_not_read_is_waited_for_with_little_in_memory(case: Make) -> None:
    one = case(LARGE)
    one.sender.start()
    for _ in range(10):
        one.threads.run_one()
        one.transport.turn()
    assert 0 < len(one.transport.waiting) <= 128 * 1024
    assert one.done == []
    assert one.threads.jobs == []
    assert one.finish() == LARGE


def test_a_file_that_is_not_in_the_kernels_memory_is_read_in_a_thread(
    case: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_at_hand(*arguments: Any) -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", not_at_hand)
    one = case(LARGE)
    one.sender.start()
    one.read()
    assert one.got == b""
    assert len(one.threads.jobs) == 1
    assert one.finish() == LARGE


def test_a_kernel_that_can_not_say_what_it_has_is_not_asked_in_vain(
    case: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    one = case(LARGE)
    one.sender.start()
    assert one.finish() == LARGE


def test_a_broken_socket_is_the_transports_to_find_out(case: Make) -> None:
    one = case(LARGE)
    one.client.close()
    one.transport.try_to_send = lambda: None  # type: ignore[method-assign]
    one.sender.start()
    assert one.transport.waiting
    assert one.done == []


def test_a_stopped_sender_sends_nothing_more(case: Make) -> None:
    one = case(LARGE)
    one.sender.start()
    waiting = len(one.transport.waiting)
    one.sender.stopProducing()
    one.sender.resumeProducing()
    while one.threads.run_one():
        pass
    assert len(one.transport.waiting) == waiting
    assert one.done == []


def test_the_limits_of_the_transport_are_what_they_were_afterwards(case: Make) -> None:
    one = case(LARGE)
    one.sender.start()
    one.finish()
    assert one.transport.limits == [{"high": 0}, {}]


def test_a_file_that_can_not_be_read_any_more_cuts_the_client_off(case: Make) -> None:
    one = case(b"x" * 1000)
    # A folder's descriptor is as good as a broken disk: it is open, and can't be read.
    folder = os.open("/", os.O_RDONLY)
    os.dup2(folder, one.file.fileno())
    os.close(folder)
    one.sender.start()
    one.finish()
    assert one.transport.aborted
    assert one.done == []


def test_a_file_that_has_become_shorter_cuts_the_client_off(case: Make) -> None:
    one = case(b"x" * 1000, 2000)
    one.sender.start()
    one.finish()
    assert one.transport.aborted
    assert one.done == []
