"""What `PlainEncoder` sends is what `hpack` reads, and what `hpack` sends `BlockDecoder` reads."""

from __future__ import annotations

from random import Random
from typing import Any

import hpack
import pytest

from kproxy.http.http2_hpack import BlockDecoder, FieldEncodings, PlainEncoder

FIELDS = [
    (b":status", b"200"),
    (b":status", b"418"),
    (b"content-type", b"text/html"),
    (b"x-mine", b"1"),
    (b"x-empty", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"x-long", b"y" * 126),
    (b"x-long", b"y" * 127),
    (b"x-long", b"y" * 128),
    (b"x-long", b"y" * 100_000),
    (b"x-" + b"n" * 300, b"z"),
    (b"x-bytes", bytes(range(128, 256))),
]


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f[0].decode()[:20] + str(len(f[1])))
def test_a_field_is_read_as_it_was_written(field: tuple[bytes, bytes]) -> None:
    encoder = PlainEncoder(FieldEncodings())
    decoder = hpack.Decoder(max_header_list_size=1_000_000)
    for _ in range(2):
        assert decoder.decode(encoder.encode([field]), raw=True) == [field]


def test_the_readers_table_stays_empty() -> None:
    encoder = PlainEncoder(FieldEncodings())
    decoder = hpack.Decoder(max_header_list_size=1_000_000)
    assert decoder.decode(encoder.encode(FIELDS), raw=True) == FIELDS
    assert not decoder.header_table.dynamic_entries


def test_a_reader_that_changes_its_table_hears_once_that_it_is_not_used() -> None:
    encoder = PlainEncoder(FieldEncodings())
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    encoder.header_table_size = 0
    first = encoder.encode(FIELDS[:1])
    assert decoder.decode(first, raw=True) == FIELDS[:1]
    assert decoder.header_table_size == 0
    assert encoder.encode(FIELDS[:1]) == first[1:]


def test_what_is_remembered_is_bounded_and_no_secret() -> None:
    known = FieldEncodings()
    encoder = PlainEncoder(known)
    for index in range(10_000):
        encoder.encode([(b"x", b"%d" % index)])
    assert len(known) <= FieldEncodings.MOST
    known.clear()
    encoder.encode([(b"set-cookie", b"session=secret"), (b"x-long", b"y" * 1000)])
    assert not known


def test_random_blocks_are_read_as_the_library_reads_them() -> None:
    random = Random(1)
    names = [b":path", b"cookie", b"x-a", b"x-b", b"accept", b"user-agent", b"x-" + b"n" * 200]
    for _ in range(30):
        encoder, theirs, ours = hpack.Encoder(), hpack.Decoder(), BlockDecoder(65536)
        for _ in range(60):
            if random.random() < 0.1:
                encoder.header_table_size = random.choice([0, 100, 1000, 4096])
            fields = [
                (random.choice(names), random.randbytes(random.choice([0, 1, 5, 130, 700])))
                for _ in range(random.randrange(10))
            ]
            if random.random() < 0.3:
                fields = [(name, value, True) for name, value in fields]  # type: ignore[misc]
            block = encoder.encode(fields, huffman=random.random() < 0.5)
            assert ours.decode(block) == list(theirs.decode(block, raw=True))


def test_random_nonsense_is_an_error_where_the_library_has_one() -> None:
    random = Random(2)
    errors = 0
    for _ in range(5000):
        block = random.randbytes(random.randrange(1, 40))
        assert _outcome(BlockDecoder(65536), block) == _outcome(hpack.Decoder(), block)
        errors += _outcome(BlockDecoder(65536), block) is None
    assert 0 < errors < 5000


def _outcome(decoder: Any, block: bytes) -> list[tuple[bytes, bytes]] | None:
    try:
        return list(decoder.decode(block, raw=True))
    except (hpack.HPACKError, IndexError):
        return None


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # entry 0
        b"\xbe",  # an entry that is not there
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # an integer without end
        b"\xff",  # one that is cut off
        b"\x40\x05abc",  # a string that is cut off
        b"\x00\x81\xff\x00",  # padding of Huffman's code that is none
        b"\x82\x20",  # a change of size behind a field
        b"\x3f\xe2\x1f",  # a table of 4097 bytes
    ],
    ids=repr,
)
def test_a_broken_block_is_an_error(block: bytes) -> None:
    with pytest.raises((hpack.HPACKError, IndexError)):
        BlockDecoder(65536).decode(block)


def test_fields_over_the_limit_are_an_error_and_those_at_it_are_not() -> None:
    block = hpack.Encoder().encode([(b"x", b"y" * 67)])
    assert len(BlockDecoder(100).decode(block)) == 1
    with pytest.raises(hpack.OversizedHeaderListError):
        BlockDecoder(99).decode(block)
