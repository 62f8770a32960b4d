"""What a TLS client says first (RFC 8446 section 4.1.2). Pure: bytes in, a value or an error out.

It is read before there is a TLS engine, so that the certificate can be chosen, or waited for, without
holding up anybody. The engine reads the same bytes again: this parser need not understand all of them,
and is strict in what it does understand.
"""

from __future__ import annotations

import re
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
_SUPPORTED_VERSIONS = 43
_TLS_1_2 = 0x0303
_MAX_RECORD = 2**14
_RECORD_HEADER = 5
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
    """Read the whole message, without its header."""
    legacy_version = int.from_bytes(body[:2], "big")
    at = 2 + 32  # version and random
    _, at = _vector(body, at, 1)  # session ID
    _, at = _vector(body, at, 2)  # cipher suites
    _, at = _vector(body, at, 1)  # compression methods
    extensions = b""
    if at < len(body):
        extensions, at = _vector(body, at, 2)
    if at != len(body):
        raise TLSAlert(DECODE_ERROR, "the ClientHello is longer or shorter than it should be")
    seen: dict[int, bytes] = {}
    at = 0
    while at < len(extensions):
        kind = int.from_bytes(extensions[at : at + 2], "big")
        content, at = _vector(extensions, at + 2, 2)
        if kind in seen:
            raise TLSAlert(ILLEGAL_PARAMETER, "an extension is there twice")
        seen[kind] = content
    _check_versions(legacy_version, seen.get(_SUPPORTED_VERSIONS))
    name, protocols = seen.get(_SERVER_NAME), seen.get(_ALPN)
    return ClientHello(
        "" if name is None else _server_name(name),
        () if protocols is None else _protocols(protocols),
    )


def _check_versions(legacy: int, supported: bytes | None) -> None:
    """Refuse what is older than TLS 1.2 (RFC 8996), as the loops' TLS does without saying why."""
    if supported is None:
        good = legacy >= _TLS_1_2
    else:
        versions, end = _vector(supported, 0, 1)
        if end != len(supported) or len(versions) % 2:
            raise TLSAlert(DECODE_ERROR, "the list of versions is malformed")
        pairs = {versions[at : at + 2] for at in range(0, len(versions), 2)}
        good = not pairs.isdisjoint((b"\x03\x03", b"\x03\x04"))
    if not good:
        raise TLSAlert(PROTOCOL_VERSION, "TLS 1.2 is the least that is spoken")


def _vector(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    """Read what has its length, of `width` bytes, before it. The content, and where it ends."""
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise TLSAlert(DECODE_ERROR, "the ClientHello ends too early")
    return data[start:end], end


def _server_name(extension: bytes) -> str:
    """RFC 6066 section 3."""
    entries, end = _vector(extension, 0, 2)
    if end != len(extension) or entries[:1] != b"\x00":  # the only kind of name there is
        raise TLSAlert(DECODE_ERROR, "the server name is malformed")
    raw, end = _vector(entries, 1, 2)
    if end != len(entries):
        raise TLSAlert(ILLEGAL_PARAMETER, "there is more than one server name")
    name = raw.lower()
    if _ADDRESS.fullmatch(name):
        return ""  # an address is not a name; some clients send it nevertheless
    if len(name) > 254 or not _NAME.fullmatch(name):
        raise TLSAlert(ILLEGAL_PARAMETER, "the server name is no host name")
    return name.decode("ascii").rstrip(".")


def _protocols(extension: bytes) -> tuple[bytes, ...]:
    """RFC 7301 section 3.1."""
    names, end = _vector(extension, 0, 2)
    if end != len(extension) or not names:
        raise TLSAlert(DECODE_ERROR, "the list of protocols is malformed")
    protocols = []
    at = 0
    while at < len(names):
        name, at = _vector(names, at, 1)
        if not name:
            raise TLSAlert(DECODE_ERROR, "the name of a protocol is empty")
        protocols.append(name)
    return tuple(protocols)
