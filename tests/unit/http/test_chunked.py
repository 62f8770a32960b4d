"""The chunked coding (RFC 9112 section 7.1), read strictly and written plainly."""

from __future__ import annotations

import pytest

from kproxy.http.chunked import (
    MAX_EXTENSIONS,
    MAX_LINE,
    MAX_TRAILERS,
    BadChunk,
    ChunkedDecoder,
    encode_chunk,
    encode_last_chunk,
)
from tests.unit.http.memory import splits


def decode(*pieces: bytes) -> tuple[bytes, ChunkedDecoder]:
    decoder = ChunkedDecoder()
    data = b"".join(part for piece in pieces for part in decoder.feed(piece))
    return data, decoder


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def is_refused(coded: bytes) -> bool:
    """All at once, and byte by byte."""
    with pytest.raises(BadChunk) as caught:
        decode(coded)
    assert str(caught.value)
    with pytest.raises(BadChunk):
        decode(*bytewise(coded))
    return True


WHOLE = b"5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\nX-A: 1\r\nX-B:\r\n\r\n"


def test_a_body_is_its_chunks_put_together() -> None:
    data, decoder = decode(WHOLE)
    assert data == b"hello world"
    assert decoder.finished
    assert decoder.trailers == [(b"X-A", b"1"), (b"X-B", b"")]
    assert decoder.unused == b""


def test_it_does_not_matter_how_a_body_is_cut_into_pieces() -> None:
    expected = decode(WHOLE)[1].trailers
    for pieces in [*splits(WHOLE), bytewise(WHOLE)]:
        data, decoder = decode(*pieces)
        assert data == b"hello world"
        assert decoder.finished
        assert decoder.trailers == expected


def test_data_is_given_as_soon_as_it_has_come() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"5\r\nhe") == [b"he"]
    assert decoder.feed(b"l") == [b"l"]
    assert decoder.feed(b"lo") == [b"lo"]
    assert decoder.feed(b"\r") == []
    assert decoder.feed(b"\n1") == []
    assert decoder.feed(b"\r\n!") == [b"!"]


def test_what_follows_the_body_is_given_back_untouched() -> None:
    for first, second in splits(b"1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n"):
        decoder = ChunkedDecoder()
        decoder.feed(first)
        if decoder.finished:
            assert decoder.unused + second == b"GET / HTTP/1.1\r\n"
        else:
            decoder.feed(second)
            assert decoder.unused == b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (b"a", 10),
        (b"A", 10),
        (b"0a", 10),
        (b"00000000000000a", 10),
        (b"1f", 31),
        (b"a;x", 10),
        (b"a ;x", 10),
        (b"a\t; x = y", 10),
        (b'a;x="y;z"', 10),
        (b'a;x="\\"\x80";z;y=0', 10),
    ],
)
def test_a_size_is_hexadecimal_and_may_carry_extensions(size: bytes, length: int) -> None:
    body = b"x" * length
    assert decode(size + b"\r\n" + body + b"\r\n0\r\n\r\n")[0] == body


@pytest.mark.parametrize(
    "size",
    [
        b"",
        b" ",
        b" 5",
        b"5 ",
        b"5\t",
        b"+5",
        b"-5",
        b"-0",
        b"0x5",
        b"5h",
        b"5_0",
        b"5.0",
        b"g",
        b";x",
        b" ;x",
        b"5 5",
        b"5,5",
        b"\xd9\xa5",
        b"1" + b"0" * 15,
        b"f" * 16,
        b"f" * 300,
    ],
)
def test_a_size_that_is_not_a_hexadecimal_number_is_refused(size: bytes) -> None:
    assert is_refused(size + b"\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize("octet", [octet for octet in [*range(32), 127] if octet != 9])
def test_a_control_character_in_an_extension_is_refused(octet: int) -> None:
    assert is_refused(b"5;x" + bytes([octet]) + b"y\r\nhello\r\n0\r\n\r\n")
    assert is_refused(b"0;x" + bytes([octet]) + b"\r\n\r\n")


@pytest.mark.parametrize(
    "extension",
    [b";", b";;x", b";x;", b";x=", b";=y", b";x y", b";x\x80", b';x="y', b';x="y"z', b";("],
)
def test_an_extension_that_is_not_a_name_with_or_without_a_value_is_refused(
    extension: bytes,
) -> None:
    assert is_refused(b"5" + extension + b"\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "end", [b"", b"\n", b"\r", b"\rx", b"x", b"xx", b"\n\r", b"\0\0", b" \r\n", b"0\r\n"]
)
def test_a_chunk_that_does_not_end_in_crlf_is_refused(end: bytes) -> None:
    assert is_refused(b"5\r\nhello" + end + b"0\r\n\r\n")


@pytest.mark.parametrize(
    "coded",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\r\nhello\r\n0\r\nX: y\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\n\n",
        b"\r\n5\r\nhello\r\n0\r\n\r\n",
        b"\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_bare_line_feed_or_an_empty_line_is_refused(coded: bytes) -> None:
    assert is_refused(coded)


@pytest.mark.parametrize(
    "trailer",
    [b"X : y", b" X: y", b"X", b": y", b"X: a\0b", b"X: a\x7fb", b"X: a\rb", b"X\x80: y", b"X(: y"],
)
def test_a_trailer_that_is_not_a_header_is_refused(trailer: bytes) -> None:
    assert is_refused(b"0\r\nA: b\r\n" + trailer + b"\r\n\r\n")


@pytest.mark.parametrize(
    "name",
    [
        b"Content-Length",
        b"transfer-encoding",
        b"Host",
        b"Connection",
        b"Keep-Alive",
        b"Trailer",
        b"TE",
        b"Upgrade",
        b"Proxy-Authorization",
    ],
)
def test_trailers_that_would_frame_or_route_are_dropped(name: bytes) -> None:
    """RFC 9110 section 6.5.1: such fields must not be sent as trailers."""
    coded = b"0\r\nA: b\r\n" + name + b": 1\r\nC: d\r\n\r\n"
    assert decode(coded)[1].trailers == [(b"A", b"b"), (b"C", b"d")]


def test_a_line_that_does_not_end_is_refused_before_it_fills_the_memory() -> None:
    assert decode(b"5;" + b"x" * (MAX_LINE - 2) + b"\r\n")[0] == b""
    assert is_refused(b"5;" + b"x" * (MAX_LINE + 1))
    assert is_refused(b"5;" + b"x" * MAX_LINE + b"\r\n")
    assert is_refused(b"0" * (MAX_LINE + 1))


def test_extensions_are_bounded_over_the_whole_body() -> None:
    decoder = ChunkedDecoder()
    chunk = b"1;" + b"x" * 1023 + b"\r\n.\r\n"
    most = MAX_EXTENSIONS // 1023
    for _ in range(most):
        decoder.feed(chunk)
    with pytest.raises(BadChunk):
        decoder.feed(chunk)


def test_trailers_are_bounded() -> None:
    assert len(decode(b"0\r\n" + b"X: y\r\n" * 100 + b"\r\n")[1].trailers) == 100
    assert is_refused(b"0\r\n" + b"X: y\r\n" * 101 + b"\r\n")
    assert is_refused(b"0\r\nX: " + b"y" * (MAX_TRAILERS + 1))
    assert is_refused(b"0\r\n" + (b"X: " + b"y" * 1000 + b"\r\n") * 9 + b"\r\n")


def test_dropped_trailers_are_bounded_too() -> None:
    assert is_refused(b"0\r\n" + b"Host: y\r\n" * 101 + b"\r\n")


def test_an_encoded_body_is_decoded_to_the_same() -> None:
    trailers = [(b"X-A", b"1"), (b"X-B", b"")]
    parts = [*encode_chunk(b"x" * 300), *encode_chunk(b"y"), encode_last_chunk(trailers)]
    data, decoder = decode(b"".join(parts))
    assert data == b"x" * 300 + b"y"
    assert decoder.trailers == trailers


def test_a_body_without_trailers_ends_with_the_plain_last_chunk() -> None:
    assert encode_last_chunk([]) == b"0\r\n\r\n"
    assert b"".join(encode_chunk(b"x" * 31)) == b"1f\r\n" + b"x" * 31 + b"\r\n"
