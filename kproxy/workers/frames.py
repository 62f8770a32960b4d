"""Messages as bytes: a small JSON object each, and whatever bytes go along with it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

Message = dict[str, Any]
_LENGTHS = struct.Struct("!II")


def encode(message: Message, load: bytes = b"") -> bytes:
    """One frame: the length of the JSON and of the load, and then these."""
    head = json.dumps(message, separators=(",", ":")).encode("ascii")
    return _LENGTHS.pack(len(head), len(load)) + head + load


class Decoder:
    """Makes messages of what comes, in whichever pieces it does."""

    def __init__(self) -> None:
        self._data = bytearray()

    def unread(self) -> bytes:
        """What has come of a message that is not complete."""
        return bytes(self._data)

    def feed(self, data: bytes) -> Iterator[tuple[Message, bytes]]:
        """Take some bytes; give the messages that are complete with them.

        @raise ValueError: it is no frame.
        """
        self._data += data
        while len(self._data) >= _LENGTHS.size:
            head, load = _LENGTHS.unpack_from(self._data)
            begin = _LENGTHS.size + head
            end = begin + load
            if len(self._data) < end:
                return
            message = json.loads(self._data[_LENGTHS.size : begin])
            rest = bytes(self._data[begin:end])
            del self._data[:end]
            yield message, rest
