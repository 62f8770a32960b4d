"""A limit for bodies that are not buffered (behaviour.md section 2, `max_request_body`)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.wrappers.error_pages import ErrorPages
from kproxy.wrappers.request_limit import Options, RequestLimit
from tests.unit.wrappers.support import Echo, Serve, chunked, echoed, get, post

TEN = Options(max_body=10)


class Takes(Resource):
    """Takes a body as it comes, and answers at its end."""

    isLeaf = True
    streams = True

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[bytes] = []
        self.lost: list[Exception] = []
        self.request: Any = None

    def render(self, request: Any) -> int:
        self.request = request
        request.body.start(self)
        return NOT_DONE_YET

    def body_data(self, data: bytes) -> None:
        self.taken.append(data)

    def body_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.request.write(b"".join(self.taken) + repr(trailers).encode())
        self.request.finish()

    def body_lost(self, reason: Exception) -> None:
        self.lost.append(reason)


@pytest.mark.parametrize("body", [b"", b"1", b"1234567890"])
@pytest.mark.parametrize("framed", [post, chunked])
def test_a_body_up_to_the_limit_passes(serve: Serve, body: bytes, framed: Any) -> None:
    request = framed(body) if body else get("/", "Content-Length: 0", method="POST")
    assert echoed(serve(RequestLimit(Echo(), TEN)).ask(request))["body"] == body.decode()


def test_a_larger_content_length_is_a_413(serve: Serve) -> None:
    inside = Echo()
    client = serve(ErrorPages(RequestLimit(inside, TEN))).connect()
    client.send(post(b"12345678901"))
    response = client.response()
    assert response.code == 413
    assert b"<h1>413" in response.body
    assert response.header(b"connection") == b"close"
    assert inside.requests == []


def test_a_larger_content_length_is_refused_before_the_body_is_read(serve: Serve) -> None:
    site = serve(RequestLimit(Echo(), TEN))
    client = site.connect()
    client.send(get("/", "Content-Length: 11", "Expect: 100-continue", method="POST"))
    if site.native:  # a stock Site asks for the body first
        assert client.response().code == 413
        assert client.closing


def test_a_chunked_body_that_turns_out_larger_is_a_413(serve: Serve) -> None:
    inside = Echo()
    client = serve(RequestLimit(inside, TEN)).connect()
    client.send(chunked(b"12345", b"67890", b"1"))
    assert client.response().code == 413
    assert inside.requests == []


def test_a_chunked_body_reaches_who_takes_it_while_it_comes(serve: Serve) -> None:
    site, inside = None, Takes()
    site = serve(RequestLimit(inside, TEN))
    client = site.connect()
    request = chunked(b"12345", b"678", trailer=b"X-Sum: 8\r\n")
    begin, end = request[:-24], request[-24:]
    client.send(begin)
    if site.native:
        assert inside.taken == [b"12345"]
    client.send(end)
    (response,) = client.responses()
    assert response.body.startswith(b"12345678")
    if site.native:
        assert b"X-Sum" in response.body


def test_who_takes_a_body_that_turns_out_larger_hears_that_it_is_lost(serve: Serve) -> None:
    site, inside = None, Takes()
    site = serve(RequestLimit(inside, TEN))
    client = site.connect()
    client.send(chunked(b"12345", b"67890", b"1", b"2"))
    assert client.response().code == 413
    if site.native:
        assert [type(reason).__name__ for reason in inside.lost] == ["TooLarge"]
        assert sum(map(len, inside.taken)) <= 10
        assert client.closing


def test_a_response_that_has_begun_is_cut_when_its_request_turns_out_larger(
    serve: Serve,
) -> None:
    class Early(Takes):
        def render(self, request: Any) -> int:
            request.write(b"early")
            return super().render(request)

    site = serve(RequestLimit(Early(), TEN))
    client = site.connect()
    client.send(chunked(b"12345", b"678901"))
    if site.native:
        assert client.cut
        assert not client.response().complete
    else:
        assert client.response().code == 413


def test_a_client_that_leaves_is_heard_of_by_who_takes_the_body(serve: Serve) -> None:
    site, inside = None, Takes()
    site = serve(RequestLimit(inside, TEN))
    client = site.connect()
    client.send(chunked(b"12345", b"6789")[:-8])
    client.leave()
    assert len(inside.lost) == (1 if site.native else 0)


def test_back_pressure_reaches_the_client(serve: Serve) -> None:
    site, inside = None, Takes()
    site = serve(RequestLimit(inside, Options(max_body=100)))
    if not site.native:
        return  # it has the whole body before the first resource is asked
    client = site.connect()
    client.send(chunked(b"12345")[:-5])
    inside.request.body.pause()
    client.send(b"3\r\nabc\r\n")
    assert inside.taken == [b"12345"]
    assert client.transport.producerState == "paused"
    inside.request.body.resume()
    assert inside.taken == [b"12345", b"abc"]
    assert client.transport.producerState == "producing"
