"""Heads of HTTP/1 messages, read strictly. Pure: bytes in, values or an error out.

The rules that keep it right:

1. A head is what stands before the first CRLFCRLF; the caller finds it. Nothing is parsed twice.
2. What RFC 9112 does not allow is refused, not repaired: a message that two parsers can read in two
   ways is how requests are smuggled past a proxy.
3. Framing is decided here, once: `RequestHead.length` says how the body ends, and the fields that
   told so (Transfer-Encoding) are gone from the headers, as are all hop-by-hop fields. Whoever sends
   the message on frames it afresh.
"""

from __future__ import annotations

import re
from typing import Final

from kproxy.http.headers import FIELD_VALUE, TOKEN, BadField, Field, FieldCache, FieldMap
from kproxy.http.hosts import learn_host

MAX_REQUEST_LINE: Final = 8 * 1024
MAX_HEAD: Final = 64 * 1024
MAX_FIELDS: Final = 100

CHUNKED: Final = -1
"""A body length: the body is chunked."""
UNTIL_CLOSE: Final = -2
"""A body length: the body ends with the connection (responses only)."""

HOP_BY_HOP: Final = frozenset(
    (
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""RFC 9110 section 7.6.1, and what was hop-by-hop before it; Connection itself is handled apart."""

_HOP: Final = 1
_CONNECTION: Final = 2
_MARKS: Final = {b"connection": _CONNECTION, **dict.fromkeys(HOP_BY_HOP, _HOP)}

_NEVER_NOMINATED: Final = frozenset(
    (b"host", b"content-length", b"cache-control", b"authorization", b"cookie")
)
"""End-to-end fields that a client can't have removed by naming them in Connection: the target would
see another request than the one that was sent."""

NOT_IN_TARGET: Final = bytes([*range(0x21), 0x23, 0x7F])
"""Octets that a request target does not hold: space, controls, ``#``. Octets over 0x7F are not of the
RFC's grammar, but curl sends a path as it was typed, and no server takes them for a delimiter."""

_VERSION: Final = re.compile(rb"HTTP/[02-9]\.[0-9]")
_VERSIONS: Final = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
METHODS: Final = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")
)


class BadHead(ValueError):
    """A head that is refused: the status for the client, and a reason for the log.

    @ivar message: what the client is told beyond the status; mostly empty.
    """

    def __init__(self, reason: str, status: int = 400, message: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.message = message


class RequestHead:
    """A request before its body.

    @ivar fields: see `kproxy.http.headers`; `headers` is the same as Twisted has it.
    @ivar target: in origin form (``/path?query``), or ``*``.
    @ivar host: as the client sent it, with its port; empty for HTTP/1.0 without one.
    @ivar length: bytes of the body (0: none), or `CHUNKED`.
    @ivar upgrade: the protocols that the client asks to switch to; mostly empty.
    """

    __slots__ = (
        "expects_continue",
        "fields",
        "host",
        "keep_alive",
        "length",
        "method",
        "target",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        version: bytes,
        fields: dict[bytes, Field],
        host: bytes,
        length: int,
        keep_alive: bool,
        expects_continue: bool,
        upgrade: bytes,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.host = host
        self.length = length
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.upgrade = upgrade

    @property
    def headers(self) -> FieldMap:
        return FieldMap.of(self.fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestHead) and _values(self) == _values(other)

    __hash__ = None  # type: ignore[assignment]


class ResponseHead:
    """A response before its body.

    @ivar fields: see `kproxy.http.headers`; `headers` is the same as Twisted has it.
    @ivar length: bytes of the body, `CHUNKED` or `UNTIL_CLOSE`.
    """

    __slots__ = ("code", "fields", "keep_alive", "length", "reason", "upgrade")

    def __init__(
        self,
        code: int,
        reason: bytes,
        fields: dict[bytes, Field],
        length: int,
        keep_alive: bool,
        upgrade: bytes,
    ) -> None:
        self.code = code
        self.reason = reason
        self.fields = fields
        self.length = length
        self.keep_alive = keep_alive
        self.upgrade = upgrade

    @property
    def headers(self) -> FieldMap:
        return FieldMap.of(self.fields)


def _values(head: RequestHead) -> list[object]:
    return [getattr(head, name) for name in head.__slots__]


def framing(fields: dict[bytes, Field], version: bytes) -> int | None:
    """How the fields say that the body ends (RFC 9112 section 6.3); None: they say nothing."""
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise BadHead("both Content-Length and Transfer-Encoding")
        if version != b"HTTP/1.1":
            raise BadHead("Transfer-Encoding in HTTP/1.0")
        codings = [c.strip(b" \t").lower() for c in b",".join(coding[1:]).split(b",")]
        if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
            raise BadHead("Transfer-Encoding does not end in one chunked")
        if len(codings) > 1:
            raise BadHead("a transfer coding other than chunked", 501)
        return CHUNKED
    if length is None:
        return None
    if len(length) > 2:
        raise BadHead("several Content-Lengths")
    digits = length[1]
    if not digits.isdigit() or len(digits) > 18:
        raise BadHead("Content-Length is not a number")
    return int(digits)


def _connection(fields: dict[bytes, Field], marks: int, keep_alive: bool) -> tuple[bool, bytes]:
    """Take out the hop-by-hop fields, those that Connection names included.

    @param marks: of the fields that there are.
    @param keep_alive: what the version says when nothing else does.
    @return: whether the connection persists, and the protocols to upgrade to.
    """
    connection = fields.pop(b"connection", None)
    upgrade = b""
    if connection is not None:
        value = connection[1]
        if len(connection) == 2 and (value == b"keep-alive" or value == b"close"):
            keep_alive = value == b"keep-alive"
        else:
            options = [o.strip(b" \t").lower() for o in b",".join(connection[1:]).split(b",")]
            if b"close" in options:
                keep_alive = False
            elif b"keep-alive" in options:
                keep_alive = True
            if b"upgrade" in options and b"upgrade" in fields:
                upgrade = b", ".join(fields[b"upgrade"][1:])
            for option in options:
                if option not in _NEVER_NOMINATED:
                    fields.pop(option, None)
    if marks & _HOP:
        for name in HOP_BY_HOP:
            fields.pop(name, None)
    return keep_alive, upgrade


class HeadParser:
    """Reads heads; one for a process, since what it remembers serves every connection."""

    __slots__ = ("_hosts", "_lines", "_statuses")

    def __init__(self) -> None:
        self._lines = FieldCache(_MARKS)
        self._statuses: dict[bytes, tuple[bytes, int, bytes]] = {}
        self._hosts: set[bytes] = set()

    def _fields(self, lines: list[bytes]) -> tuple[dict[bytes, Field], int]:
        """Read all lines but the first.

        @return: the fields, and the marks that any of them has.
        """
        if len(lines) > MAX_FIELDS + 1:
            raise BadHead(f"more than {MAX_FIELDS} header fields", 431)
        fields: dict[bytes, Field] = {}
        marks = 0
        known = self._lines.entries
        try:
            for index in range(1, len(lines)):
                line = lines[index]
                entry = known.get(line)
                if entry is None:
                    entry = self._lines.read(line)
                key, field, mark = entry
                marks |= mark
                if key in fields:
                    old = fields[key]
                    fields[key] = (old[0] + b"\r\n" + field[0], *old[1:], *field[1:])
                else:
                    fields[key] = field
        except BadField as error:
            raise BadHead(str(error)) from None
        return fields, marks

    def _check_host(self, host: bytes) -> None:
        if host not in self._hosts and not learn_host(host, self._hosts):
            raise BadHead("Host is not a host")

    def request(self, head: bytes) -> RequestHead:
        """Read a request's head, without its last CRLFCRLF.

        @raise BadHead: with 400, or 414, 431, 501, 505 where they say it better.
        """
        lines = head.split(b"\r\n")
        line = lines[0]
        parts = line.split(b" ")
        if len(line) > MAX_REQUEST_LINE:
            raise BadHead("the request line is too long", 414)
        if len(parts) != 3:
            raise BadHead("the request line is not a method, a target and a version")
        method, target, version = parts
        if method not in METHODS and (not method or method.translate(None, TOKEN)):
            raise BadHead("the method is not a token")
        minor = _VERSIONS.get(version)
        if minor is None:
            raise _bad_version(version)
        if target.translate(None, NOT_IN_TARGET) is not target:
            raise BadHead("the request target holds a character that it may not")
        fields, marks = self._fields(lines)
        host = self._host(fields, minor)
        if target[:1] != b"/" or method == b"CONNECT":
            target, host = self._other_form(method, target, host, fields)
        length = framing(fields, version)
        keep_alive, upgrade = minor == 1, b""
        if marks:
            keep_alive, upgrade = _connection(fields, marks, keep_alive)
        expects_continue = False
        if b"expect" in fields:
            expects_continue = expectation(fields, minor)
        return RequestHead(
            method,
            target,
            version,
            fields,
            host,
            length or 0,
            keep_alive,
            expects_continue,
            upgrade if minor == 1 else b"",
        )

    def _host(self, fields: dict[bytes, Field], minor: int) -> bytes:
        """The one Host of a request (RFC 9112 section 3.2)."""
        field = fields.get(b"host")
        if field is None:
            if minor == 1:
                raise BadHead("no Host")
            return b""
        if len(field) > 2:
            raise BadHead("several Hosts")
        host = field[1]
        if host not in self._hosts:
            self._check_host(host)
        return host

    def _other_form(
        self, method: bytes, target: bytes, host: bytes, fields: dict[bytes, Field]
    ) -> tuple[bytes, bytes]:
        """A target that is not in origin form: absolute or asterisk (RFC 9112 section 3.2).

        @return: the target in origin form, and the host that counts: that of an absolute target.
        """
        if method == b"CONNECT":
            raise BadHead("CONNECT", 405)
        if target == b"*":
            if method != b"OPTIONS":
                raise BadHead("the target * with a method other than OPTIONS")
            return target, host
        scheme, colon, rest = target.partition(b"://")
        if not colon or scheme.lower() not in (b"http", b"https"):
            raise BadHead("the request target is not a path")
        end = next((i for i, c in enumerate(rest) if c in b"/?"), len(rest))
        host = rest[:end]
        self._check_host(host)
        fields[b"host"] = (b"Host: " + host, host)
        path = rest[end:]
        if not path and method == b"OPTIONS":
            return b"*", host
        return (path if path.startswith(b"/") else b"/" + path), host

    def response(self, head: bytes, method: bytes) -> ResponseHead:
        """Read a response's head, without its last CRLFCRLF.

        @param method: that of the request, which decides whether there is a body.
        @raise BadHead: it is not one; the status is of no use here.
        """
        lines = head.split(b"\r\n")
        status = self._statuses.get(lines[0])
        if status is None:
            status = self._status(lines[0])
        version, code, reason = status
        fields, marks = self._fields(lines)
        length = framing(fields, version)
        keep_alive, upgrade = version == b"HTTP/1.1", b""
        if marks:
            keep_alive, upgrade = _connection(fields, marks, keep_alive)
        if code < 200 or code == 204 or code == 304 or method == b"HEAD":
            length = 0
            if code < 200:
                fields.pop(b"content-length", None)  # it frames nothing, but might for a client
        elif length is None:
            length = UNTIL_CLOSE
        return ResponseHead(code, reason, fields, length, keep_alive, upgrade)

    def _status(self, line: bytes) -> tuple[bytes, int, bytes]:
        version, _, rest = line.partition(b" ")
        digits, _, reason = rest.partition(b" ")
        if (
            version not in _VERSIONS
            or len(digits) != 3
            or not digits.isdigit()
            or not 100 <= int(digits) <= 599
            or reason.translate(None, FIELD_VALUE)
        ):
            raise BadHead("the status line is not one")
        status = (version, int(digits), reason)
        if len(line) <= FieldCache.LONGEST_LINE:
            if len(self._statuses) >= FieldCache.MOST_LINES:
                self._statuses.clear()
            self._statuses[line] = status
        return status


def _bad_version(version: bytes) -> BadHead:
    if _VERSION.fullmatch(version):
        return BadHead("an HTTP version that is not served", 505)
    return BadHead("the request line does not end in an HTTP version")


def expectation(fields: dict[bytes, Field], minor: int) -> bool:
    """Whether the client waits for 100 Continue; the proxy answers that itself."""
    value = fields.pop(b"expect")
    if minor == 0:
        return False
    if len(value) > 2 or value[1].lower() != b"100-continue":
        raise BadHead("an expectation other than 100-continue", 417)
    return True


def refuse_early(data: bytes | bytearray) -> BadHead | None:
    """What is wrong with the beginning of a head that has not ended yet, if that can be told.

    Limits are enforced here, before the rest has come, and so are bare line feeds, with which a head
    would never end.
    """
    line_end = data.find(b"\r\n")
    if (line_end if line_end >= 0 else len(data)) > MAX_REQUEST_LINE:
        return BadHead("the request line is too long", 414)
    if len(data) > MAX_HEAD + MAX_REQUEST_LINE:
        return BadHead(f"the headers are over {MAX_HEAD} bytes", 431)
    if data.count(b"\n") != data.count(b"\r\n"):
        return BadHead("a line feed without a carriage return")
    return None
