"""The event loop: its readers and writers hear of errors, whatever comes before them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("uvloop", reason="uvloop is not installed")

from kproxy.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


def run(loop: Loop, until: asyncio.Future[Any]) -> Any:
    return loop.run_until_complete(asyncio.wait_for(until, 20))


def test_a_reader_hears_of_a_reset_that_comes_after_data(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    read: list[bytes] = []
    done = loop.create_future()

    def readable() -> None:
        try:
            read.append(ours.recv(100))
        except OSError as error:
            loop.remove_reader(ours)
            done.set_result(error)

    loop.add_reader(ours, readable)
    ours.send(b"that nobody reads resets the connection")
    theirs.send(b"data")
    theirs.close()
    assert isinstance(run(loop, done), ConnectionResetError)
    assert read == [b"data"]


def fill(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(100_000))


def test_a_writer_is_called_when_there_is_room(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    fill(ours)
    done = loop.create_future()
    loop.add_writer(ours, done.set_result, "called")
    theirs.recv(1_000_000)
    assert run(loop, done) == "called"


def test_a_writer_hears_that_there_is_nobody_any_more(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    fill(ours)
    done = loop.create_future()
    loop.add_writer(ours, done.set_result, "called")
    theirs.close()
    assert run(loop, done) == "called"
    with pytest.raises(OSError, match=r"Broken pipe|Connection reset"):
        ours.send(b"x")


def test_one_descriptor_may_have_a_reader_and_a_writer(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    readable, writable = loop.create_future(), loop.create_future()
    loop.add_reader(ours, lambda: readable.done() or readable.set_result(1))
    loop.add_writer(ours, lambda: writable.done() or writable.set_result(2))
    assert run(loop, writable) == 2
    assert not readable.done()
    assert loop.remove_writer(ours)
    assert not loop.remove_writer(ours)
    theirs.send(b"x")
    assert run(loop, readable) == 1
    assert loop.remove_reader(ours)
    assert not loop.remove_reader(ours)


def test_a_reader_that_another_one_removes_is_not_called(loop: Loop, pair: Pair) -> None:
    called: list[socket.socket] = []
    done = loop.create_future()

    def readable(me: socket.socket, other: socket.socket) -> None:
        called.append(me)
        loop.remove_reader(me)
        loop.remove_reader(other)
        loop.call_soon(done.set_result, None)

    for me, other in (pair, pair[::-1]):
        me.send(b"x")
        loop.add_reader(me, readable, me, other)
    run(loop, done)
    assert len(called) == 1


def test_a_callback_that_breaks_is_told_and_the_others_go_on(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    told: list[dict[str, Any]] = []
    done = loop.create_future()

    def breaks() -> None:
        loop.remove_writer(ours)
        raise ValueError("broken")

    loop.set_exception_handler(lambda loop, context: told.append(context))
    loop.add_writer(ours, breaks)
    loop.add_writer(theirs, lambda: done.done() or done.set_result(None))
    run(loop, done)
    assert [str(context["exception"]) for context in told] == ["broken"]
