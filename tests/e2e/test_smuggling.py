"""What two parsers could read in two ways is refused, and never forwarded."""

from __future__ import annotations

import pytest

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target
from tests.e2e.support.wire import request_text

HOST = "Host: app.example\r\n"
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: app.example\r\n\r\n"


@pytest.fixture(scope="module")
def target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture(scope="module")
def running(module_stage: Stage, target: Target) -> Proxy:
    return module_stage.app(target)


@pytest.fixture(scope="module")
def streaming_target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture
def proxy(running: Proxy, target: Target) -> Proxy:
    target.forget()
    return running


def post(headers: str, body: str = "", version: str = "HTTP/1.1") -> str:
    return f"POST / {version}\r\n{HOST}{headers}\r\n{body}"


CL, TE = "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"
CHUNKS = "0\r\n\r\n"

REFUSED = {
    "length and chunked": post(CL + TE, CHUNKS),
    "chunked and length": post(TE + CL, CHUNKS),
    "chunked and no length": post(TE + "Content-Length: 0\r\n", CHUNKS),
    "two lengths": post(CL + "Content-Length: 6\r\n", "123456"),
    "two lengths in one": post("Content-Length: 5, 6\r\n", "123456"),
    "the same length twice": post(CL + CL, "12345"),
    "a length with a plus": post("Content-Length: +5\r\n", "12345"),
    "a negative length": post("Content-Length: -5\r\n", "12345"),
    "a hexadecimal length": post("Content-Length: 0x5\r\n", "12345"),
    "an empty length": post("Content-Length:\r\n"),
    "a length in two words": post("Content-Length: 5 5\r\n", "12345"),
    "a length with an underscore": post("Content-Length: 1_0\r\n", "1234567890"),
    "a length of other digits": post("Content-Length: \xb2\r\n", "12"),
    "a length beyond all numbers": post(f"Content-Length: {'9' * 30}\r\n"),
    "chunked is not last": post("Transfer-Encoding: chunked, gzip\r\n", CHUNKS),
    "chunked twice": post("Transfer-Encoding: chunked, chunked\r\n", CHUNKS),
    "chunked twice in two": post(TE + TE, CHUNKS),
    "a coding that is not chunked": post("Transfer-Encoding: identity\r\n", CHUNKS),
    "nearly chunked": post("Transfer-Encoding: xchunked\r\n", CHUNKS),
    "chunked with a parameter": post("Transfer-Encoding: chunked;q=1\r\n", CHUNKS),
    "chunked in quotes": post('Transfer-Encoding: "chunked"\r\n', CHUNKS),
    "chunked after a vertical tab": post("Transfer-Encoding: \x0bchunked\r\n", CHUNKS),
    "an empty coding": post("Transfer-Encoding:\r\n", CHUNKS),
    "chunked and a comma": post("Transfer-Encoding: chunked,\r\n", CHUNKS),
    "chunked in HTTP/1.0": post(TE, CHUNKS, "HTTP/1.0"),
    "space before the colon": post("Transfer-Encoding : chunked\r\n", CHUNKS),
    "tab before the colon": post("Transfer-Encoding\t: chunked\r\n", CHUNKS),
    "space before a name": f"GET / HTTP/1.1\r\n {HOST}\r\n",
    "folding": post("X: a\r\n b\r\n"),
    "folding with a tab": post("Transfer-Encoding:\r\n\tchunked\r\n", CHUNKS),
    "a NUL in a header": post("X: a\0b\r\n"),
    "an escape in a header": post("X: a\x1bb\r\n"),
    "DEL in a header": post("X: a\x7fb\r\n"),
    "a bare CR in a header": post("X: a\rTransfer-Encoding: chunked\r\n", CHUNKS),
    "a bare LF in a header": post("X: a\nTransfer-Encoding: chunked\r\n", CHUNKS),
    "a bare LF at the end of a line": f"GET / HTTP/1.1\n{HOST}\r\n",
    "bare LFs only": "GET / HTTP/1.1\nHost: app.example\n\n",
    "a bare CR at the end of a line": "GET / HTTP/1.1\rHost: app.example\r\r\n\r\n",
    "a name that is no token": post("X(Y): 1\r\n"),
    "a name of other letters": post("X\xe9: 1\r\n"),
    "no name": post(": 1\r\n"),
    "no colon": post("nonsense\r\n"),
    "no Host": "GET / HTTP/1.1\r\nX: 1\r\n\r\n",
    "two Hosts": f"GET / HTTP/1.1\r\n{HOST}Host: other.example\r\n\r\n",
    "the same Host twice": f"GET / HTTP/1.1\r\n{HOST}{HOST}\r\n",
    "an empty Host": "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "a Host with a path": "GET / HTTP/1.1\r\nHost: app.example/x\r\n\r\n",
    "a Host with a user": "GET / HTTP/1.1\r\nHost: x@app.example\r\n\r\n",
    "a Host with a space": "GET / HTTP/1.1\r\nHost: app.example x\r\n\r\n",
    "a Host with a bad port": "GET / HTTP/1.1\r\nHost: app.example:x\r\n\r\n",
    "two spaces": f"GET  / HTTP/1.1\r\n{HOST}\r\n",
    "a space at the end": f"GET / HTTP/1.1 \r\n{HOST}\r\n",
    "a space at the beginning": f" GET / HTTP/1.1\r\n{HOST}\r\n",
    "tabs": f"GET\t/\tHTTP/1.1\r\n{HOST}\r\n",
    "a space in the path": f"GET /a b HTTP/1.1\r\n{HOST}\r\n",
    "a fragment": f"GET /a#b HTTP/1.1\r\n{HOST}\r\n",
    "a control in the path": f"GET /\x01 HTTP/1.1\r\n{HOST}\r\n",
    "a NUL in the path": f"GET /\0 HTTP/1.1\r\n{HOST}\r\n",
    "no path": f"GET HTTP/1.1\r\n{HOST}\r\n",
    "a path without a slash": f"GET x HTTP/1.1\r\n{HOST}\r\n",
    "an asterisk for GET": f"GET * HTTP/1.1\r\n{HOST}\r\n",
    "another scheme": f"GET ftp://app.example/ HTTP/1.1\r\n{HOST}\r\n",
    "a URL with a user": f"GET http://u@app.example/ HTTP/1.1\r\n{HOST}\r\n",
    "no version": f"GET /\r\n{HOST}\r\n",
    "a version in lower case": f"GET / http/1.1\r\n{HOST}\r\n",
    "a long version": f"GET / HTTP/1.10\r\n{HOST}\r\n",
    "a method that is no token": f"G(T / HTTP/1.1\r\n{HOST}\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "nonsense": "\r\n\r\n\r\nnonsense\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_ambiguous_request_is_refused_and_the_target_sees_nothing_of_it(
    proxy: Proxy, target: Target, name: str
) -> None:
    response = proxy.refuse((REFUSED[name] + SMUGGLED).encode("latin-1"))
    assert response.status == 400
    assert response.get("connection") == "close"
    assert target.seen == b""


BAD_CHUNKS = {
    "no size": "\r\nabc\r\n0\r\n\r\n",
    "a size that is no number": "x\r\nabc\r\n0\r\n\r\n",
    "a size with 0x": "0x3\r\nabc\r\n0\r\n\r\n",
    "a size with a plus": "+3\r\nabc\r\n0\r\n\r\n",
    "a negative size": "-3\r\nabc\r\n0\r\n\r\n",
    "a size with an underscore": "1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "a size beyond all numbers": "f" * 40 + "\r\nabc\r\n0\r\n\r\n",
    "a space before the size": " 3\r\nabc\r\n0\r\n\r\n",
    "a chunk that is longer than its size": "3\r\nabcdef\r\n0\r\n\r\n",
    "a chunk without an end": "3\r\nabc0\r\n\r\n",
    "a bare LF after the size": "3\nabc\r\n0\r\n\r\n",
    "a bare LF after the chunk": "3\r\nabc\n0\r\n\r\n",
    "a bare CR after the size": "3\rabc\r\n0\r\n\r\n",
    "a bare LF in an extension": "3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a bare CR in an extension": "3;a\rb\r\nabc\r\n0\r\n\r\n",
    "a NUL in an extension": "3;a\0b\r\nabc\r\n0\r\n\r\n",
    "a trailer that is no field": "0\r\nnonsense\r\n\r\n",
    "a trailer with space before the colon": "0\r\nX : 1\r\n\r\n",
    "a trailer that folds": "0\r\nX: 1\r\n 2\r\n\r\n",
    "a bare LF in a trailer": "0\r\nX: 1\nY: 2\r\n\r\n",
    "an endless line": "3;" + "x" * 100_000,
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a_body_whose_chunks_are_broken_is_refused_and_nothing_behind_it_is_read(
    proxy: Proxy, target: Target, name: str
) -> None:
    data = post(TE, BAD_CHUNKS[name]) + SMUGGLED
    response = proxy.refuse(data.encode("latin-1"))
    assert response.status == 400
    assert response.get("connection") == "close"
    assert target.seen == b""


def test_broken_chunks_cut_an_upload_that_was_being_streamed(stage: Stage) -> None:
    target = stage.target()
    proxy = stage.app(target, buffering={"requests": False})
    assert proxy.refuse((post(TE, "3\r\nabcdef\r\n0\r\n\r\n") + SMUGGLED).encode()).status == 400
    assert "/smuggled" not in target.seen.decode()
    assert proxy.get().status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Expect: a-miracle\r\n", 417),
    ],
)
def test_what_is_well_formed_but_not_served_is_refused_with_its_own_status(
    proxy: Proxy, target: Target, headers: str, status: int
) -> None:
    assert proxy.refuse((post(headers, CHUNKS) + SMUGGLED).encode()).status == status
    assert target.seen == b""


def test_another_major_version_is_refused_with_its_own_status(proxy: Proxy, target: Target) -> None:
    assert proxy.refuse(f"GET / HTTP/2.0\r\n{HOST}\r\n".encode()).status == 505
    assert target.seen == b""


def test_the_body_of_a_get_request_is_not_taken_for_the_next_request(
    proxy: Proxy, target: Target
) -> None:
    with proxy.connect() as wire:
        wire.send(request_text("GET", "/first", body=SMUGGLED.encode()))
        assert wire.read_response().status == 200
        wire.send(request_text("GET", "/second"))
        assert wire.read_response().status == 200
    assert [request.target for request in target.requests] == ["/first", "/second"]


def test_a_content_length_in_upper_case_is_the_same_field(proxy: Proxy, target: Target) -> None:
    data = post("CONTENT-LENGTH: 5\r\ncontent-length: 50\r\n", "12345") + SMUGGLED
    assert proxy.refuse(data.encode()).status == 400
    assert target.seen == b""


def test_what_a_good_request_says_is_framed_afresh(proxy: Proxy, target: Target) -> None:
    with proxy.connect() as wire:
        wire.send(
            post(
                "transfer-ENCODING:\t CHUNKED \r\nX:   spaced \t\r\n",
                "003;a=b\r\nabc\r\n00\r\n\r\n",
            )
        )
        assert wire.read_response().status == 200
    (request,) = target.requests
    assert b"\r\nX: spaced\r\n" in request.raw
    assert b"\r\nContent-Length: 3\r\n" in request.raw
    assert b"chunked" not in request.raw.lower()


ANSWERS = {
    "length and chunked": f"HTTP/1.1 200 OK\r\n{CL}{TE}\r\n0\r\n\r\n",
    "two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length that is no number": "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    "another coding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "bare LFs": "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "folding": "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before a colon": "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
    "a NUL": "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n",
    "a bare CR": "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
    "no status": "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
    "a long status": "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "another protocol": "SSH-2.0-OpenSSH\r\n\r\n",
    "another version": "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "headers without an end": "HTTP/1.1 200 OK\r\n" + "X: 1\r\n" * 20_000,
    "101 that nobody asked for": "HTTP/1.1 101 Yes\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_none_is_502(proxy: Proxy, target: Target, name: str) -> None:
    target.script = lambda wire, request: wire.send(ANSWERS[name].encode("latin-1"))
    response = proxy.get()
    assert response.status == 502
    target.forget()
    assert proxy.get().status == 200, "the next request is not touched by it"


def test_what_a_target_says_behind_its_answer_reaches_nobody(proxy: Proxy, target: Target) -> None:
    target.script = lambda wire, request: wire.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    )
    with proxy.connect() as wire:
        wire.send(request_text())
        assert wire.read_response().body == b"a"
        target.forget()
        wire.send(request_text())
        assert wire.read_response().body != b"poison"
