"""Field compression (HPACK, RFC 7541) that costs little, in the places of the `hpack` library's own.

The receiving half is the library's, written as one loop: in a proxy that answers in a tenth of a
millisecond, a dozen calls for each field are a good part of it. The table, the static one included,
and Huffman's code are still the library's.

The sending half keeps no table of its own: a field is sent as an entry of the static table, or as a
literal that the client is not to remember. A response is some hundred bytes longer so; it costs a
tenth of the time, no memory for each connection, and there is no secret that compression could leak
(RFC 7541 section 7.1). nginx does the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpack.exceptions import HPACKDecodingError, InvalidTableSizeError, OversizedHeaderListError
from hpack.hpack import encode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

Pair = tuple[bytes, bytes]

_STATIC_PAIRS: dict[Pair, int] = {}
_STATIC_NAMES: dict[bytes, int] = {}
for _index, _pair in enumerate(HeaderTable.STATIC_TABLE, 1):
    _STATIC_PAIRS.setdefault(_pair, _index)
    _STATIC_NAMES.setdefault(_pair[0], _index)


_STATIC: list[Pair] = [(b"", b""), *HeaderTable.STATIC_TABLE]
_ENTRY = 32
"""What a field counts for beside its octets (RFC 7541 section 4.1)."""
_MOST_OCTETS = 4
"""Of an integer: so many hold the length of anything that is taken here."""


def _literal(text: bytes) -> bytes:
    return bytes(encode_integer(len(text), 7)) + text


def encode_field(pair: Pair) -> bytes:
    """One field, for a decoder whose table is empty and stays so. White space around its value is
    left out, which HTTP/2 does not allow (RFC 9113 section 8.2.1)."""
    name, value = pair[0], pair[1].strip(b" \t")
    index = _STATIC_PAIRS.get((name, value))
    if index is not None:
        return bytes([0x80 | index])
    index = _STATIC_NAMES.get(name)
    if index is not None:
        return bytes(encode_integer(index, 4)) + _literal(value)
    return b"\0" + _literal(name) + _literal(value)


class FieldEncodings(dict[Pair, bytes]):
    """Fields that were encoded before; one serves all connections. What it holds is bounded."""

    LONGEST = 256
    MOST = 2048
    SECRET = frozenset((b"set-cookie", b"authorization", b"www-authenticate"))

    def __missing__(self, pair: Pair) -> bytes:
        encoded = encode_field(pair)
        if len(encoded) <= self.LONGEST and pair[0] not in self.SECRET:
            if len(self) >= self.MOST:
                self.clear()
            self[pair] = encoded
        return encoded


class PlainEncoder:
    """Stands in for `hpack.Encoder` in an `h2` connection."""

    __slots__ = ("_announce", "_known")

    def __init__(self, known: FieldEncodings) -> None:
        self._known = known
        self._announce = False

    @property
    def header_table_size(self) -> int:
        """Bytes of the table that the client is to keep: none."""
        return 0

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        # The client has changed what it offers, and may wait to hear what is made of it
        # (RFC 7541 section 4.2).
        self._announce = True

    def encode(self, headers: Iterable[Pair], huffman: bool = True) -> bytes:
        """The block of these fields, whose names are in lower case."""
        known = self._known
        block = b"".join([known[pair] for pair in headers])
        if self._announce:
            self._announce = False
            return b"\x20" + block
        return block


def _integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """An integer that did not fit its prefix (RFC 7541 section 5.1).

    @param position: behind the prefix, which was all ones.
    @return: the integer, and the position behind it.
    """
    value, shift = prefix, 0
    while True:
        octet = block[position]
        position += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
        shift += 7
        if shift >= 7 * _MOST_OCTETS:
            raise HPACKDecodingError("an integer is too large")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """A string (RFC 7541 section 5.2), and the position behind it."""
    first = block[position]
    length = first & 0x7F
    position += 1
    if length == 0x7F:
        length, position = _integer(block, position, 0x7F)
    end = position + length
    text = block[position:end]
    if len(text) != length:
        raise HPACKDecodingError("a string is cut off")
    return (decode_huffman(text) if first & 0x80 else text), end


class BlockDecoder:
    """Stands in for `hpack.Decoder` in an `h2` connection.

    @ivar max_header_list_size: what a block may unpack to, in bytes.
    @ivar max_allowed_table_size: what the client was allowed as its table.
    """

    __slots__ = ("_table", "max_allowed_table_size", "max_header_list_size")

    def __init__(self, max_header_list_size: int) -> None:
        self.max_header_list_size = max_header_list_size
        self._table = HeaderTable()
        self.max_allowed_table_size = self._table.maxsize

    def decode(self, block: bytes, raw: bool = True) -> list[Pair]:
        """The fields of a block.

        @raise hpack.exceptions.HPACKError: it is broken, or larger than it may be.
        @raise IndexError: it is broken; h2 takes that for the same.
        """
        table = self._table
        dynamic = table.dynamic_entries
        fields: list[Pair] = []
        position, size, left = 0, len(block), self.max_header_list_size
        while position < size:
            first = block[position]
            position += 1
            if first & 0x80:
                index = first & 0x7F
                if index == 0x7F:
                    index, position = _integer(block, position, 0x7F)
                if index == 0:
                    raise HPACKDecodingError("there is no entry 0")
                pair = _STATIC[index] if index < 62 else dynamic[index - 62]
            elif first & 0xE0 == 0x20:
                if fields:
                    raise HPACKDecodingError("the table's size changed within a block")
                position = self._resize(block, position, first & 0x1F)
                continue
            else:
                prefix = 0x3F if first & 0x40 else 0x0F
                index = first & prefix
                if index == prefix:
                    index, position = _integer(block, position, prefix)
                if index == 0:
                    name, position = _string(block, position)
                else:
                    name = (_STATIC[index] if index < 62 else dynamic[index - 62])[0]
                value, position = _string(block, position)
                pair = (name, value)
                if first & 0x40:
                    table.add(name, value)
            fields.append(pair)
            left -= len(pair[0]) + len(pair[1]) + _ENTRY
            if left < 0:
                raise OversizedHeaderListError("the fields are too large")
        return fields

    def _resize(self, block: bytes, position: int, size: int) -> int:
        if size == 0x1F:
            size, position = _integer(block, position, 0x1F)
        if size > self.max_allowed_table_size:
            raise InvalidTableSizeError("the table is larger than allowed")
        self._table.maxsize = size
        return position
