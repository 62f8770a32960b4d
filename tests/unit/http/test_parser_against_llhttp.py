"""What our parser accepts, llhttp (by way of httptools) accepts too, and reads it the same.

A request that two parsers read in two ways is how one is smuggled past a proxy. The corpus is made
from requests that stress the grammar, mutated with a fixed seed; each test says how many of them
were accepted, lest it become a test of nothing. Where the two may differ:

- llhttp knows a list of methods; ours takes any token. The corpus sticks to methods that both know.
- Octets over 0x7F in a target are refused by llhttp; ours passes on what curl sends for a path as
  it was typed. llhttp gets an ``x`` in their place.
- An absolute target is given by llhttp as it came; ours is in origin form, its host in Host.
- Hop-by-hop fields, and those that Connection names, are gone from our headers.
- Expect is gone from our headers: the proxy answers it.
- White space in a chunk's extensions is RFC 9112's "bad white space", to be parsed and removed;
  llhttp refuses it. Trailers that frame a message are dropped by ours and refused by llhttp. The
  chunked bodies that have either are left out.
- An interim (1xx) response has no body whatever its headers say; for llhttp some do. Only its
  status is compared.
- Ours is stricter in many ways; that is no difference that this test is about.
"""

from __future__ import annotations

import random
import re

import httptools
import pytest

from kproxy.http.chunked import BadChunk, ChunkedDecoder
from kproxy.http.heads import (
    _NEVER_NOMINATED,
    CHUNKED,
    HOP_BY_HOP,
    UNTIL_CLOSE,
    BadHead,
    HeadParser,
)

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: a.example\r\n",
    b"GET /a/b?c=d&e=%20;f#g HTTP/1.1\r\nHost: a.example:8080\r\nX-Y: z\r\nx-y:  z2 \r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    b"PUT /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 0\r\n",
    b"DELETE http://b.example/x?y HTTP/1.1\r\nHost: a\r\nConnection: close, X-Z\r\nX-Z: 1\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nExpect: 100-continue\r\n",
    b"HEAD /\xc3\xa4 HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4\tb\r\nEmpty:\r\nCookie: a=b; c=d\r\n",
    b"PATCH /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
]
RESPONSE_SEEDS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y: z\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\nset-cookie: b\r\n",
    b"HTTP/1.0 404 Not Found\r\nConnection: close\r\nServer: x\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /a b\r\nContent-Length: 0\r\nConnection: keep-alive, X\r\n",
    b"HTTP/1.1 500 \r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
]
CHUNKED_SEEDS = [
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;x=y\r\nhello\r\nA;z\r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\n",
    b"00f\r\n0123456789abcde\r\n1\r\n\n\r\n000;last\r\n\r\n",
]
PIECES = [
    b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x7f", b"\x80", b"\xa0",
    b"Content-Length: 5\r\n", b"Content-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b" chunked", b", chunked", b"Host: b\r\n", b"\r\n X: y",
    b"X : y\r\n", b"0", b"00", b"+", b"-", b"0x", b"1", b"HTTP/1.1", b"HTTP/1.0", b"/", b"//", b"%",
    b"\\", b"*", b"@", b"Connection: Host\r\n", b"\r\n\r\n", b"G", b'"', b"(", b"f" * 20,
]  # fmt: skip
LEFT_OUT = re.compile(rb"[ \t];|;[^\r]*[ \t]|\n(content-length|transfer-encoding):", re.I)
ROUNDS = 12_000
ASCII = bytes([*range(128), *b"x" * 128])
"""A table for `bytes.translate`: octets over 0x7F become an x."""


def mutations(seeds: list[bytes], seed: int) -> list[bytes]:
    """Every seed as it is, and many with a few small changes."""
    chance = random.Random(seed)
    corpus = list(seeds)
    for _ in range(ROUNDS):
        text = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            position = chance.randrange(len(text) + 1)
            kind = chance.randrange(5)
            if kind == 0:
                text[position:position] = chance.choice(PIECES)
            elif kind == 1:
                del text[position : position + chance.choice((1, 1, 2, 5))]
            elif kind == 2:
                text[position : position + 1] = bytes([chance.randrange(256)])
            elif kind == 3:
                line_end = text.find(b"\r\n", position)
                text[line_end + 2 : line_end + 2] = chance.choice(PIECES)
            else:
                other = chance.choice(seeds)
                cut = chance.randrange(len(other))
                text[position:] = other[cut:]
        corpus.append(bytes(text))
    return corpus


class Seen:
    """What llhttp makes of a message."""

    def __init__(self) -> None:
        self.target = b""
        self.status = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.heads = 0
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_status(self, status: bytes) -> None:
        self.status += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.heads:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def end_to_end(headers: list[tuple[bytes, bytes]], *, request: bool) -> list[tuple[bytes, bytes]]:
    """Those of the headers that a proxy passes on, sorted by name, repeated ones in their order."""
    named = b",".join(v for n, v in headers if n.lower() == b"connection").lower()
    gone = {option.strip(b" \t") for option in named.split(b",")} - _NEVER_NOMINATED
    gone |= HOP_BY_HOP | {b"connection"} | ({b"expect"} if request else set())
    kept = [(n.lower(), v.strip(b" \t")) for n, v in headers if n.lower() not in gone]
    return sorted(kept, key=lambda pair: pair[0])


def ours(fields: dict[bytes, tuple[bytes, ...]]) -> list[tuple[bytes, bytes]]:
    pairs = [(name, value) for name, field in fields.items() for value in field[1:]]
    return sorted(pairs, key=lambda pair: pair[0])


def test_a_request_that_is_accepted_is_read_as_llhttp_reads_it() -> None:
    accepted = 0
    parser = HeadParser()
    for text in mutations(SEEDS, 1):
        end = text.find(b"\r\n\r\n")
        head_text = text[:end] if end >= 0 else text.removesuffix(b"\r\n")
        try:
            head = parser.request(head_text)
        except BadHead:
            continue
        if head.method not in (b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH"):
            continue
        accepted += 1
        seen = Seen()
        llhttp = httptools.HttpRequestParser(seen)
        line, separator, lines = head_text.partition(b"\r\n")
        plain_text = line.translate(ASCII) + separator + lines
        try:
            llhttp.feed_data(plain_text + b"\r\n\r\n")
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            pytest.fail(f"llhttp refuses {head_text!r}: {error}")
        assert seen.heads == 1, head_text
        assert llhttp.get_method() == head.method, head_text
        assert b"HTTP/" + llhttp.get_http_version().encode() == head.version, head_text
        expected = end_to_end(seen.headers, request=True)
        target = head.target.translate(ASCII)
        if seen.target.startswith((b"/", b"*")):
            assert seen.target == target, head_text
        else:
            assert seen.target.endswith(target.lstrip(b"/*")), head_text
            assert seen.target.lower().split(b"//", 1)[1].startswith(head.host.lower()), head_text
            expected = [pair for pair in expected if pair[0] != b"host"]
            expected = sorted([*expected, (b"host", head.host)], key=lambda pair: pair[0])
        assert ours(head.headers.fields) == expected, head_text
        # Without a body, the message is over for both, and with one for neither.
        assert seen.complete == (head.length == 0), head_text
    assert accepted > ROUNDS // 10


def test_a_response_that_is_accepted_is_read_as_llhttp_reads_it() -> None:
    accepted = 0
    parser = HeadParser()
    for text in mutations(RESPONSE_SEEDS, 2):
        end = text.find(b"\r\n\r\n")
        head_text = text[:end] if end >= 0 else text.removesuffix(b"\r\n")
        try:
            head = parser.response(head_text, b"GET")
        except BadHead:
            continue
        accepted += 1
        seen = Seen()
        llhttp = httptools.HttpResponseParser(seen)
        try:
            llhttp.feed_data(head_text + b"\r\n\r\n")
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            pytest.fail(f"llhttp refuses {head_text!r}: {error}")
        assert seen.heads == 1, head_text
        assert llhttp.get_status_code() == head.code, head_text
        if head.code < 200:
            assert head.length == 0
            continue
        assert seen.status == head.reason, head_text
        assert ours(head.headers.fields) == end_to_end(seen.headers, request=False), head_text
        assert seen.complete == (head.length == 0), head_text
        if head.length == UNTIL_CLOSE:
            llhttp.feed_data(b"x" * 100)
            assert not seen.complete
    assert accepted > ROUNDS // 5


def test_a_chunked_body_that_is_accepted_is_read_as_llhttp_reads_it() -> None:
    accepted = 0
    for text in mutations(CHUNKED_SEEDS, 3):
        decoder = ChunkedDecoder()
        try:
            body = b"".join(decoder.feed(text))
        except BadChunk:
            continue
        used = text[: len(text) - len(decoder.unused)]
        if not decoder.finished or LEFT_OUT.search(used):
            continue
        accepted += 1
        seen = Seen()
        llhttp = httptools.HttpRequestParser(seen)
        llhttp.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            llhttp.feed_data(used)
        except httptools.HttpParserError as error:
            pytest.fail(f"llhttp refuses {used!r}: {error}")
        assert seen.complete, used
        assert seen.body == body, used
    assert accepted > ROUNDS // 10


def test_the_oracle_itself_sees_a_chunked_request_as_not_over() -> None:
    seen = Seen()
    httptools.HttpRequestParser(seen).feed_data(SEEDS[3] + b"\r\n")
    assert seen.heads == 1
    assert not seen.complete
    assert HeadParser().request(SEEDS[3].removesuffix(b"\r\n")).length == CHUNKED
