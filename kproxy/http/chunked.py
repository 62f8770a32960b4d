"""The chunked transfer coding (RFC 9112 section 7.1), read strictly. Pure: bytes in, pieces out."""

from __future__ import annotations

import re

from kproxy.http.headers import BadField, Pairs, parse_field
from kproxy.http.heads import HOP_BY_HOP, MAX_FIELDS

MAX_LINE = 4096
"""The longest line of a chunk's size and its extensions."""
MAX_TRAILERS = 8192
MAX_EXTENSIONS = 64 * 1024
"""Bytes of extensions over a whole body: they carry nothing, and cost work."""

DROPPED = HOP_BY_HOP | {b"connection", b"content-length", b"host"}
"""Fields that frame or route a message are not trailers (RFC 9110 section 6.5.1): a recipient that
took them for headers would see another message than the one that was sent."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSIONS = re.compile(
    rb"(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)+" % (_TOKEN, _TOKEN, _QUOTED)
)
_HEX = b"0123456789abcdefABCDEF"
LAST_CHUNK = b"0\r\n\r\n"


class BadChunk(ValueError):
    """The body is not chunked as it should be; where it ends can't be known any more."""


class ChunkedDecoder:
    """Takes a chunked body in any pieces, gives its data.

    @ivar finished: the last chunk and the trailers have been read.
    @ivar trailers: the fields behind the last chunk; complete when finished.
    @ivar unused: the bytes that follow the body; complete when finished.
    """

    __slots__ = (
        "_buffer",
        "_extensions",
        "_in_trailers",
        "_left",
        "_trailer_bytes",
        "_trailer_lines",
        "finished",
        "trailers",
        "unused",
    )

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0  # of the chunk's data and its CRLF
        self._extensions = 0
        self._in_trailers = False
        self._trailer_bytes = 0
        self._trailer_lines = 0
        self.finished = False
        self.trailers: Pairs = []
        self.unused = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes.

        @return: the data that they complete, in order.
        @raise BadChunk: the coding is broken.
        """
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        pieces: list[bytes] = []
        position = 0
        end = len(data)
        while position < end and not self.finished:
            if self._left > 2:
                take = min(self._left - 2, end - position)
                pieces.append(data[position : position + take])
                position += take
                self._left -= take
            elif self._left:
                if end - position < self._left:
                    if not b"\r\n".startswith(data[position:]):
                        raise BadChunk("a chunk does not end in CRLF")
                    break
                if data[position : position + 2] != b"\r\n":
                    raise BadChunk("a chunk does not end in CRLF")
                position += 2
                self._left = 0
            else:
                after = self._line(data, position)
                if after < 0:
                    break
                position = after
        if self.finished:
            self.unused = data[position:]
        else:
            self._buffer = data[position:]
        return pieces

    def _line(self, data: bytes, position: int) -> int:
        """Read a chunk's size or a trailer; the position after it, or -1 while it is incomplete."""
        line_end = data.find(b"\r\n", position)
        limit = MAX_TRAILERS if self._in_trailers else MAX_LINE
        if line_end < 0:
            if len(data) - position > limit:
                raise BadChunk("a line of the chunked coding is too long")
            if b"\n" in data[position:]:
                raise BadChunk("a line feed without a carriage return")
            return -1
        if line_end - position > limit:
            raise BadChunk("a line of the chunked coding is too long")
        line = data[position:line_end]
        if self._in_trailers:
            self._trailer(line)
        else:
            self._size(line)
        return line_end + 2

    def _size(self, line: bytes) -> None:
        size = line
        if b";" in line:
            size = line.partition(b";")[0].rstrip(b" \t")
            self._extensions += len(line) - len(size)
            if self._extensions > MAX_EXTENSIONS or not _EXTENSIONS.fullmatch(line, len(size)):
                raise BadChunk("a chunk extension is not one")
        if not size or len(size) > 15 or size.translate(None, _HEX):
            raise BadChunk("a chunk size is not a hexadecimal number")
        length = int(size, 16)
        if length:
            self._left = length + 2
        else:
            self._in_trailers = True

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.finished = True
            return
        try:
            name, (text, value) = parse_field(line)
        except BadField as error:
            raise BadChunk(f"trailers: {error}") from None
        self._trailer_bytes += len(line)
        self._trailer_lines += 1
        if self._trailer_bytes > MAX_TRAILERS or self._trailer_lines > MAX_FIELDS:
            raise BadChunk("the trailers are too many")
        if name not in DROPPED:
            self.trailers.append((text[: -len(value) - 2] if value else text[:-2], value))


def encode_chunk(data: bytes) -> list[bytes]:
    """One chunk, as parts to be written one after the other. Data must not be empty."""
    return [b"%x\r\n" % len(data), data, b"\r\n"]


def encode_last_chunk(trailers: Pairs) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return LAST_CHUNK
    lines = b"".join([name + b": " + value + b"\r\n" for name, value in trailers])
    return b"0\r\n" + lines + b"\r\n"
