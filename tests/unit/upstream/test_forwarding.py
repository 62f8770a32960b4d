"""What a target gets of a request, and a client of a response: framed afresh."""

from __future__ import annotations

import pytest
from twisted.web.http_headers import Headers

from tests.unit.http.memory import get, post, read_message, read_messages, splits
from tests.unit.upstream.support import Proxy, answer, one_message

CHUNKED = b"Transfer-Encoding: chunked"


def test_a_request_arrives_as_it_was_sent_but_for_what_is_the_proxys() -> None:
    proxy = Proxy()
    proxy.client().send(
        get(
            b"/a%20b?c=d&&e=%zz",
            b"User-agent: x",
            b"X-Empty:",
            b"accept:  a ",
            b"Accept: b",
            b"Connection: keep-alive, X-Hop",
            b"X-Hop: 1",
            b"TE: trailers",
            b"Keep-Alive: 5",
            b"Proxy-Authorization: x",
        )
    )
    message = one_message(proxy.target)
    assert message.start == b"GET /a%20b?c=d&&e=%zz HTTP/1.1"
    assert message.headers == [
        (b"Host", b"example.com"),
        (b"User-agent", b"x"),
        (b"X-Empty", b""),
        (b"accept", b"a"),
        (b"Accept", b"b"),
        (b"X-Kamal-Target", b"app:1"),
    ]


def test_a_response_arrives_as_it_was_sent_but_for_what_is_hop_by_hop() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(get())
    proxy.target.send(
        b"HTTP/1.1 418 I'm A Teapot\r\nset-cookie: a=b\r\nSet-Cookie: c=d\r\nX-Hop: 1\r\n"
        b"Connection: X-Hop\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\nETag: x\r\n\r\nno"
    )
    message = one_message(client)
    assert message.start == b"HTTP/1.1 418 I'm A Teapot"
    assert message.headers == [
        (b"set-cookie", b"a=b"),
        (b"Set-Cookie", b"c=d"),
        (b"Content-Length", b"2"),
        (b"ETag", b"x"),
    ]
    assert message.body == b"no"


def test_the_target_is_named_behind_those_that_were_passed_before() -> None:
    proxy = Proxy()
    proxy.client().send(get(b"/", b"x-kamal-target: first:1", b"X-KAMAL-TARGET: second:2"))
    assert one_message(proxy.target).get(b"x-kamal-target") == [b"first:1, second:2, app:1"]


def test_an_absolute_target_becomes_a_path_and_a_host() -> None:
    proxy = Proxy()
    proxy.client().send(b"GET http://b.example:81/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n")
    message = one_message(proxy.target)
    assert message.start == b"GET /x?y HTTP/1.1"
    assert message.get(b"host") == [b"b.example:81"]


def test_a_request_of_http_1_0_becomes_one_of_1_1_with_a_host() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    message = one_message(proxy.target)
    assert message.start == b"GET / HTTP/1.1"
    assert message.get(b"host") == [b"app:1"]
    proxy.target.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    message = one_message(client)
    assert message.get(b"transfer-encoding") == []
    assert message.body == b"abc"
    assert client.closed


@pytest.mark.parametrize(
    ("text", "body", "framing"),
    [
        (get(method=b"POST"), b"", []),
        (post(b""), b"", [(b"Content-Length", b"0")]),
        (post(b"hello"), b"hello", [(b"Content-Length", b"5")]),
        (get(b"/", b"Content-Length: 05") + b"hello", b"hello", [(b"Content-Length", b"5")]),
        (
            get(b"/", CHUNKED, method=b"PUT") + b"05;x=y\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
            b"hello!",
            [(b"Transfer-Encoding", b"chunked")],
        ),
        (get(b"/", CHUNKED) + b"0\r\n\r\n", b"", [(b"Transfer-Encoding", b"chunked")]),
    ],
)
def test_a_body_is_framed_afresh(
    text: bytes, body: bytes, framing: list[tuple[bytes, bytes]]
) -> None:
    for pieces in [(text,), *splits(text)]:
        proxy = Proxy()
        proxy.client().send(*pieces)
        message = one_message(proxy.target)
        frames = (b"content-length", b"transfer-encoding")
        assert [pair for pair in message.headers if pair[0].lower() in frames] == framing
        assert message.body == body


def test_trailers_pass_both_ways() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(get(b"/", CHUNKED, method=b"POST") + b"1\r\na\r\n0\r\nX-A: 1\r\nHost: evil\r\n\r\n")
    message = one_message(proxy.target)
    assert message.trailers == [(b"X-A", b"1")]
    proxy.target.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\nb\r\n0\r\nX-B: 2\r\nContent-Length: 5\r\n\r\n"
    )
    message = one_message(client)
    assert message.body == b"b"
    assert message.trailers == [(b"X-B", b"2")]


def test_a_buffered_body_is_sent_with_its_length_and_trailers_make_it_chunked_again() -> None:
    for trailers in (b"", b"X-A: 1\r\n"):
        proxy = Proxy(buffer_requests=True)
        client = proxy.client()
        client.send(get(b"/", CHUNKED, method=b"POST"), b"5\r\nhello\r\n")
        assert proxy.network.attempts == []
        client.send(b"0\r\n" + trailers + b"\r\n")
        message = one_message(proxy.target)
        assert message.body == b"hello"


def test_options_about_the_server_and_other_methods_pass() -> None:
    for start in (b"OPTIONS *", b"PROPFIND /x", b"M-SEARCH /", b"TRACE /"):
        proxy = Proxy()
        proxy.client().send(start + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert one_message(proxy.target).start == start + b" HTTP/1.1"


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (answer(b"hello"), b"hello"),
        (answer(b""), b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
        (b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
    ],
)
@pytest.mark.parametrize("buffered", [False, True])
def test_it_does_not_matter_how_a_response_is_cut_into_pieces(
    response: bytes, body: bytes, buffered: bool
) -> None:
    for pieces in [(response,), *splits(response), [bytes([octet]) for octet in response]]:
        proxy = Proxy(buffer_responses=buffered)
        client = proxy.client()
        client.send(get())
        proxy.target.send(*pieces)
        message = one_message(client)
        assert message.status == int(response[9:12])
        assert message.body == body
        assert client.lost is None
        assert proxy.active == 0


def test_a_response_that_ends_with_its_connection_is_passed_on_framed() -> None:
    for buffered in (False, True):
        proxy = Proxy(buffer_responses=buffered)
        client = proxy.client()
        client.send(get())
        proxy.target.send(b"HTTP/1.0 200 OK\r\n\r\nhello", b" world")
        proxy.target.send_eof()
        message = one_message(client)
        assert message.body == b"hello world"
        assert message.get(b"transfer-encoding") == ([] if buffered else [b"chunked"])
        assert message.get(b"content-length") == ([b"11"] if buffered else [])
        assert client.lost is None
        assert proxy.idle == 0


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n",
    ],
)
@pytest.mark.parametrize("buffered", [False, True])
def test_head_gets_the_headers_and_the_connection_goes_on(head: bytes, buffered: bool) -> None:
    proxy = Proxy(buffer_responses=buffered)
    client = proxy.client()
    client.send(get(method=b"HEAD"))
    assert one_message(proxy.target).start == b"HEAD / HTTP/1.1"
    proxy.target.send(head)
    message = one_message(client, bodiless=True)
    assert message.get(b"x") == [b"y"]
    if b"Content-Length" in head:
        assert message.get(b"content-length") == [b"1000"]
    client.send(get())
    proxy.target.send(answer(b"next"))
    assert one_message(client).body == b"next"
    assert len(proxy.network.attempts) == 1


def test_interim_responses_are_passed_on_except_100() -> None:
    for buffered in (False, True):
        proxy = Proxy(buffer_responses=buffered)
        client = proxy.client()
        client.send(get())
        proxy.target.send(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early",
        )
        assert [m.status for m in read_messages(client.take())] == [103, 102]
        proxy.target.send(b" Hints\r\nLink: </b>\r\n\r\n" + answer())
        messages = read_messages(client.take())
        assert [m.status for m in messages] == [103, 200]
        assert messages[0].headers == [(b"Link", b"</b>")]


def test_a_client_that_waits_is_told_to_continue_by_the_proxy_itself() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(get(b"/", b"Expect: 100-continue", b"Content-Length: 5", method=b"POST"))
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b"Expect" not in proxy.target.received
    proxy.target.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.send(b"hello")
    assert one_message(proxy.target).body == b"hello"
    proxy.target.send(answer())
    assert one_message(client).status == 200


def test_headers_leave_for_the_client_when_they_come_even_if_the_body_does_not() -> None:
    for lines in (b"Content-Length: 5", CHUNKED, b"Content-Type: text/event-stream"):
        proxy = Proxy(buffer_responses=lines.endswith(b"stream"))
        client = proxy.client()
        client.send(get())
        proxy.target.send(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\n")
        assert client.received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert client.received.endswith(b"\r\n\r\n")


def test_an_event_stream_is_passed_on_event_by_event_though_responses_are_buffered() -> None:
    proxy = Proxy(buffer_responses=True)
    client = proxy.client()
    client.send(get())
    proxy.target.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; x=y\r\n\r\n")
    client.take()
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        proxy.target.send(event)
        assert event in client.take()


def test_pipelined_requests_go_one_by_one_and_are_answered_in_order() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(get(b"/1") + post(b"x", path=b"/2") + get(b"/3"))
    for path in (b"/1", b"/2", b"/3"):
        assert one_message(proxy.target).start.split()[1] == path
        proxy.target.send(answer(path))
    assert [message.body for message in read_messages(client.take())] == [b"/1", b"/2", b"/3"]
    assert len(proxy.network.attempts) == 1


def test_headers_of_twisteds_own_kind_can_be_sent_too() -> None:
    """Of a request in a stock Site."""

    class Stock:
        def __init__(self, resource: object) -> None:
            self.resource = resource

        isLeaf = streams = True

        def render(self, request: object) -> object:
            headers = Headers({b"host": [b"b"], b"x": [b"1", b"2"]})
            request.requestHeaders = headers  # type: ignore[attr-defined]
            return self.resource.render(request)  # type: ignore[attr-defined]

    proxy = Proxy(around=Stock)
    proxy.client().send(get())
    message, _ = read_message(proxy.target.take())
    assert message.headers == [
        (b"Host", b"b"),
        (b"X", b"1"),
        (b"X", b"2"),
        (b"X-Kamal-Target", b"app:1"),
    ]
