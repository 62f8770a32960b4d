"""What is a response's head, and what is not one: as strict as for requests."""

from __future__ import annotations

import pytest

from kproxy.http.heads import CHUNKED, UNTIL_CLOSE, BadHead, HeadParser, ResponseHead


def read(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET") -> ResponseHead:
    return HeadParser().response(b"\r\n".join([start, *lines]), method)


def is_refused(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> bool:
    for method in (b"GET", b"HEAD"):
        with pytest.raises(BadHead):
            read(*lines, start=start, method=method)
    return True


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length: -1"],
        [b"Content-Length: +1"],
        [b"Content-Length:"],
        [b"Content-Length: " + b"9" * 19],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked, identity"],
    ],
)
@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.1 304 Same"])
def test_framing_that_can_be_read_in_two_ways_is_refused(start: bytes, lines: list[bytes]) -> None:
    assert is_refused(*lines, start=start)


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    assert is_refused(b"Transfer-Encoding: chunked", start=b"HTTP/1.0 200 OK")


@pytest.mark.parametrize(
    "line",
    [
        b"X : y",
        b" X: y",
        b"X: a\nY: b",
        b"X: a\rb",
        b"X: a\0b",
        b"X: a\x01b",
        b"X: a\x7fb",
        b"X(: y",
        b": y",
        b"X",
        b"",
        b" folded",
    ],
)
def test_a_line_that_is_no_header_is_refused(line: bytes) -> None:
    assert is_refused(b"A: b", line)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"200 OK",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 600 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/2 200",
        b"HTTP/0.9 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b"SSH-2.0-OpenSSH_9.6",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 O\nK",
        b"HTTP/1.1 200 O\0K",
        b"HTTP/1.1 200 O\x1bK",
        b"HTTP/1.1 200 O\x7fK",
    ],
)
def test_a_status_line_that_is_not_one_is_refused(start: bytes) -> None:
    assert is_refused(start=start)


@pytest.mark.parametrize(
    ("start", "code", "reason"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK"),
        (b"HTTP/1.0 404 Not There", 404, b"Not There"),
        (b"HTTP/1.1 299 ", 299, b""),
        (b"HTTP/1.1 299", 299, b""),
        ("HTTP/1.1 500 Ärger\tmit".encode("latin-1"), 500, "Ärger\tmit".encode("latin-1")),
    ],
)
def test_a_status_line_says_code_and_reason(start: bytes, code: int, reason: bytes) -> None:
    parser = HeadParser()
    for _ in range(2):
        head = parser.response(start, b"GET")
        assert (head.code, head.reason) == (code, reason)


@pytest.mark.parametrize(
    ("method", "start", "lines", "length"),
    [
        (b"GET", b"HTTP/1.1 200 OK", [b"Content-Length: 5"], 5),
        (b"GET", b"HTTP/1.1 200 OK", [b"Transfer-Encoding: Chunked"], CHUNKED),
        (b"GET", b"HTTP/1.1 200 OK", [], UNTIL_CLOSE),
        (b"GET", b"HTTP/1.0 200 OK", [b"Connection: keep-alive"], UNTIL_CLOSE),
        (b"HEAD", b"HTTP/1.1 200 OK", [b"Content-Length: 5"], 0),
        (b"HEAD", b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked"], 0),
        (b"HEAD", b"HTTP/1.1 200 OK", [], 0),
        (b"GET", b"HTTP/1.1 204 No Content", [b"Content-Length: 5"], 0),
        (b"GET", b"HTTP/1.1 204 No Content", [b"Transfer-Encoding: chunked"], 0),
        (b"GET", b"HTTP/1.1 304 Not Modified", [b"Content-Length: 5"], 0),
        (b"GET", b"HTTP/1.1 103 Early Hints", [], 0),
        (b"GET", b"HTTP/1.1 101 Switching", [b"Connection: upgrade", b"Upgrade: x"], 0),
        (b"POST", b"HTTP/1.1 500 No", [b"Content-Length: 0"], 0),
    ],
)
def test_where_a_response_ends(
    method: bytes, start: bytes, lines: list[bytes], length: int
) -> None:
    assert read(*lines, start=start, method=method).length == length


@pytest.mark.parametrize(
    ("start", "lines", "keeps"),
    [
        (b"HTTP/1.1 200 OK", [], True),
        (b"HTTP/1.1 200 OK", [b"Connection: close"], False),
        (b"HTTP/1.1 200 OK", [b"Connection: Keep-Alive, Close"], False),
        (b"HTTP/1.0 200 OK", [], False),
        (b"HTTP/1.0 200 OK", [b"Connection: keep-alive"], True),
    ],
)
def test_whether_the_connection_can_be_used_again(
    start: bytes, lines: list[bytes], keeps: bool
) -> None:
    assert read(*lines, start=start).keep_alive is keeps


def test_hop_by_hop_fields_and_those_that_connection_names_are_removed() -> None:
    head = read(
        b"Connection: close, X-Hop",
        b"Keep-Alive: timeout=5",
        b"Proxy-Authenticate: x",
        b"Trailer: x",
        b"X-Hop: 1",
        b"Transfer-Encoding: chunked",
        b"Set-Cookie: a=b",
        b"Set-Cookie: c=d",
    )
    assert head.headers.lines() == [b"Set-Cookie: a=b\r\nSet-Cookie: c=d"]


def test_an_upgrade_tells_the_protocol() -> None:
    head = read(b"Connection: upgrade", b"Upgrade: websocket", start=b"HTTP/1.1 101 Switching")
    assert head.upgrade == b"websocket"


def test_status_lines_that_are_remembered_are_bounded() -> None:
    parser = HeadParser()
    for i in range(3000):
        parser.response(b"HTTP/1.1 200 reason-%d" % i, b"GET")
    parser.response(b"HTTP/1.1 200 " + b"x" * 1000, b"GET")
    assert max(map(len, parser._statuses)) < 300
    assert len(parser._statuses) <= 2048


def test_an_interim_response_says_nothing_of_a_length() -> None:
    """It has no body; a client that believed the length would take the next response for one."""
    head = read(b"Content-Length: 5", b"Link: x", start=b"HTTP/1.1 103 Early Hints")
    assert head.headers.lines() == [b"Link: x"]
