"""Request bodies are collected (behaviour.md section 2, `buffering`)."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.wrappers.error_pages import ErrorPages
from kproxy.wrappers.request_buffer import Options, RequestBuffer
from tests.unit.wrappers.support import Echo, Serve, Threads, chunked, echoed, get, post

LARGE = bytes(range(1, 128)) * 5000


def buffer(leaf: Any, **options: Any) -> RequestBuffer:
    options.setdefault("in_thread", Threads())
    return RequestBuffer(leaf, Options(**options))


def open_files(folder: Path, *, collect: bool = False) -> list[str]:
    """Files of a folder that this process holds open, deleted ones included.

    @param collect: whether cycles may hold them until they are collected.
    """
    if collect:
        gc.collect()
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if name.startswith(str(folder)):
            names.append(name)
    return names


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


class Bodies(Resource):
    """Takes the body as a target would, as often as it is told to."""

    isLeaf = True
    streams = True

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        self.times = times
        self.request: Any = None
        self.rendered = 0
        self.bodies: list[bytes] = []
        self.trailers: list[tuple[bytes, bytes]] = []

    def render(self, request: Any) -> int:
        self.rendered += 1
        self.request = request
        self._take()
        return NOT_DONE_YET

    def _take(self) -> None:
        self.bodies.append(b"")
        self.request.body.start(self)

    def body_data(self, data: bytes) -> None:
        self.bodies[-1] += data

    def body_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.trailers = trailers
        if len(self.bodies) < self.times:
            self._take()
            return
        self.request.write(b"taken")
        self.request.finish()

    def body_lost(self, reason: Exception) -> None:
        raise AssertionError("a body that is all there can't be lost")


@pytest.mark.parametrize("framed", [post, chunked])
@pytest.mark.parametrize("memory", [1 << 20, 1000, 0], ids=["memory", "spilled", "all spilled"])
def test_a_body_arrives_whole(serve: Serve, framed: Any, memory: int) -> None:
    told = echoed(serve(buffer(Echo(), memory=memory)).ask(framed(LARGE)))
    assert told["body"] == LARGE.decode()


def test_a_request_without_a_body_passes_at_once(serve: Serve) -> None:
    threads = Threads(at_once=False)
    site = serve(buffer(Echo(), memory=0, in_thread=threads))
    assert echoed(site.ask(get()))["body"] == ""
    assert echoed(site.ask(get("/", "Content-Length: 0", method="POST")))["method"] == "POST"
    assert threads.jobs == []


def test_nobody_is_asked_before_the_body_is_complete(serve: Serve) -> None:
    inside = Bodies()
    client = serve(buffer(inside)).connect()
    request = post(b"0123456789")
    client.send(request[:-1])
    assert inside.rendered == 0
    client.send(request[-1:])
    assert inside.bodies == [b"0123456789"]
    assert client.response().body == b"taken"


@pytest.mark.parametrize("memory", [1 << 20, 1000], ids=["memory", "spilled"])
def test_a_collected_body_has_a_length_and_can_be_sent_again(serve: Serve, memory: int) -> None:
    inside = Bodies(times=3)
    client = serve(buffer(inside, memory=memory)).connect()
    client.send(chunked(LARGE[:1], LARGE[1:]))
    assert inside.bodies == [LARGE] * 3
    assert inside.request.body.length == len(LARGE)
    assert inside.request.body.replayable


def test_trailers_follow_a_collected_body(serve: Serve) -> None:
    inside = Bodies()
    site = serve(buffer(inside))
    site.ask(chunked(b"abc", trailer=b"X-Sum: 3\r\n"))
    # A stock Site reads trailers and forgets them.
    assert inside.trailers == ([(b"X-Sum", b"3")] if site.native else [])


@pytest.mark.parametrize("memory", [1 << 20, 2], ids=["memory", "spilled"])
@pytest.mark.parametrize("size", [9, 10])
def test_a_body_up_to_the_limit_passes(serve: Serve, memory: int, size: int) -> None:
    site = serve(buffer(Echo(), max_body=10, memory=memory))
    assert echoed(site.ask(post(b"x" * size)))["body"] == "x" * size
    assert echoed(site.ask(chunked(b"x" * size)))["body"] == "x" * size


def test_a_larger_content_length_is_a_413(serve: Serve) -> None:
    inside = Echo()
    response = serve(ErrorPages(buffer(inside, max_body=10))).ask(post(b"12345678901"))
    assert response.code == 413
    assert response.header(b"connection") == b"close"
    assert b"<h1>413" in response.body
    assert inside.requests == []


def test_a_larger_content_length_is_refused_before_the_body_is_read(serve: Serve) -> None:
    site = serve(buffer(Echo(), max_body=10))
    client = site.connect()
    client.send(get("/", "Content-Length: 11", "Expect: 100-continue", method="POST"))
    if site.native:  # a stock Site asks for the body first
        assert client.response().code == 413
        assert client.closing


@pytest.mark.parametrize("memory", [1 << 20, 2], ids=["memory", "spilled"])
def test_a_chunked_body_that_turns_out_larger_is_a_413(serve: Serve, memory: int) -> None:
    inside = Echo()
    client = serve(buffer(inside, max_body=10, memory=memory)).connect()
    client.send(chunked(b"12345", b"67890", b"1"))
    assert client.response().code == 413
    assert inside.requests == []


def test_a_limit_of_0_is_no_limit(serve: Serve) -> None:
    site = serve(buffer(Echo(), max_body=0))
    assert echoed(site.ask(post(LARGE)))["body"] == LARGE.decode()


def test_the_client_hears_that_its_body_is_welcome(serve: Serve) -> None:
    client = serve(buffer(Echo())).connect()
    client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert [response.code for response in client.responses()] == [100]
    client.send(b"body")
    assert [response.code for response in client.responses()] == [100, 200]


def test_a_spilled_body_is_in_a_file_without_a_name(serve: Serve, temporary: Path) -> None:
    site = serve(buffer(Bodies(), memory=1000))
    if not site.native:
        return  # it keeps bodies in a file of its own
    client = site.connect()
    client.send(post(LARGE)[:-1])
    (name,) = open_files(temporary)
    assert name.endswith(" (deleted)")
    assert list(temporary.iterdir()) == []


def test_a_body_that_fits_into_memory_has_no_file(serve: Serve, temporary: Path) -> None:
    site = serve(buffer(Bodies(), memory=len(LARGE)))
    if not site.native:
        return
    client = site.connect()
    client.send(post(LARGE)[:-1])
    assert open_files(temporary) == []


def test_the_file_is_gone_when_the_request_is(serve: Serve, temporary: Path) -> None:
    inside = Bodies()
    site = serve(buffer(inside, memory=1000))
    site.ask(post(LARGE))
    inside.request = None
    assert open_files(temporary) == []


def test_the_file_is_gone_when_the_client_left_half_way(serve: Serve, temporary: Path) -> None:
    inside = Bodies()
    client = serve(buffer(inside, memory=1000)).connect()
    client.send(post(LARGE)[:-1])
    client.leave()
    assert inside.rendered == 0
    assert open_files(temporary) == []


def test_a_slow_disk_slows_its_own_client_and_holds_up_nobody_else(serve: Serve) -> None:
    threads = Threads(at_once=False)
    site = serve(buffer(Echo(), memory=1000, in_thread=threads))
    if not site.native:
        return  # it writes to its disk in the reactor's thread
    slow, other = site.connect(), site.connect()
    request = post(LARGE)
    slow.send(request[:400_000])
    slow.send(request[400_000:500_000])
    assert slow.transport.producerState == "paused"
    other.send(get())
    assert other.response().code == 200
    threads.run()
    assert slow.transport.producerState == "producing"
    slow.send(request[500_000:])
    assert slow.received == b""
    threads.run()
    assert echoed(slow.response())["body"] == LARGE.decode()


def test_a_client_that_leaves_while_the_disk_works_is_forgotten(serve: Serve) -> None:
    threads, inside = Threads(at_once=False), Bodies()
    site = serve(buffer(inside, memory=1000, in_thread=threads))
    client = site.connect()
    client.send(post(LARGE))
    client.leave()
    threads.run()
    assert inside.rendered == (0 if site.native else 1)


def test_a_disk_that_fails_is_a_500(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, **_: Any) -> None: ...

        def fileno(self) -> int:
            raise OSError(28, "No space left on device")

    inside = Echo()
    site = serve(buffer(inside, memory=1000))
    monkeypatch.setattr("kproxy.spool.tempfile", SimpleNamespace(TemporaryFile=Full))
    if not site.native:
        return
    assert site.ask(post(LARGE)).code == 500
    assert inside.requests == []


def test_two_buffers_one_inside_the_other_change_nothing(serve: Serve) -> None:
    site = serve(buffer(buffer(Echo(), memory=10), memory=1000))
    assert echoed(site.ask(chunked(LARGE)))["body"] == LARGE.decode()
