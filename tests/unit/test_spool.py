"""Bodies that are collected: in memory while small, in a file that has no name when not."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import socketpair
from typing import Any

import pytest

from kproxy.spool import Spool
from kproxy.stored import PIECE, StoredBody
from kproxy.transfer import Source
from tests.unit.http.memory import Receiver

KB = 1024


class Threads:
    """Work for other threads, done when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Callable[[], None]]] = []

    def __call__(self, work: Callable[[], Any], done: Callable[[], None]) -> None:
        self.jobs.append((work, done))

    def run(self) -> int:
        """Do all there is, and what follows from it; how many jobs that were."""
        count = 0
        while self.run_one():
            count += 1
        return count

    def run_one(self) -> bool:
        """Do the first of them; whether there was one."""
        if not self.jobs:
            return False
        work, done = self.jobs.pop(0)
        work()
        done()
        return True


class Case:
    """A spool, and what it told."""

    def __init__(
        self, memory: int = 100, source: Source | None = None, told: list[str] | None = None
    ) -> None:
        self.threads = Threads()
        self.told: list[str] = [] if told is None else told
        self.spool = Spool(
            memory,
            self.threads,
            lambda: self.told.append("pause"),
            lambda: self.told.append("resume"),
            source,
        )

    def finish(self) -> StoredBody:
        self.spool.finish(lambda: self.told.append("finished"))
        self.threads.run()
        assert self.told[-1] == "finished" or "finished" in self.told
        return self.spool.body([(b"X", b"y")])


def taken(body: StoredBody, threads: Threads) -> bytes:
    receiver = Receiver()
    body.start(receiver)
    threads.run()
    assert receiver.ended == [(b"X", b"y")]
    return receiver.data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


# Collecting.


@pytest.mark.parametrize("pieces", [[], [b"hello"], [b"a", b"b", b"c"], [b"x" * 100]])
def test_a_small_body_stays_in_memory(pieces: list[bytes]) -> None:
    case = Case()
    for piece in pieces:
        case.spool.write(piece)
    whole = b"".join(pieces)
    body = case.finish()
    assert case.spool.in_memory() == whole
    assert case.spool.file() is None
    assert case.spool.size == body.length == len(whole)
    assert taken(body, case.threads) == whole
    assert case.told == ["finished"]


@pytest.mark.parametrize("piece", [1, 7, 101, 5000])
def test_a_body_over_the_limit_is_in_a_file_whole_and_in_order(piece: int, folder: Path) -> None:
    whole = bytes(range(250)) * 20
    case = Case()
    for start in range(0, len(whole), piece):
        case.spool.write(whole[start : start + piece])
        if start % 3 == 0:
            case.threads.run()
    body = case.finish()
    assert case.spool.in_memory() is None
    assert body.length == len(whole)
    assert taken(body, case.threads) == whole
    assert taken(body, case.threads) == whole
    assert body.replayable
    assert os.listdir(folder) == []


def test_a_file_has_no_name_from_the_beginning(folder: Path) -> None:
    case = Case()
    case.spool.write(b"x" * 101)
    assert os.listdir(folder) == []
    case.threads.run()
    assert os.listdir(folder) == []


def test_what_does_not_get_written_in_time_pauses_the_sender() -> None:
    case = Case()
    for _ in range(PIECE // KB):
        case.spool.write(b"x" * KB)
    assert case.told == ["pause"]
    case.spool.write(b"x" * KB)
    assert case.told == ["pause"]
    case.threads.run()
    assert case.told == ["pause", "resume"]
    case.finish()
    assert case.told == ["pause", "resume", "finished"]


def test_the_end_waits_for_the_disk() -> None:
    case = Case()
    case.spool.write(b"x" * 101)
    case.spool.write(b"y")
    case.spool.finish(lambda: case.told.append("finished"))
    assert case.told == []
    case.threads.run()
    assert case.told == ["finished"]
    assert taken(case.spool.body([(b"X", b"y")]), case.threads) == b"x" * 101 + b"y"


# A sender whose socket can be read from.


class Socket:
    """Something that makes a body of what comes over a socket.

    @ivar told: as `Case.told`, and what was taken.
    @ivar lends: whether there is anything to be had.
    """

    def __init__(self, told: list[str]) -> None:
        self.theirs, self.ours = socketpair()
        self.ours.setblocking(False)
        self.told = told
        self.lends = True

    def lend_socket(self) -> tuple[int, int] | None:
        return (os.dup(self.ours.fileno()), 1000) if self.lends else None

    def taken(self, size: int) -> None:
        self.told.append(f"taken {size}")

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def lending() -> Iterator[tuple[Case, Socket]]:
    told: list[str] = []
    socket = Socket(told)
    yield Case(source=socket, told=told), socket
    socket.close()


def test_a_sender_is_paused_while_its_socket_is_read_and_hears_what_was_taken(
    lending: tuple[Case, Socket],
) -> None:
    case, socket = lending
    for _ in range(2):
        case.told.clear()
        case.spool.write(b"x" * 101)
        assert case.told == ["pause"]
        socket.theirs.sendall(b"y" * 99)
        case.threads.run()
        assert case.told == ["pause", "taken 99", "resume"]
    body = case.finish()
    assert body.length == case.spool.size == 400
    assert taken(body, case.threads) == 2 * (b"x" * 101 + b"y" * 99)


def test_a_sender_that_was_paused_before_stays_so_while_its_socket_is_read(
    lending: tuple[Case, Socket],
) -> None:
    case, socket = lending
    socket.lends = False
    case.spool.write(b"x" * 101)
    case.spool.write(b"x" * (PIECE - 101))
    assert case.told == ["pause"]  # together that is too much
    socket.lends = True
    socket.theirs.sendall(b"y" * 99)
    case.threads.run_one()
    assert case.told == ["pause"]  # for another reason now
    case.threads.run_one()
    assert case.told == ["pause", "taken 99", "resume"]
    assert taken(case.finish(), case.threads) == b"x" * PIECE + b"y" * 99


def test_a_socket_is_not_read_for_less_than_is_worth_a_thread(
    lending: tuple[Case, Socket],
) -> None:
    case, _ = lending
    case.spool.write(b"x" * 101)
    case.threads.run()
    case.told.clear()
    case.spool.write(b"x" * 49)
    assert case.told == []
    assert not case.threads.jobs


def test_an_empty_socket_is_nothing_taken(lending: tuple[Case, Socket]) -> None:
    case, _ = lending
    case.spool.write(b"x" * 101)
    case.threads.run()
    assert case.told == ["pause", "resume"]


# Errors.


def failing(error: int) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(error, os.strerror(error))

    return fail


def test_a_full_disk_is_an_error_that_is_kept_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    case.spool.write(b"x" * 101)
    monkeypatch.setattr(os, "writev", failing(errno.ENOSPC))
    monkeypatch.setattr(os, "write", failing(errno.ENOSPC))
    case.threads.run()
    for _ in range(1000):
        case.spool.write(b"x" * KB)
        case.threads.run()
    case.spool.finish(lambda: case.told.append("finished"))
    case.threads.run()
    assert case.told[-1] == "finished"
    assert case.spool.error is not None
    assert case.spool.error.errno == errno.ENOSPC
    assert case.told.count("pause") == case.told.count("resume")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE, errno.EACCES, errno.EROFS])
def test_a_file_that_can_not_be_made_is_an_error_that_is_kept_for_the_end(
    error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", failing(error))
    case = Case()
    for _ in range(1000):
        case.spool.write(b"x" * KB)
    assert sum(map(len, case.spool._parts)) <= KB
    assert case.told.count("pause") == case.told.count("resume")
    case.spool.finish(lambda: case.told.append("finished"))
    case.threads.run()
    assert case.told[-1] == "finished"
    assert case.spool.error is not None
    assert case.spool.error.errno == error


def test_a_disk_that_writes_little_at_a_time_gets_all_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case()
    writev, write = os.writev, os.write
    monkeypatch.setattr(os, "writev", lambda fd, parts: writev(fd, [bytes(parts[0])[:10]]))
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:10]))
    whole = bytes(range(200)) * 3
    case.spool.write(whole[:150])
    case.spool.write(whole[150:])
    body = case.finish()
    monkeypatch.undo()
    assert taken(body, case.threads) == whole


# Sending.


def stored(whole: bytes) -> tuple[StoredBody, Threads]:
    case = Case()
    case.spool.write(whole)
    return case.finish(), case.threads


@pytest.fixture(params=["with NOWAIT", "without"])
def in_file(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading at once where the kernel has the data at hand, and reading in a thread always."""
    if request.param == "without":
        monkeypatch.setattr("kproxy.stored.NOWAIT", 0)


@pytest.mark.usefixtures("in_file")
def test_a_receiver_that_pauses_gets_the_rest_when_it_resumes() -> None:
    whole = bytes(range(256)) * 4 * KB
    body, threads = stored(whole)
    receiver = Receiver()
    receiver.on_data = lambda data: body.pause()
    body.start(receiver)
    threads.run()
    assert receiver.data == whole[:PIECE]
    body.resume()
    threads.run()
    assert receiver.data == whole[: 2 * PIECE]
    assert receiver.ended is None
    for _ in range(10):
        body.resume()
        threads.run()
    assert receiver.data == whole
    assert receiver.ended is not None


@pytest.mark.usefixtures("in_file")
def test_a_receiver_that_stops_gets_nothing_more() -> None:
    body, threads = stored(b"x" * 4 * PIECE)
    receiver = Receiver()
    receiver.on_data = lambda data: body.stop()
    body.start(receiver)
    threads.run()
    body.resume()
    threads.run()
    assert len(receiver.pieces) == 1
    assert receiver.ended is None


def test_a_receiver_that_stops_while_a_thread_reads_gets_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kproxy.stored.NOWAIT", 0)
    body, threads = stored(b"x" * 500)
    receiver = Receiver()
    body.start(receiver)
    body.stop()
    threads.run()
    assert receiver.pieces == []


def test_a_body_that_is_started_anew_while_a_thread_reads_begins_at_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request that is repeated: the first target was given a part of it."""
    monkeypatch.setattr("kproxy.stored.NOWAIT", 0)
    whole = b"".join(b"%08d" % i for i in range(PIECE // 2))
    body, threads = stored(whole)
    first, second = Receiver(), Receiver()
    body.start(first)
    work, done = threads.jobs.pop()
    work()
    done()
    assert first.data == whole[:PIECE]
    assert threads.jobs
    body.stop()
    body.start(second)
    threads.run()
    assert second.data == whole
    assert second.ended is not None
    assert first.ended is None


@pytest.mark.usefixtures("in_file")
def test_a_body_that_is_started_anew_while_it_is_sent_begins_at_its_beginning() -> None:
    whole = bytes(range(256)) * 4 * KB
    body, threads = stored(whole)
    first, second = Receiver(), Receiver()
    first.on_data = lambda data: body.start(second)
    body.start(first)
    threads.run()
    assert len(first.pieces) == 1
    assert second.data == whole


def test_a_file_that_can_not_be_read_is_a_lost_body(monkeypatch: pytest.MonkeyPatch) -> None:
    body, threads = stored(b"x" * 500)
    monkeypatch.setattr(os, "preadv", failing(errno.EIO))
    monkeypatch.setattr(os, "pread", failing(errno.EIO))
    receiver = Receiver()
    body.start(receiver)
    threads.run()
    assert isinstance(receiver.lost, OSError)
    assert receiver.ended is None


def test_a_file_that_is_shorter_than_it_should_be_is_a_lost_body() -> None:
    body, threads = stored(b"x" * 500)
    os.ftruncate(body._file.fileno(), 300)
    receiver = Receiver()
    body.start(receiver)
    threads.run()
    assert len(receiver.data) <= 300
    assert isinstance(receiver.lost, OSError)
