"""What a TLS client says first, and what is no lawful beginning."""

from __future__ import annotations

import itertools
import random

import pytest

from kproxy.tls.alerts import (
    DECODE_ERROR,
    ILLEGAL_PARAMETER,
    PROTOCOL_VERSION,
    RECORD_OVERFLOW,
    UNEXPECTED_MESSAGE,
    TLSAlert,
)
from kproxy.tls.clienthello import MOST, ClientHello, PlainHTTP, read_client_hello
from tests.unit.tls.support import TLSClient, client_context

REAL = TLSClient("www.Example.COM", client_context(alpn=["h2", "http/1.1"])).hello()


def vector(width: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return len(content).to_bytes(width, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, content)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes([kind]), vector(2, name)))


def alpn(*protocols: bytes) -> bytes:
    return extension(16, vector(2, *(vector(1, each) for each in protocols)))


def message(*extensions: bytes, after: bytes = b"", kind: int = 1) -> bytes:
    """A handshake message, by default a ClientHello."""
    body = b"\x03\x03" + bytes(32) + vector(1) + vector(2, b"\x13\x01") + vector(1, b"\x00")
    if extensions:
        body += vector(2, *extensions)
    return bytes([kind]) + vector(3, body, after)


def records(data: bytes, size: int = 2**14) -> bytes:
    """The message in records of at most `size` bytes."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


def alert_for(data: bytes) -> int:
    with pytest.raises(TLSAlert) as caught:
        read_client_hello(data)
    return caught.value.code


def test_a_real_client_is_understood() -> None:
    assert read_client_hello(REAL) == ClientHello("www.example.com", (b"h2", b"http/1.1"))


def test_a_client_that_names_no_host_and_no_protocol_is_understood() -> None:
    assert read_client_hello(TLSClient(None).hello()) == ClientHello("", ())
    assert read_client_hello(records(message())) == ClientHello("", ())


def test_what_follows_the_hello_is_not_looked_at() -> None:
    assert read_client_hello(REAL + b"\xff" * 100) == read_client_hello(REAL)


def test_every_beginning_is_incomplete_and_never_asks_for_too_much() -> None:
    for cut in range(len(REAL)):
        needed = read_client_hello(REAL[:cut])
        assert isinstance(needed, int)
        assert cut < needed <= len(REAL)


def test_a_hello_in_two_wakeups_is_read_at_the_second() -> None:
    header = read_client_hello(b"")
    assert header == 5
    assert read_client_hello(REAL[:5]) == len(REAL)


@pytest.mark.parametrize("size", [16, 100, 200])
def test_a_hello_may_come_in_many_records(size: int) -> None:
    data = records(REAL[5:], size)
    assert read_client_hello(data) == read_client_hello(REAL)
    for cut in range(len(data)):
        needed = read_client_hello(data[:cut])
        assert isinstance(needed, int)
        assert cut < needed <= len(data)


def test_a_hello_in_very_many_records_is_refused() -> None:
    assert alert_for(records(message(extension(21, bytes(8000))), 1)) == DECODE_ERROR


def test_a_changed_byte_leads_to_a_value_or_an_alert_and_to_nothing_else() -> None:
    chosen = random.Random(1)
    for position in range(len(REAL)):
        for changed in {0, 255, REAL[position] ^ 1, chosen.randrange(256)}:
            data = REAL[:position] + bytes([changed]) + REAL[position + 1 :]
            try:
                result = read_client_hello(data)
            except (TLSAlert, PlainHTTP):
                continue
            if isinstance(result, int):
                assert len(data) < result <= MOST + 2**14 + 5


def test_a_hello_with_any_piece_missing_leads_to_a_value_or_an_alert() -> None:
    body = REAL[9:]
    for cut in range(len(body)):
        try:
            result = read_client_hello(records(b"\x01" + vector(3, body[:cut])))
            # Cut off right before the extensions, of which it has none then.
            assert result == ClientHello()
        except TLSAlert as alert:
            assert alert.code == DECODE_ERROR  # noqa: PT017 - there need not be one


def test_noise_leads_to_a_value_or_an_alert() -> None:
    chosen = random.Random(2)
    for _ in range(2000):
        noise = b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c" + chosen.randbytes(60)
        with pytest.raises(TLSAlert):
            read_client_hello(noise)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x28", UNEXPECTED_MESSAGE),
        (b"\x80\x2e\x01\x03\x01", UNEXPECTED_MESSAGE),  # SSL 2
        (b"\x00", UNEXPECTED_MESSAGE),
        (b"get / ", UNEXPECTED_MESSAGE),
        (b"\x16\x02\x00\x00\x10", PROTOCOL_VERSION),
        (b"\x16\x03\x01\x40\x01", RECORD_OVERFLOW),
        (b"\x16\x03\x01\x00\x00", UNEXPECTED_MESSAGE),
        (records(message(kind=2)), UNEXPECTED_MESSAGE),
        (b"\x16\x03\x01\x00\x04\x01\x00\x40\x00", ILLEGAL_PARAMETER),
        (records(REAL[5:40]) + b"\x17", UNEXPECTED_MESSAGE),
        (records(REAL[5:40]) + b"GET", UNEXPECTED_MESSAGE),
        (records(message(alpn(b"h2"), after=b"\x00")), DECODE_ERROR),
    ],
    ids=itertools.count(),  # some are random, and a test is known by the same name in every process
)
def test_what_can_not_become_a_hello_is_refused_at_once(data: bytes, code: int) -> None:
    assert alert_for(data) == code


@pytest.mark.parametrize("method", [b"GET / HTTP/1.1\r\n", b"POST", b"P", b"OPTIONS *"])
def test_plain_http_is_told_apart(method: bytes) -> None:
    with pytest.raises(PlainHTTP):
        read_client_hello(method)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (b"a.example", "a.example"),
        (b"A.Example.", "a.example"),
        (b"localhost", "localhost"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"under_score.example", "under_score.example"),
        (b"192.0.2.1", ""),
        (b"2001:db8::1", ""),
    ],
)
def test_names_are_compared_in_one_form_and_addresses_are_no_names(name: bytes, read: str) -> None:
    assert read_client_hello(records(message(server_name(name)))) == ClientHello(read)


@pytest.mark.parametrize(
    "name",
    [
        b".",
        b"..",
        b"a..b",
        b".a",
        b"a b",
        b"a\x00.example",
        b"a\n",
        b"\xc3\xa4",
        b"*.a",
        b"a" * 300,
    ],
)
def test_what_is_no_host_name_is_refused(name: bytes) -> None:
    assert alert_for(records(message(server_name(name)))) == ILLEGAL_PARAMETER


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (server_name(b"a.example") * 2, ILLEGAL_PARAMETER),
        (alpn(b"h2") * 2, ILLEGAL_PARAMETER),
        (server_name(b"a.example", kind=1), DECODE_ERROR),
        (extension(0, b""), DECODE_ERROR),
        (extension(0, vector(2)), DECODE_ERROR),
        (
            extension(0, vector(2, b"\x00", vector(2, b"a"), b"\x00", vector(2, b"b"))),
            ILLEGAL_PARAMETER,
        ),
        (extension(0, vector(2, b"\x00", vector(2, b"a")) + b"x"), DECODE_ERROR),
        (extension(0, b"\x00\x09\x00\x00\x20a"), DECODE_ERROR),
        (server_name(b""), ILLEGAL_PARAMETER),
        (extension(16, b""), DECODE_ERROR),
        (extension(16, vector(2)), DECODE_ERROR),
        (alpn(b""), DECODE_ERROR),
        (alpn(b"h2", b""), DECODE_ERROR),
        (extension(16, vector(2, vector(1, b"h2")) + b"x"), DECODE_ERROR),
        (extension(16, vector(2, b"\x05h2")), DECODE_ERROR),
        (b"\x00\x10\x00", DECODE_ERROR),
        (b"\x00", DECODE_ERROR),
    ],
)
def test_malformed_extensions_are_refused(content: bytes, code: int) -> None:
    assert alert_for(records(message(content))) == code


def test_an_alert_is_a_record_that_says_fatal() -> None:
    assert TLSAlert(112, "").record() == b"\x15\x03\x03\x00\x02\x02\x70"
