"""A request that can't be trusted ends its connection, and nothing behind it is ever looked at."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.http.memory import (
    Echo,
    Engine,
    Later,
    Receiver,
    Streaming,
    Upload,
    get,
    post,
    read_messages,
)

SMUGGLED = get(b"/smuggled")
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"

BAD_HEADS = {
    "both lengths": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 4\r\nContent-Length: 0\r\n\r\n",
    "length list": HEAD + b"Content-Length: 0, 4\r\n\r\n",
    "length with sign": HEAD + b"Content-Length: +0\r\n\r\n",
    "huge length": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "space before colon": HEAD + b"Content-Length : 4\r\n\r\n",
    "folded": HEAD + b"X: y\r\n Content-Length: 4\r\n\r\n",
    "te list": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "te twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "te spelling": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n",
    "te vertical tab": HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n",
    "te in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "bare lf": HEAD + b"X: y\nContent-Length: 4\r\n\r\n",
    "bare cr": HEAD + b"X: y\rContent-Length: 4\r\n\r\n",
    "lf only": b"GET / HTTP/1.1\nHost: a\n\n",
    "nul": HEAD + b"X: y\0\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": HEAD + b"Host: b\r\n\r\n",
    "bad host": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET /\r\nHost: a\r\n\r\n",
    "name": HEAD + b"X(y): z\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("text", BAD_HEADS.values(), ids=BAD_HEADS)
@pytest.mark.parametrize("way", ["at once", "one by one", "bytewise", "behind a good one"])
def test_nothing_behind_a_refused_request_is_ever_parsed(text: bytes, way: str) -> None:
    resource = Echo()
    engine = Engine(resource)
    client = engine.client()
    if way == "at once":
        client.send(text + SMUGGLED * 2)
    elif way == "one by one":
        client.send(text, SMUGGLED, SMUGGLED)
    elif way == "bytewise":
        client.send_bytewise(text + SMUGGLED * 2)
    else:
        client.send(get(b"/good") + text + SMUGGLED, SMUGGLED)
    messages = read_messages(client.received)
    if way == "behind a good one":
        assert messages.pop(0).body == b"GET /good"
    (refusal,) = messages
    assert refusal.status in (400, 505)
    assert refusal.get(b"connection") == [b"close"]
    assert [request.path for request in resource.seen if request.path != b"/good"] == []
    assert client.half_closed
    client.send(SMUGGLED)
    assert client.unread == 0
    client.send_eof()
    assert client.closed
    assert not engine.site.connections


BAD_CHUNKS = {
    "size": b"x\r\n",
    "negative": b"-1\r\n",
    "0x": b"0x1\r\na\r\n",
    "space": b"1 \r\na\r\n",
    "huge": b"1" + b"0" * 16 + b"\r\n",
    "no crlf": b"1\r\nab\r\n",
    "bare lf": b"1\na\r\n",
    "bare lf at the end": b"1\r\na\n",
    "bare cr": b"1\ra\r\n",
    "extension": b"1;\0\r\na\r\n",
    "extension with lf": b"1;x\n0\r\na\r\n",
    "trailer": b"0\r\nX : y\r\n\r\n",
    "trailer with lf": b"0\r\nX: y\n\r\n\r\n",
    "folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
@pytest.mark.parametrize("way", ["at once", "after the head", "bytewise"])
def test_nothing_behind_a_broken_chunked_body_is_ever_parsed(chunks: bytes, way: str) -> None:
    head = get(b"/", b"Transfer-Encoding: chunked", method=b"POST")
    resource = Upload()
    engine = Engine(resource)
    client = engine.client()
    if way == "at once":
        client.send(head + chunks + SMUGGLED)
    elif way == "after the head":
        client.send(head, chunks + SMUGGLED)
    else:
        client.send_bytewise(head + chunks + SMUGGLED)
    (refusal,) = read_messages(client.received)
    assert refusal.status == 400
    assert refusal.get(b"connection") == [b"close"]
    assert b"/smuggled" not in [request.path for request in resource.requests]
    for receiver in resource.bodies:
        assert receiver.ended is None
        assert receiver.lost is not None
    client.send(SMUGGLED)
    assert b"/smuggled" not in [request.path for request in resource.requests]
    client.send_eof()
    assert client.closed
    assert not engine.site.connections


def test_a_broken_body_cuts_an_answer_that_has_begun() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(get(b"/", b"Transfer-Encoding: chunked", method=b"POST"))
    request = later.requests[0]
    receiver = Receiver()
    request.body.start(receiver)
    request.write(b"half")
    client.send(b"x\r\n" + SMUGGLED)
    assert client.aborted
    assert receiver.lost is not None
    assert len(later.requests) == 1


def test_a_refusal_walks_the_tree_for_refusals() -> None:
    class Note(Streaming):
        def __init__(self) -> None:
            super().__init__()
            self.reasons: list[Any] = []

        def render(self, request: Any) -> bytes:
            error = request.notes["refusal"]
            self.reasons.append((error.status, str(error)))
            request.setResponseCode(error.status)
            return b"refused"

    note = Note()
    engine = Engine(Echo())
    engine.site.refusals = note
    for text in (
        get(b"/", b"X : y"),
        get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"x\r\n",
        get(b"/" + b"x" * 9000),
    ):
        (message,) = [engine.ask(text)]
        assert message.body == b"refused"
        assert message.get(b"connection") == [b"close"]
    assert [status for status, _ in note.reasons] == [400, 400, 414]
    assert all(reason for _, reason in note.reasons)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
        (get(b"/", b"Expect: something"), 417),
        (post(b"x", b"Transfer-Encoding: gzip, chunked"), 400),
        (get(b"/", b"Transfer-Encoding: gzip, chunked", method=b"POST"), 501),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ],
)
def test_refusals_that_have_a_status_of_their_own(text: bytes, status: int) -> None:
    message = Engine(Echo()).ask(text)
    assert message.status == status
    assert message.get(b"connection") == [b"close"]


def test_the_tunnel_that_connect_asked_for_is_not_taken_for_requests() -> None:
    resource = Echo()
    client = Engine(resource).client()
    client.send(b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + SMUGGLED)
    assert resource.seen == []
    assert [message.status for message in read_messages(client.received)] == [405]


def test_options_about_the_server_and_absolute_targets_are_served() -> None:
    engine = Engine(Echo())
    assert engine.ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").body == b"OPTIONS *"
    assert engine.ask(b"GET http://b/x?y HTTP/1.1\r\nHost: a\r\n\r\n").body == b"GET /x?y"
