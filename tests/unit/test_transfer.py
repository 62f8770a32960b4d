"""What one go of a thread does for a body: parts into a file, and what a socket has behind them."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kproxy import transfer
from kproxy.transfer import Transfer

WHOLE = bytes(range(250)) * 4000


class Pair:
    """A target's end of a connection, and ours, which does not block."""

    def __init__(self) -> None:
        self.theirs, self.ours = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(WHOLE))

    def lend(self, left: int) -> tuple[int, int]:
        return os.dup(self.ours.fileno()), left


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.theirs.close()
    pair.ours.close()


@pytest.fixture
def file() -> Iterator[Any]:
    with tempfile.TemporaryFile(buffering=0) as file:
        yield file


def content(file: Any) -> bytes:
    return os.pread(file.fileno(), 2 * len(WHOLE), 0)


def run(file: Any, parts: list[bytes], lent: tuple[int, int] | None) -> Transfer:
    """Do it; all that it was lent or has opened is closed again."""
    before = len(os.listdir("/proc/self/fd"))
    done = Transfer(file, parts, lent)
    done.run()
    assert len(os.listdir("/proc/self/fd")) == before - (lent is not None)
    return done


def test_without_a_socket_the_parts_are_all(file: Any) -> None:
    parts = [WHOLE[at : at + 100] for at in range(0, len(WHOLE), 100)]
    assert len(parts) > 2 * transfer.MOST_PARTS
    done = run(file, parts, None)
    assert (done.fetched, done.error) == (0, None)
    assert content(file) == WHOLE


@pytest.mark.parametrize("parts", [[], [b"one", b"two"]], ids=len)
def test_what_a_socket_has_comes_behind_the_parts(
    file: Any, pair: Pair, parts: list[bytes]
) -> None:
    pair.theirs.sendall(WHOLE)
    done = run(file, parts, pair.lend(len(WHOLE)))
    assert (done.fetched, done.error) == (len(WHOLE), None)
    assert content(file) == b"".join(parts) + WHOLE


def test_what_is_behind_the_body_stays_in_the_socket(file: Any, pair: Pair) -> None:
    pair.theirs.sendall(b"the body" + b"the rest")
    assert run(file, [], pair.lend(len(b"the body"))).fetched == len(b"the body")
    assert content(file) == b"the body"
    assert pair.ours.recv(100) == b"the rest"


def test_a_thread_does_not_wait_for_what_is_still_to_come(file: Any, pair: Pair) -> None:
    pair.theirs.sendall(b"half")
    done = run(file, [b"one "], pair.lend(1000))
    assert (done.fetched, done.error) == (len(b"half"), None)
    assert content(file) == b"one half"


def test_a_body_that_breaks_off_is_for_the_owner_of_the_socket_to_find(
    file: Any, pair: Pair
) -> None:
    pair.theirs.sendall(b"half")
    pair.theirs.close()
    done = run(file, [], pair.lend(1000))
    assert (done.fetched, done.error) == (len(b"half"), None)
    assert pair.ours.recv(100) == b""


def test_a_connection_that_is_reset_is_for_the_owner_of_the_socket_to_find(file: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours:
        ours.sendall(b"never read")
        theirs.close()  # with data unread: a reset
        ours.setblocking(False)
        done = run(file, [b"one"], (os.dup(ours.fileno()), 1000))
    assert (done.fetched, done.error) == (0, None)
    assert content(file) == b"one"


def test_a_thread_is_free_for_others_after_a_while(
    file: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MOST_FETCHED", 10)
    pair.theirs.sendall(b"0123456789abcdef")
    assert run(file, [], pair.lend(16)).fetched == 10
    assert content(file) == b"0123456789"
    assert pair.ours.recv(100) == b"abcdef"


def test_a_file_that_the_kernel_can_not_bring_it_to_gets_it_all_the_same(
    tmp_path: Path, pair: Pair
) -> None:
    """As some file systems are; splice(2) refuses a file that is open for appending on all of them."""
    pair.theirs.sendall(WHOLE)
    with (tmp_path / "appended").open("ab+", buffering=0) as file:
        done = run(file, [b"one"], pair.lend(len(WHOLE)))
        assert (done.fetched, done.error) == (len(WHOLE), None)
        assert content(file) == b"one" + WHOLE


def test_a_disk_that_is_full_is_an_error(pair: Pair) -> None:
    pair.theirs.sendall(b"half")
    with open("/dev/full", "wb", buffering=0) as full:
        done = run(full, [], pair.lend(1000))
    assert done.error is not None
    assert done.error.errno == errno.ENOSPC
    assert done.fetched == len(b"half")  # it is gone, and has to be counted


def test_parts_that_can_not_be_written_are_an_error_and_nothing_is_fetched(pair: Pair) -> None:
    pair.theirs.sendall(b"half")
    with open("/dev/full", "wb", buffering=0) as full:
        done = run(full, [b"one"], pair.lend(1000))
    assert done.error is not None
    assert done.fetched == 0
    assert pair.ours.recv(100) == b"half"


def test_without_descriptors_for_a_pipe_nothing_is_fetched(
    file: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pipe() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pipe", no_pipe)
    pair.theirs.sendall(b"half")
    done = run(file, [b"one"], pair.lend(1000))
    assert (done.fetched, done.error) == (0, None)
    assert content(file) == b"one"
    assert pair.ours.recv(100) == b"half"
