"""A client's connection: requests in, answers out, in order and framed (RFC 9112)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.web.server import NOT_DONE_YET

from tests.unit.http.memory import (
    Echo,
    Engine,
    Later,
    Receiver,
    Streaming,
    Upload,
    Wire,
    get,
    post,
    read_message,
    read_messages,
    splits,
)


class Writes(Streaming):
    """Answers with these pieces, of which a length is only known at the end."""

    def __init__(self, *pieces: bytes, code: int = 200, trailers: Any = ()) -> None:
        super().__init__()
        self.pieces, self.code, self.trailers = pieces, code, trailers

    def render(self, request: Any) -> int:
        request.setResponseCode(self.code)
        for piece in self.pieces:
            request.write(piece)
        if self.trailers:
            request.response_trailers = list(self.trailers)
        request.finish()
        return NOT_DONE_YET


def bodies(client: Wire) -> list[bytes]:
    return [message.body for message in read_messages(client.received)]


# Persistence and order.


def test_a_connection_serves_one_request_after_the_other() -> None:
    client = Engine(Echo()).client()
    for path in (b"/a", b"/b", b"/c"):
        client.send(get(path))
        (message,) = read_messages(client.take())
        assert (message.status, message.body) == (200, b"GET " + path)
        assert message.get(b"connection") == []
    assert client.lost is None


def test_pipelined_requests_are_answered_in_order() -> None:
    client = Engine(Echo()).client()
    client.send(get(b"/a") + post(b"xyz", path=b"/b") + get(b"/c"))
    assert bodies(client) == [b"GET /a", b"POST /b", b"GET /c"]


def test_pipelined_requests_are_answered_in_order_when_the_answers_take_time() -> None:
    resource = Later()
    client = Engine(resource).client()
    client.send(get(b"/a") + get(b"/b"), get(b"/c"))
    for index, path in enumerate((b"/a", b"/b", b"/c")):
        # One at a time: the next is not even rendered before its turn.
        assert [request.path for request in resource.requests][index:] == [path]
        resource.answer(index, path)
    assert bodies(client) == [b"/a", b"/b", b"/c"]


def test_many_pipelined_requests_do_not_nest() -> None:
    client = Engine(Echo()).client()
    client.send(get() * 3000)
    assert len(bodies(client)) == 3000


def test_what_a_client_sends_ahead_is_bounded_by_not_reading_on() -> None:
    resource = Later()
    client = Engine(resource).client()
    client.send(get(b"/0"))
    client.send(*[get(b"/x", b"X: " + b"x" * 8000)] * 100)
    assert not client.reading
    assert client.unread > 600_000
    for index in range(101):
        resource.answer(index, b"")
        client.turn()
    assert len(resource.requests) == 101
    assert client.reading
    assert len(bodies(client)) == 101


@pytest.mark.parametrize(
    "text",
    [
        get(b"/a", b"X: y") + get(b"/b"),
        post(b"hello") + get(b"/b"),
        get(b"/", b"Transfer-Encoding: chunked", method=b"POST")
        + b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n"
        + get(b"/b"),
        b"\r\n" + get(b"/a") + b"\r\n" + get(b"/b"),
        b"\r\n\r\n\r\n" + get(b"/a") + b"\r\n\r\n" + get(b"/b"),
        get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"x\r\n" + get(b"/b"),
        get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"1\r\nab\r\n" + get(b"/b"),
        get(b"/a", b"Connection: close") + get(b"/b"),
        get(b"/a", b"X : y") + get(b"/b"),
        get(b"/a")[:-2] + b"\n" + get(b"/b"),
        b"\r\n\n" + get(b"/a"),
        b"\r\n\r\n\r\r\n" + get(b"/a"),
    ],
)
def test_it_does_not_matter_how_requests_are_cut_into_pieces(text: bytes) -> None:
    def answers(*pieces: bytes) -> list[tuple[int, bytes]]:
        client = Engine(Upload()).client()
        client.send(*pieces)
        return [(message.status, message.body) for message in read_messages(client.received)]

    at_once = answers(text)
    assert at_once
    assert answers(*[text[i : i + 1] for i in range(len(text))]) == at_once
    for first, second in splits(text):
        assert answers(first, second) == at_once


def test_empty_lines_before_a_request_are_ignored() -> None:
    client = Engine(Echo()).client()
    client.send(b"\r\n" + get(b"/a") + b"\r\n\r\n" + get(b"/b"))
    assert bodies(client) == [b"GET /a", b"GET /b"]


def test_a_client_that_asks_for_it_gets_its_connection_closed() -> None:
    client = Engine(Echo()).client()
    client.send(get(b"/", b"Connection: close"))
    (message,) = read_messages(client.received)
    assert message.get(b"connection") == [b"close"]
    assert client.closed


def test_a_resource_can_have_the_connection_closed() -> None:
    class Closes(Echo):
        def render(self, request: Any) -> bytes:
            request.setHeader(b"connection", b"close")
            return super().render(request)

    client = Engine(Closes()).client()
    client.send(get())
    (message,) = read_messages(client.received)
    assert message.get(b"connection") == [b"close"]
    assert client.closed


# HTTP/1.0.


def test_http_1_0_closes_unless_it_asks_to_keep_the_connection() -> None:
    client = Engine(Echo()).client()
    client.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    (message,) = read_messages(client.take())
    assert message.get(b"connection") == [b"keep-alive"]
    assert client.lost is None
    client.send(b"GET /b HTTP/1.0\r\n\r\n")
    (message,) = read_messages(client.take())
    assert message.body == b"GET /b"
    assert client.closed


def test_http_1_0_gets_a_body_of_unknown_length_until_the_connection_closes() -> None:
    client = Engine(Writes(b"a", b"b")).client()
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    (message,) = read_messages(client.received)
    assert message.get(b"transfer-encoding") == []
    assert message.get(b"connection") == [b"close"]
    assert message.body == b"ab"
    assert client.closed


# How answers are framed.


def test_a_body_of_unknown_length_is_chunked_and_may_have_trailers() -> None:
    client = Engine(Writes(b"hello", b"", b" world", trailers=[(b"X-Sum", b"1")])).client()
    client.send(get() * 2)
    for message in read_messages(client.received):
        assert message.get(b"transfer-encoding") == [b"chunked"]
        assert message.body == b"hello world"
        assert message.trailers == [(b"X-Sum", b"1")]
    assert client.lost is None


def test_an_empty_body_of_unknown_length_is_framed_too() -> None:
    assert Engine(Writes()).ask(get()).body == b""


@pytest.mark.parametrize("code", [204, 304])
def test_an_answer_that_has_no_body_by_its_status_sends_none(code: int) -> None:
    client = Engine(Writes(b"not to be sent", code=code)).client()
    client.send(get() * 2)
    messages = read_messages(client.received)
    assert [message.status for message in messages] == [code, code]
    for message in messages:
        assert message.get(b"transfer-encoding") == []
        assert message.get(b"content-length") == []


def test_a_304_may_say_how_long_the_body_would_be_and_a_204_may_not() -> None:
    class Says(Streaming):
        def render(self, request: Any) -> int:
            request.setResponseCode(int(request.path[1:]))
            request.setHeader(b"content-length", b"10")
            request.finish()
            return NOT_DONE_YET

    engine = Engine(Says())
    assert engine.ask(get(b"/304")).get(b"content-length") == [b"10"]
    assert engine.ask(get(b"/204")).get(b"content-length") == []


@pytest.mark.parametrize("pieces", [(), (b"hello",), (b"a", b"b")])
def test_head_gets_the_headers_only(pieces: tuple[bytes, ...]) -> None:
    client = Engine(Writes(*pieces)).client()
    client.send(get(method=b"HEAD"))
    message, rest = read_message(client.received, bodiless=True)
    assert (message.status, rest) == (200, b"")
    assert client.lost is None


def test_head_of_a_resource_that_returns_its_body_tells_the_length() -> None:
    client = Engine(Echo()).client()
    client.send(get(method=b"HEAD") + get())
    message, rest = read_message(client.received, bodiless=True)
    assert message.get(b"content-length") == [b"6"]
    assert read_message(rest)[0].body == b"GET /"


def test_a_large_body_arrives_whole() -> None:
    large = bytes(range(256)) * 4096
    assert Engine(Writes(large)).ask(get()).body == large
    later = Later()
    client = Engine(later).client()
    client.send(get())
    later.answer(0, large)
    assert bodies(client) == [large]


def test_headers_leave_before_the_body_when_an_empty_piece_is_written() -> None:
    """As with Twisted's own requests; an event stream that is silent at first has been opened."""
    later = Later()
    client = Engine(later).client()
    client.send(get())
    later.requests[0].write(b"")
    head = client.take()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.endswith(b"\r\n\r\n")
    later.requests[0].write(b"x")
    later.requests[0].finish()
    assert read_message(head + client.take())[0].body == b"x"


def test_an_answer_shorter_than_its_length_cuts_the_connection() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(get() + get())
    request = later.requests[0]
    request.setHeader(b"content-length", b"10")
    request.write(b"short")
    request.finish()
    client.turn()
    assert client.aborted
    assert len(later.requests) == 1


def test_an_answer_longer_than_its_length_cuts_the_connection() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(get() + get())
    request = later.requests[0]
    request.setHeader(b"content-length", b"5")
    request.write(b"hello")
    request.write(b" world")
    client.turn()
    assert client.aborted
    assert b"world" not in client.received
    assert len(later.requests) == 1


def test_interim_answers_come_before_the_answer() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(get())
    request = later.requests[0]
    request.inform(103, [(b"Link", b"</x>; rel=preload")])
    request.inform(103, [])
    later.answer(0, b"hello")
    request.inform(103, [])
    messages = read_messages(client.received)
    assert [message.status for message in messages] == [103, 103, 200]
    assert messages[0].headers == [(b"Link", b"</x>; rel=preload")]


def test_http_1_0_gets_no_interim_answers() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    later.requests[0].inform(103, [])
    later.answer(0, b"hello")
    assert [message.status for message in read_messages(client.received)] == [200]


# Bodies of requests.


@pytest.mark.parametrize(
    ("text", "body", "trailers"),
    [
        (post(b"hello"), b"hello", []),
        (post(b""), b"", []),
        (get(b"/", b"Content-Length: 3") + b"abc", b"abc", []),
        (
            get(b"/", b"Transfer-Encoding: chunked", method=b"POST")
            + b"5\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n",
            b"hello!",
            [(b"X-Sum", b"1")],
        ),
        (get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"0\r\n\r\n", b"", []),
    ],
)
def test_a_body_arrives_whole_with_its_trailers(
    text: bytes, body: bytes, trailers: list[tuple[bytes, bytes]]
) -> None:
    for pieces in [(text + get(),), *splits(text + get())]:
        resource = Upload()
        client = Engine(resource).client()
        client.send(*pieces)
        assert resource.bodies[0].data == body
        assert resource.bodies[0].ended == trailers
        assert bodies(client) == [body, b""]


def test_a_request_is_rendered_before_its_body_has_come() -> None:
    resource = Upload()
    client = Engine(resource).client()
    client.send(post(b"hello")[:-5])
    assert len(resource.requests) == 1
    client.send(b"hel", b"lo")
    assert resource.bodies[0].pieces == [b"hel", b"lo"]
    assert bodies(client) == [b"hello"]


def test_a_client_that_waits_is_told_to_continue_once_the_body_is_wanted() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(get(b"/", b"Content-Length: 5", b"Expect: 100-continue", method=b"POST"))
    assert client.received == b""
    receiver = Receiver()
    later.requests[0].body.start(receiver)
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello")
    assert receiver.data == b"hello"
    later.answer(0, b"thanks")
    assert bodies(client) == [b"thanks"]
    assert client.lost is None


def test_a_client_that_waits_gets_a_final_answer_if_its_body_is_not_wanted() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(get(b"/", b"Content-Length: 5", b"Expect: 100-continue", method=b"POST"))
    later.answer(0, b"no")
    (message,) = read_messages(client.received)
    assert message.body == b"no"
    assert message.get(b"connection") == [b"close"]
    # Whether the client sends its body after all can't be known: nothing more is read as a request.
    client.send(get())
    assert len(later.requests) == 1


def test_an_early_answer_lingers_until_the_client_has_read_it() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(post(b"x" * 1000)[:-900])
    later.answer(0, b"enough")
    (message,) = read_messages(client.received)
    assert message.body == b"enough"
    assert message.get(b"connection") == [b"close"]
    assert client.half_closed
    assert client.lost is None
    client.send(b"x" * 500, b"x" * 400, get())
    assert client.unread == 0
    assert len(later.requests) == 1
    client.send_eof()
    assert client.closed


def test_an_early_answer_does_not_wait_for_ever() -> None:
    later = Later()
    engine = Engine(later)
    client = engine.client()
    client.send(post(b"x" * 1000)[:-900])
    later.answer(0, b"enough")
    engine.clock.advance(2)
    assert client.aborted
    assert not engine.site.connections


def test_a_slow_client_gets_the_whole_of_an_early_answer() -> None:
    later = Later()
    engine = Engine(later)
    client = engine.client()
    client.stop_reading()
    client.send(post(b"x" * 1000)[:-900])
    later.answer(0, b"y" * 200_000)
    for _ in range(4):
        engine.clock.advance(30)
        client.read_some(20_000)
        assert not client.aborted
    client.read_on()
    assert bodies(client) == [b"y" * 200_000]


def test_a_client_that_sent_a_request_ahead_of_a_close_gets_the_answer_all_the_same() -> None:
    client = Engine(Echo()).client()
    client.send(get(b"/a", b"Connection: close") + get(b"/b"))
    assert bodies(client) == [b"GET /a"]
    assert client.half_closed
    assert client.lost is None


# The client leaves.


@pytest.mark.parametrize("leave", [Wire.send_eof, Wire.reset])
def test_a_client_that_leaves_is_told_to_whom_it_concerns(leave: Callable[[Wire], None]) -> None:
    later = Later()
    engine = Engine(later)
    client = engine.client()
    client.send(post(b"x" * 10)[:-5])
    request = later.requests[0]
    receiver = Receiver()
    ended: list[Any] = []
    request.on_finish(lambda request, failure: ended.append((request, failure)))
    request.notifyFinish().addErrback(ended.append)
    request.body.start(receiver)
    leave(client)
    (told, failure), notified = ended
    assert told is request
    assert failure.check(ConnectionDone)
    assert notified.check(ConnectionDone)
    assert receiver.lost is not None
    client.turn()
    assert client.lost is not None
    assert not engine.site.connections


def test_what_is_written_for_a_client_that_left_goes_nowhere() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(get())
    client.reset()
    later.requests[0].write(b"x")
    later.requests[0].inform(103, [])
    later.requests[0].abort()
    with pytest.raises(RuntimeError):
        later.requests[0].finish()
    assert client.received == b""


def test_the_end_is_told_once_when_the_answer_is_complete() -> None:
    later = Later()
    client = Engine(later).client()
    ended: list[Any] = []
    client.send(get())
    later.requests[0].on_finish(lambda request, failure: ended.append(failure))
    assert ended == []
    later.answer(0, b"x")
    assert ended == [None]
    client.reset()
    assert ended == [None]


def test_requests_that_wait_behind_a_client_that_left_are_never_rendered() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(get(b"/a") + get(b"/b"))
    client.reset()
    assert len(later.requests) == 1


# Who is at the other end, and how.


def test_a_request_knows_its_addresses_and_whether_it_is_secure() -> None:
    later = Later()
    engine = Engine(later)
    engine.client().send(get(b"/x?y=z%20", b"X-Y: 1"))
    engine.client(secure=True).send(get())
    request = later.requests[0]
    assert request.getClientAddress().host == "192.0.2.7"
    assert request.getClientAddress().port == 54321
    assert (request.getHost().host, request.getHost().port) == ("192.0.2.1", 80)
    assert not request.isSecure()
    assert later.requests[1].isSecure()
    assert (request.uri, request.path, request.query) == (b"/x?y=z%20", b"/x", b"y=z%20")
    assert request.getHeader(b"x-y") == b"1"
    assert request.getHeader("X-Y") == "1"


# Draining.


def test_draining_closes_idle_connections_at_once_and_the_others_after_their_answer() -> None:
    later = Later()
    engine = Engine(later)
    idle, busy = engine.client(), engine.client()
    busy.send(get(b"/a") + get(b"/b"))
    drained = engine.site.drain()
    idle.turn()
    assert idle.closed
    assert busy.lost is None
    assert not drained.called
    later.answer(0, b"x")
    busy.turn()
    (message,) = read_messages(busy.received)
    assert message.get(b"connection") == [b"close"]
    assert len(later.requests) == 1
    busy.send_eof()
    assert drained.called


def test_draining_an_empty_site_is_done_at_once() -> None:
    engine = Engine(Echo())
    assert engine.site.drain().called
    client = engine.client()
    client.reset()
    assert engine.site.drain().called


def test_what_is_left_can_be_cut() -> None:
    engine = Engine(Later())
    clients = [engine.client() for _ in range(3)]
    clients[0].send(get())
    drained = engine.site.drain()
    engine.site.abort_all()
    clients[0].turn()
    assert clients[0].aborted
    assert drained.called


def test_the_site_tells_when_connections_come_and_go() -> None:
    engine = Engine(Echo())
    counts: list[int] = []
    engine.site.connections_changed = lambda: counts.append(len(engine.site.connections))
    client = engine.client()
    engine.client()
    client.reset()
    assert counts == [1, 2, 1]
