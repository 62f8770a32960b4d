"""What a large response has in the kernel already is brought to its file past the proxy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from socket import socketpair
from typing import Any

import pytest

from kproxy.streaming import streaming
from kproxy.wrappers import response_buffer
from kproxy.wrappers.base import Filter, Wrapper
from tests.unit.http.memory import Wire, get
from tests.unit.upstream.support import Proxy, answer, one_message

BODY = bytes(range(250)) * 400
HALF = len(BODY) // 2
MEMORY = 10_000
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


class Asked:
    """A proxy that was asked for something large, and the target's kernel."""

    def __init__(self, **options: Any) -> None:
        self.proxy = Proxy(buffer_responses=True, buffer_memory=MEMORY, **options)
        self.client = self.proxy.client()
        self.kernel, self.theirs = socketpair()
        self.kernel.setblocking(False)

    def ask(self) -> Wire:
        """The target's end of what is asked now."""
        self.client.send(get())
        target = self.proxy.target
        target.protocol.kernel = self.kernel
        return target

    @property
    def left(self) -> bytes:
        """What nobody has fetched."""
        try:
            return self.kernel.recv(len(BODY))
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.kernel.close()
        self.theirs.close()


@pytest.fixture
def asked() -> Iterator[Asked]:
    asked = Asked()
    yield asked
    asked.close()


@pytest.fixture
def limited() -> Iterator[Asked]:
    asked = Asked(max_response_body=len(BODY))
    yield asked
    asked.close()


def read_all_of(asked: Asked) -> bytes:
    """What the client gets of a body of which nothing may be fetched."""
    target = asked.ask()
    asked.theirs.sendall(b"x")
    target.send(answer(BODY)[:-HALF])
    assert asked.left == b"x"
    target.send(BODY[HALF:])
    return one_message(asked.client).body


def test_what_is_there_is_fetched_and_the_connection_is_used_again(asked: Asked) -> None:
    for _ in range(3):
        target = asked.ask()
        asked.theirs.sendall(BODY[HALF:])
        target.send(answer(BODY)[:-HALF])
        assert one_message(asked.client).body == BODY
        assert asked.left == b""
        assert asked.proxy.idle == 1
    assert len(asked.proxy.network.wires) == 1


def test_what_comes_later_is_read_or_fetched_whatever_is_first(asked: Asked) -> None:
    target = asked.ask()
    text = answer(BODY)
    asked.theirs.sendall(text[-80_000:-70_000])
    target.send(text[:-80_000])
    assert asked.left == b""
    target.send(text[-70_000:-69_000])  # not worth a thread
    asked.theirs.sendall(text[-10_000:-7_000])
    target.send(text[-69_000:-10_000])
    assert asked.left == b""
    target.send(text[-7_000:])
    assert one_message(asked.client).body == BODY
    assert asked.proxy.idle == 1


def test_what_is_not_of_the_body_is_not_fetched(asked: Asked) -> None:
    target = asked.ask()
    asked.theirs.sendall(BODY[HALF:] + b"something else")
    target.send(answer(BODY)[:-HALF])
    assert one_message(asked.client).body == BODY
    assert asked.left == b"something else"


@pytest.mark.parametrize("head", [CHUNKED + b"%x\r\n" % len(BODY), UNTIL_CLOSE])
def test_a_body_without_a_length_is_read_by_whoever_finds_its_end(
    asked: Asked, head: bytes
) -> None:
    target = asked.ask()
    asked.theirs.sendall(b"x")
    target.send(head + BODY[:HALF])
    assert asked.left == b"x"
    target.send(BODY[HALF:])
    if b"chunked" in head:
        target.send(b"\r\n0\r\n\r\n")
    target.send_eof()
    assert one_message(asked.client).body == BODY


def test_a_body_that_passes_a_filter_is_not_fetched_past_it(asked: Asked) -> None:
    class Upper(Filter):
        def write(self, data: bytes) -> None:
            super().write(data.upper())

    render = asked.proxy.leaf.render

    def filtered(request: Any) -> int:
        streaming(request).add_filter(Upper)
        return render(request)

    asked.proxy.leaf.render = filtered  # type: ignore[method-assign]
    assert read_all_of(asked) == BODY.upper()


def test_a_file_is_offered_with_all_that_was_fetched() -> None:
    offered = []

    class Takes(Filter):
        def send_file(self, file: Any, length: int, *others: Any) -> bool:
            offered.append((os.pread(file.fileno(), 2 * len(BODY), 0), length))
            return False

    class Outside(Wrapper):
        def render(self, request: Any) -> Any:
            request.add_filter(Takes)
            return super().render(request)

    asked = Asked(around=Outside)
    target = asked.ask()
    asked.theirs.sendall(BODY[HALF:])
    target.send(answer(BODY)[:-HALF])
    assert offered == [(BODY, len(BODY))]
    asked.close()


def test_a_body_over_its_limit_is_not_fetched(limited: Asked) -> None:
    target = limited.ask()
    limited.theirs.sendall(b"x")
    text = answer(BODY + b"y")
    target.send(text[:-HALF])
    assert limited.left == b"x"
    target.send(text[-HALF:])
    assert one_message(limited.client).status == 500


def test_a_body_up_to_its_limit_is_fetched(limited: Asked) -> None:
    target = limited.ask()
    limited.theirs.sendall(BODY[HALF:])
    target.send(answer(BODY)[:-HALF])
    assert one_message(limited.client).body == BODY
    assert limited.left == b""


def test_where_the_kernel_can_not_do_it_a_body_is_read(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_buffer, "CAN_FETCH", False)
    assert read_all_of(asked) == BODY


def test_without_a_descriptor_to_lend_a_body_is_read(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(descriptor: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "dup", none_left)
    assert read_all_of(asked) == BODY


class Later:
    """Threads that begin when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jobs: list[tuple[Any, Any]] = []
        take = response_buffer.Spool

        def spool(memory: int, in_thread: Any, *others: Any) -> Any:
            return take(memory, lambda work, done: self.jobs.append((work, done)), *others)

        monkeypatch.setattr(response_buffer, "Spool", spool)

    def run(self) -> None:
        while self.jobs:
            work, done = self.jobs.pop(0)
            work()
            done()


def test_nobody_else_reads_while_a_thread_does(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = Later(monkeypatch)
    target = asked.ask()
    asked.theirs.sendall(BODY[HALF:-10])
    target.send(answer(BODY)[:-HALF])
    assert target.producerState == "paused"
    asked.theirs.sendall(BODY[-10:])
    threads.run()
    assert target.producerState == "producing"
    assert one_message(asked.client).body == BODY


def test_a_target_that_has_sent_no_more_is_listened_to_meanwhile(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = Later(monkeypatch)
    target = asked.ask()
    target.send(answer(BODY)[:-HALF])
    assert target.producerState == "producing"
    target.send(BODY[HALF:])
    threads.run()
    assert one_message(asked.client).body == BODY


def test_a_client_that_leaves_while_a_thread_fetches_is_forgotten(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = Later(monkeypatch)
    target = asked.ask()
    asked.theirs.sendall(BODY[HALF:])
    target.send(answer(BODY)[:-HALF])
    asked.client.reset()
    assert target.aborted
    threads.run()
    assert (asked.proxy.idle, asked.proxy.active) == (0, 0)


def test_a_target_that_breaks_off_behind_what_was_fetched_is_a_502(asked: Asked) -> None:
    target = asked.ask()
    asked.theirs.sendall(BODY[HALF:-1])
    target.send(answer(BODY)[:-HALF])
    assert asked.left == b""
    target.send_eof()
    assert one_message(asked.client).status == 502


def test_a_disk_that_fails_while_a_thread_fetches_is_a_500(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = asked.ask()
    text = answer(BODY)
    asked.theirs.sendall(text[-HALF:-10])
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr("kproxy.spool.tempfile.TemporaryFile", lambda **_: full)
        monkeypatch.setattr(os, "writev", lambda file, parts: sum(map(len, parts)))
        target.send(text[:-HALF])
        assert asked.left == b""
        target.send(text[-10:])
    assert one_message(asked.client).status == 500
    assert asked.proxy.idle == 1
