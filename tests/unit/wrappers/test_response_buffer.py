"""Responses are collected (behaviour.md section 2, `buffering`)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.errors import answer_error
from kproxy.streaming import streaming
from kproxy.wrappers.base import Filter, Wrapper
from kproxy.wrappers.error_pages import ErrorPages
from kproxy.wrappers.response_buffer import Options, ResponseBuffer
from tests.unit.upstream.test_failures import Breaks
from tests.unit.wrappers.support import Held, Producer, Says, Serve, Threads, get
from tests.unit.wrappers.test_request_buffer import open_files

LARGE = bytes(range(256)) * 3000
PIECES = [LARGE[at : at + 5000] for at in range(0, len(LARGE), 5000)]


def buffer(leaf: Any, **options: Any) -> ResponseBuffer:
    options.setdefault("in_thread", Threads())
    return ResponseBuffer(leaf, Options(**options))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("memory", [1 << 20, 1000, 0], ids=["memory", "spilled", "all spilled"])
@pytest.mark.parametrize("pieces", [[LARGE], PIECES, [b"x"], [b""]], ids=len)
def test_a_response_arrives_whole_with_its_length(
    serve: Serve, memory: int, pieces: list[bytes]
) -> None:
    response = serve(buffer(Says(*pieces), memory=memory)).ask()
    assert response.body == b"".join(pieces)
    assert response.header(b"content-length") == b"%d" % len(response.body)
    assert response.header(b"transfer-encoding") is None


def test_nothing_is_passed_on_before_the_response_is_complete(serve: Serve) -> None:
    leaf = Held()
    client = serve(buffer(leaf)).connect()
    client.send(get())
    leaf.request.write(b"one")
    leaf.request.write(b"two")
    assert client.received == b""
    leaf.request.finish()
    assert client.response().body == b"onetwo"


def test_status_and_headers_are_those_of_the_response(serve: Serve) -> None:
    leaf = Says(b"in", b"pieces", code=418, x_mine=b"1", content_type=b"text/plain")
    response = serve(buffer(leaf)).ask()
    assert response.code == 418
    assert response.header(b"x-mine") == b"1"
    assert response.header(b"content-type") == b"text/plain"


@pytest.mark.parametrize("kind", [b"text/event-stream", b"Text/Event-Stream; charset=utf-8"])
def test_an_event_stream_is_passed_on_as_it_comes(serve: Serve, kind: bytes) -> None:
    leaf = Held()
    client = serve(buffer(leaf)).connect()
    client.send(get())
    leaf.request.setHeader(b"content-type", kind)
    leaf.request.write(b"data: 1\n\n")
    assert client.response().body == b"data: 1\n\n"
    leaf.request.write(b"data: 2\n\n")
    assert client.response().body == b"data: 1\n\ndata: 2\n\n"
    assert not client.response().complete
    leaf.request.finish()
    assert client.response().complete


@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
def test_a_slow_client_slows_an_event_stream(serve: Serve, early: bool) -> None:
    leaf, producer = Held(), Producer()
    client = serve(buffer(leaf)).connect()
    client.send(get())
    leaf.request.setHeader(b"content-type", b"text/event-stream")
    if early:
        leaf.request.registerProducer(producer, True)
        leaf.request.write(b"data: 1\n\n")
    else:
        leaf.request.write(b"data: 1\n\n")
        leaf.request.registerProducer(producer, True)
    client.hurry(False)
    client.hurry(True)
    assert producer.told == ["pause", "resume"]
    leaf.request.unregisterProducer()
    leaf.request.finish()
    assert client.response().complete


def test_an_event_stream_has_no_limit(serve: Serve) -> None:
    leaf = Says(b"data: 1\n\n", b"data: 2\n\n", content_type=b"text/event-stream")
    assert len(serve(buffer(leaf, max_body=10)).ask().body) == 18


def test_a_slow_client_does_not_slow_a_response_that_is_collected(serve: Serve) -> None:
    leaf, producer = Held(), Producer()
    client = serve(buffer(leaf)).connect()
    client.send(get())
    leaf.request.registerProducer(producer, True)
    leaf.request.write(LARGE)
    client.hurry(False)
    assert producer.told == []


@pytest.mark.parametrize("memory", [1 << 20, 2], ids=["memory", "spilled"])
@pytest.mark.parametrize("pieces", [[b"1234567890"], [b"12345", b"67890"]], ids=len)
def test_a_response_up_to_the_limit_passes(serve: Serve, memory: int, pieces: list[bytes]) -> None:
    response = serve(buffer(Says(*pieces), max_body=10, memory=memory)).ask()
    assert (response.code, response.body) == (200, b"1234567890")


@pytest.mark.parametrize("memory", [1 << 20, 2], ids=["memory", "spilled"])
@pytest.mark.parametrize(
    "pieces",
    [[b"12345678901"], [b"12345", b"678901"], [b"12345", b"67890", b"1", b"2", b"3"]],
    ids=len,
)
def test_a_response_over_the_limit_is_a_500_and_not_half_a_body(
    serve: Serve, memory: int, pieces: list[bytes]
) -> None:
    leaf = Says(*pieces, x_mine=b"1")
    client = serve(ErrorPages(buffer(leaf, max_body=10, memory=memory))).connect()
    client.send(get())
    response = client.response()
    assert response.code == 500
    assert response.complete
    assert b"<h1>500" in response.body
    assert b"12345" not in response.body
    assert response.header(b"x-mine") is None
    client.send(get())
    assert len(client.responses()) == 2, "the connection is of no use any more"


def test_who_makes_a_response_over_the_limit_is_told_to_stop(serve: Serve) -> None:
    leaf, producer = Held(), Producer()
    client = serve(buffer(leaf, max_body=10)).connect()
    client.send(get())
    leaf.request.registerProducer(producer, True)
    leaf.request.write(b"12345678901")
    assert producer.told == ["stop"]
    assert client.response().code == 500


def test_an_error_in_the_middle_of_a_response_is_a_clean_page(serve: Serve) -> None:
    leaf = Held()
    client = serve(ErrorPages(buffer(leaf))).connect()
    client.send(get())
    leaf.request.setHeader(b"x-mine", b"1")
    leaf.request.write(b"half of it")
    answer_error(streaming(leaf.request), 502)
    response = client.response()
    assert response.code == 502
    assert b"half of it" not in response.body
    assert response.header(b"x-mine") is None


def test_a_head_request_keeps_the_length_it_was_told(serve: Serve) -> None:
    site = serve(buffer(Says(b"", content_length=b"12345")))
    client = site.connect()
    client.send(get(method="HEAD"))
    assert client.response().header(b"content-length") == b"12345"
    assert client.received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("code", [204, 304])
def test_a_status_without_a_body_gets_no_length(serve: Serve, code: int) -> None:
    leaf = Held()
    client = serve(buffer(leaf)).connect()
    client.send(get())
    leaf.request.setResponseCode(code)
    leaf.request.finish()
    assert client.response().code == code
    assert client.response().header(b"content-length") is None
    assert client.received.endswith(b"\r\n\r\n")


def test_trailers_keep_a_response_chunked(serve: Serve) -> None:
    leaf = Held()
    site = serve(buffer(leaf))
    client = site.connect()
    client.send(get())
    leaf.request.write(b"body")
    leaf.request.response_trailers.append((b"X-Sum", b"4"))
    leaf.request.finish()
    response = client.response()
    assert response.body == b"body"
    assert response.header(b"content-length") is None
    # A stock Site has no way to send trailers.
    assert response.trailers == ([(b"X-Sum", b"4")] if site.native else [])


def test_a_spilled_response_is_in_a_file_without_a_name(serve: Serve, temporary: Path) -> None:
    leaf = Held()
    site = serve(buffer(leaf, memory=1000))
    client = site.connect()
    client.send(get())
    leaf.request.write(LARGE)
    leaf.request.write(LARGE)
    (name,) = open_files(temporary)
    assert name.endswith(" (deleted)")
    assert list(temporary.iterdir()) == []
    leaf.request.finish()
    leaf.request = None
    assert client.response().body == LARGE * 2
    assert open_files(temporary, collect=not site.native) == []


def test_the_file_is_gone_when_the_client_left_half_way(serve: Serve, temporary: Path) -> None:
    leaf = Held()
    site = serve(buffer(leaf, memory=1000))
    client = site.connect()
    client.send(get())
    leaf.request.write(LARGE)
    client.leave()
    leaf.request = None
    assert open_files(temporary, collect=not site.native) == []


def test_a_spilled_response_goes_at_the_clients_pace(serve: Serve) -> None:
    leaf = Held()
    site = serve(buffer(leaf, memory=1000))
    client = site.connect()
    client.send(get())
    leaf.request.write(LARGE)
    client.hurry(False)
    leaf.request.finish()
    # What is not yet wanted stays in the file; a piece or two may be on their way.
    assert len(client.received) < len(LARGE)
    client.hurry(True)
    assert client.response().body == LARGE


def test_a_client_that_leaves_while_a_spilled_response_is_sent_is_forgotten(
    serve: Serve, temporary: Path
) -> None:
    leaf = Held()
    site = serve(buffer(leaf, memory=1000))
    client = site.connect()
    client.send(get())
    leaf.request.write(LARGE)
    client.hurry(False)
    leaf.request.finish()
    leaf.request = None
    client.leave()
    del client  # which knows the protocol that had to do with it
    assert open_files(temporary, collect=not site.native) == []


def test_a_slow_disk_slows_the_target_and_holds_up_nobody_else(serve: Serve) -> None:
    threads, leaf, producer = Threads(at_once=False), Held(), Producer()
    site = serve(buffer(leaf, memory=1000, in_thread=threads))
    client, other = site.connect(), site.connect()
    client.send(get())
    slow = leaf.request
    slow.registerProducer(producer, True)
    slow.write(LARGE)
    assert producer.told == ["pause"]
    other.send(get())
    leaf.request.write(b"quick")
    leaf.request.finish()
    assert other.response().body == b"quick"
    threads.run()
    assert producer.told == ["pause", "resume"]
    slow.unregisterProducer()
    slow.finish()
    threads.run()
    assert client.response().body == LARGE


def test_a_response_that_ends_while_the_disk_works_waits_for_it(serve: Serve) -> None:
    threads = Threads(at_once=False)
    client = serve(buffer(Says(*PIECES), memory=1000, in_thread=threads)).connect()
    client.send(get())
    assert client.received == b""
    threads.run()
    assert client.response().body == LARGE


def test_a_client_that_leaves_while_the_disk_works_is_forgotten(serve: Serve) -> None:
    threads = Threads(at_once=False)
    client = serve(buffer(Says(*PIECES), memory=1000, in_thread=threads)).connect()
    client.send(get())
    client.leave()
    threads.run()
    assert client.received == b""


def test_a_disk_that_fails_is_a_500(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, **_: Any) -> None: ...

        def fileno(self) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("kproxy.spool.tempfile", SimpleNamespace(TemporaryFile=Full))
    response = serve(ErrorPages(buffer(Says(*PIECES), memory=1000))).ask()
    assert response.code == 500
    assert b"<h1>500" in response.body


class Counting(Wrapper):
    """Counts what passes it, to see what a filter outside of a buffer gets."""

    def __init__(self, wrapped: Any) -> None:
        super().__init__(wrapped)
        self.calls: list[str] = []

    def render(self, request: Any) -> Any:
        calls = self.calls

        class Counts(Filter):
            def begin(self) -> None:
                length = self.request.responseHeaders.getRawHeaders(b"content-length", [b"?"])[0]
                calls.append(f"begin {length.decode()}")
                super().begin()

            def write(self, data: bytes) -> None:
                calls.append("write")
                super().write(data)

            def finish(self) -> None:
                calls.append("finish")
                super().finish()

        streaming(request).add_filter(Counts)
        return super().render(request)


def test_a_filter_outside_of_the_buffer_gets_the_whole_and_its_length(serve: Serve) -> None:
    leaf = Held()
    tree = Counting(buffer(leaf))
    client = serve(tree).connect()
    client.send(get())
    leaf.request.write(b"ab")
    assert tree.calls == []
    leaf.request.write(b"c")
    leaf.request.finish()
    assert (tree.calls[0], tree.calls[-1]) == ("begin 3", "finish")
    assert client.response().body == b"abc"


def test_a_filter_inside_of_the_buffer_gets_each_piece(serve: Serve) -> None:
    inside = Counting(Says(b"a", b"b", b"c"))
    assert serve(buffer(inside)).ask().body == b"abc"
    assert inside.calls == ["begin ?", "write", "write", "write", "finish"]


def test_a_spilled_file_that_can_not_be_read_cuts_the_client_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    tree = Counting(buffer(Says(*PIECES), memory=1000))
    client = serve(tree).connect()
    monkeypatch.setattr("os.preadv", fail)
    monkeypatch.setattr("os.pread", fail)
    client.send(get())
    assert client.cut
    assert [response for response in client.responses() if response.complete] == []


@pytest.mark.parametrize("method", ["begin", "write", "finish"])
def test_a_filter_that_fails_with_a_spilled_response_keeps_nobody_waiting(
    serve: Serve, method: str
) -> None:
    threads = Threads(at_once=False)
    tree = Breaks(buffer(Says(*PIECES), memory=1000, in_thread=threads), method)
    client = serve(tree).connect()
    client.send(get())
    threads.run()
    assert client.cut or client.response().code == 500


class Refuses(Resource):
    isLeaf = True
    streams = True

    def render(self, request: Any) -> int:
        answer_error(streaming(request), 502)
        return NOT_DONE_YET


def test_an_answer_of_the_proxy_itself_passes(serve: Serve) -> None:
    response = serve(ErrorPages(buffer(Refuses()))).ask()
    assert response.code == 502
    assert b"<h1>502" in response.body
