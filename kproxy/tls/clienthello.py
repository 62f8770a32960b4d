"""What a TLS client says first (RFC 8446 section 4.1.2). Pure: bytes in, a value or an error out.

It is read before there is a TLS engine, so that the certificate can be chosen, or waited for, without
holding up anybody. The engine reads the same bytes again: this parser need not understand all of them,
and is strict in what it does understand.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import NamedTuple

from kproxy.tls.alerts import (
    DECODE_ERROR,
    ILLEGAL_PARAMETER,
    PROTOCOL_VERSION,
    RECORD_OVERFLOW,
    UNEXPECTED_MESSAGE,
    TLSAlert,
)

MAX_HELLO = 16 * 1024
"""Bytes of a ClientHello; browsers send about 2,000."""
MOST = MAX_HELLO + 1024
"""Bytes on the wire: with the headers of its records, of which nobody needs many."""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_ALPN = 16
_MAX_RECORD = 2**14
_RECORD_HEADER = 5
_EXTENSION_HEADER = Struct("!HH")
_NAME = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?")
_ADDRESS = re.compile(rb"(?:[0-9]+\.){3}[0-9]+|[0-9a-f.]*:[0-9a-f:.]*")


class ClientHello(NamedTuple):
    """What a server is chosen by."""

    server_name: str = ""
    """Lower case, without a trailing dot; empty: the client names no host."""
    alpn: tuple[bytes, ...] = ()
    """Protocols that the client offers (RFC 7301), its favourite first; empty: it offers none."""


class PlainHTTP(Exception):
    """This is no TLS but, by the look of it, HTTP."""


def read_client_hello(data: bytes) -> ClientHello | int:
    """Read what has come of a connection so far.

    @param data: from the connection's first byte on; at most `MOST` bytes are ever needed.
    @return: how many bytes there must be to go on, if the ClientHello is not complete.
    @raise TLSAlert: it can't become a lawful ClientHello.
    @raise PlainHTTP: it begins as an HTTP request does.
    """
    message = b""
    start = 0
    while len(data) >= start + _RECORD_HEADER:
        length = _record_length(data, start)
        end = start + _RECORD_HEADER + length
        message += data[start + _RECORD_HEADER : end]
        if message and message[0] != _CLIENT_HELLO:
            raise TLSAlert(UNEXPECTED_MESSAGE, "this is no ClientHello")
        size = 4 + int.from_bytes(message[1:4], "big") if len(message) >= 4 else None
        if size is not None and size > MAX_HELLO:
            raise TLSAlert(ILLEGAL_PARAMETER, "the ClientHello is too long")
        if size is not None and len(message) >= size:
            return _client_hello(message[4:size])
        if end > MOST:
            raise TLSAlert(DECODE_ERROR, "the ClientHello comes in too many pieces")
        if len(data) < end:
            return end
        start = end
    if len(data) > start:
        _check_content_type(data[start], first=start == 0)
    return start + _RECORD_HEADER


def _record_length(data: bytes, start: int) -> int:
    """The length of the content of the record that begins here."""
    content_type, major = data[start], data[start + 1]
    _check_content_type(content_type, first=start == 0)
    if major != 3:
        raise TLSAlert(PROTOCOL_VERSION, "this is no version of TLS")
    length = int.from_bytes(data[start + 3 : start + 5], "big")
    if length > _MAX_RECORD:
        raise TLSAlert(RECORD_OVERFLOW, "a record is too long")
    if length == 0:
        raise TLSAlert(UNEXPECTED_MESSAGE, "a record of a handshake is empty")
    return length


def _check_content_type(content_type: int, first: bool) -> None:
    if content_type == _HANDSHAKE:
        return
    if first and chr(content_type) in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        raise PlainHTTP
    raise TLSAlert(UNEXPECTED_MESSAGE, "this is no handshake of TLS")


def _client_hello(body: bytes) -> ClientHello:
    """Read the whole message, without its header. It runs for every handshake, hence in one go."""
    try:
        at = 2 + 32  # version and random
        at += 1 + body[at]  # session ID
        at += 2 + (body[at] << 8 | body[at + 1])  # cipher suites
        at += 1 + body[at]  # compression methods
        if at == len(body):
            return ClientHello()
        at += 2
        if at + (body[at - 2] << 8 | body[at - 1]) != len(body):
            raise TLSAlert(DECODE_ERROR, "the ClientHello is longer or shorter than it should be")
    except IndexError:
        raise _too_early() from None
    name = protocols = None
    while at + _EXTENSION_HEADER.size <= len(body):
        kind, length = _EXTENSION_HEADER.unpack_from(body, at)
        start = at + _EXTENSION_HEADER.size
        at = start + length
        if kind == _SERVER_NAME:
            if name is not None:
                raise _twice()
            name = body[start:at]
        elif kind == _ALPN:
            if protocols is not None:
                raise _twice()
            protocols = body[start:at]
    if at != len(body):
        raise _too_early()
    return ClientHello(
        "" if name is None else _server_name(name),
        () if protocols is None else _protocols(protocols),
    )


def _end(data: bytes, at: int, width: int) -> int:
    """Where something ends that has its length, of `width` bytes, before it."""
    end = at + width + int.from_bytes(data[at : at + width], "big")
    if end > len(data):
        raise _too_early()
    return end


def _too_early() -> TLSAlert:
    return TLSAlert(DECODE_ERROR, "the ClientHello ends too early")


def _twice() -> TLSAlert:
    return TLSAlert(ILLEGAL_PARAMETER, "an extension is there twice")


def _server_name(extension: bytes) -> str:
    """RFC 6066 section 3."""
    # A list of entries, each of which is a kind and a name.
    if (
        _end(extension, 0, 2) != len(extension) or extension[2:3] != b"\x00"
    ):  # the only kind there is
        raise TLSAlert(DECODE_ERROR, "the server name is malformed")
    if _end(extension, 3, 2) != len(extension):
        raise TLSAlert(ILLEGAL_PARAMETER, "there is more than one server name")
    name = extension[5:].lower()
    if _ADDRESS.fullmatch(name):
        return ""  # an address is not a name; some clients send it nevertheless
    if len(name) > 254 or not _NAME.fullmatch(name):
        raise TLSAlert(ILLEGAL_PARAMETER, "the server name is no host name")
    return name.decode("ascii").rstrip(".")


def _protocols(extension: bytes) -> tuple[bytes, ...]:
    """RFC 7301 section 3.1."""
    at = 2
    if _end(extension, 0, 2) != len(extension) or len(extension) == at:
        raise TLSAlert(DECODE_ERROR, "the list of protocols is malformed")
    protocols = []
    while at < len(extension):
        end = _end(extension, at, 1)
        name, at = extension[at + 1 : end], end
        if not name:
            raise TLSAlert(DECODE_ERROR, "the name of a protocol is empty")
        protocols.append(name)
    return tuple(protocols)
