"""Heads of HTTP/2 requests, read as strictly as those of HTTP/1. Pure: fields in, values out.

The rules that keep it right:

1. What comes out is what `kproxy.http.heads` makes of an HTTP/1.1 request, so that nobody behind this
   can tell: the fields of an HTTP/1.1 message, Host among them, and no hop-by-hop ones.
2. What RFC 9113 section 8 calls malformed is refused with the status 400, which stands for a stream
   error: the client does not get to see a page. Other statuses are answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from kproxy.http.chunked import DROPPED, MAX_TRAILERS
from kproxy.http.headers import (
    FIELD_VALUE,
    TOKEN,
    BadField,
    Field,
    FieldCache,
    Pairs,
)
from kproxy.http.heads import (
    CHUNKED,
    HOP_BY_HOP,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_REQUEST_LINE,
    METHODS,
    NOT_IN_TARGET,
    BadHead,
    RequestHead,
    expectation,
    framing,
)
from kproxy.http.hosts import learn_host

Pair = tuple[bytes, bytes]

_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_ENTRY: Final = 32
"""What a field counts for beside its octets (RFC 9113 section 10.5.1)."""

CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Fields that no HTTP/2 message has (RFC 9113 section 8.2.2)."""

_NAME: Final = TOKEN.translate(None, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def read_field(pair: Pair) -> tuple[bytes, Field]:
    """A field as an HTTP/1.1 message would have it.

    @raise BadField: what RFC 9113 section 8.2 does not allow.
    """
    name, value = pair
    if not name or name.translate(None, _NAME):
        raise BadField("a header name is not a token in lower case")
    if value.translate(None, FIELD_VALUE):
        raise BadField("a header value holds a control character")
    if value.strip(b" \t") != value:
        raise BadField("a header value begins or ends with white space")
    if name in CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
        raise BadField("a header that is about an HTTP/1 connection")
    return name, (name + b": " + value, value)


class _KnownFields(dict[Pair, tuple[bytes, Field]]):
    """`kproxy.http.headers.FieldCache` for fields that are not lines; bounded in the same way."""

    def __missing__(self, pair: Pair) -> tuple[bytes, Field]:
        entry = read_field(pair)
        if len(entry[1][0]) <= FieldCache.LONGEST_LINE and entry[0] not in FieldCache.SECRET:
            if len(self) >= FieldCache.MOST_LINES:
                self.clear()
            self[pair] = entry
        return entry


class StreamHead(NamedTuple):
    """The head of a request on a stream."""

    head: RequestHead
    tunnel: bool
    """The request asks for a WebSocket (RFC 8441); its data are not a body."""


class StreamHeadReader:
    """Reads heads; one for a process, since what it remembers serves every connection."""

    def __init__(self) -> None:
        self._known = _KnownFields()
        self._hosts: set[bytes] = set()

    def request(self, pairs: Iterable[Pair], secure: bool, ended: bool) -> StreamHead:
        """Read the fields of a request.

        @param secure: whether the connection has TLS under it.
        @param ended: there is no body.
        @raise BadHead: with 400 for a stream error, or the status to answer with.
        """
        pseudo, fields = self._split(pairs)
        method = pseudo.get(b":method")
        if method is None:
            raise BadHead("no :method")
        if method not in METHODS and (not method or method.translate(None, TOKEN)):
            raise BadHead("the method is not a token")
        tunnel = b":protocol" in pseudo
        if tunnel and method != b"CONNECT":
            raise BadHead(":protocol with a method other than CONNECT")
        if method == b"CONNECT" and not tunnel:
            if b":scheme" in pseudo or b":path" in pseudo or b":authority" not in pseudo:
                raise BadHead("CONNECT without a host, or with a path")
            raise BadHead("CONNECT", 405)
        path = self._path(method, pseudo)
        fields = self._with_host(pseudo, fields)
        if tunnel:
            if pseudo[b":protocol"].lower() != b"websocket":
                raise BadHead("a protocol other than websocket", 501)
            for name in (b"content-length", b"sec-websocket-key", b"expect"):
                fields.pop(name, None)
            method, ended = b"GET", True
        if pseudo[b":scheme"].lower() != (b"https" if secure else b"http"):
            raise BadHead("a scheme that is not the connection's", 421)
        return StreamHead(self._head(method, path, fields, ended, tunnel), tunnel)

    def _split(self, pairs: Iterable[Pair]) -> tuple[dict[bytes, bytes], dict[bytes, Field]]:
        """The pseudo-header fields, and the others, of which a repeated one is one entry."""
        pseudo: dict[bytes, bytes] = {}
        fields: dict[bytes, Field] = {}
        known = self._known
        size = count = 0
        try:
            for pair in pairs:
                name, value = pair
                size += len(name) + len(value) + _ENTRY
                if name[:1] == b":":
                    if fields or name in pseudo or name not in _PSEUDO:
                        raise BadHead("a pseudo-header that is unknown, repeated or out of place")
                    pseudo[name] = value
                    continue
                count += 1
                key, field = known[pair]
                if key not in fields:
                    fields[key] = field
                elif key == b"cookie":
                    crumbs = fields[key][1] + b"; " + field[1]
                    fields[key] = (b"cookie: " + crumbs, crumbs)
                else:
                    old = fields[key]
                    fields[key] = (old[0] + b"\r\n" + field[0], *old[1:], field[1])
        except BadField as error:
            raise BadHead(str(error)) from None
        if size > MAX_HEAD + MAX_REQUEST_LINE:
            raise BadHead(f"the headers are over {MAX_HEAD} bytes", 431)
        if count > MAX_FIELDS:
            raise BadHead(f"more than {MAX_FIELDS} header fields", 431)
        return pseudo, fields

    def _path(self, method: bytes, pseudo: dict[bytes, bytes]) -> bytes:
        path = pseudo.get(b":path")
        if path is None or b":scheme" not in pseudo:
            raise BadHead("no :path or no :scheme")
        if path[:1] != b"/" and (path != b"*" or method != b"OPTIONS"):
            raise BadHead("the :path is not a path")
        if path.translate(None, NOT_IN_TARGET) is not path:
            raise BadHead("the :path holds a character that it may not")
        if len(path) > MAX_REQUEST_LINE:
            raise BadHead("the :path is too long", 414)
        return path

    def _with_host(
        self, pseudo: dict[bytes, bytes], fields: dict[bytes, Field]
    ) -> dict[bytes, Field]:
        """The fields with one Host, which stands first (RFC 9113 section 8.3.1)."""
        field = fields.get(b"host")
        authority = pseudo.get(b":authority")
        if field is not None:
            if len(field) > 2:
                raise BadHead("several Hosts")
            if authority is None:
                authority = field[1]
            elif field[1].lower() != authority.lower():
                raise BadHead("Host is not what :authority says")
        elif authority is None:
            raise BadHead("no :authority and no Host")
        if authority not in self._hosts and not learn_host(authority, self._hosts):
            raise BadHead("the :authority is not a host")
        host = {b"host": (b"Host: " + authority, authority)}
        return {**fields, **host} if field is not None else {**host, **fields}

    def _head(
        self, method: bytes, path: bytes, fields: dict[bytes, Field], ended: bool, tunnel: bool
    ) -> RequestHead:
        length: int | None = None
        if b"content-length" in fields:
            length = framing(fields, b"HTTP/1.1")
        if ended:
            if length:
                raise BadHead("a body that is shorter than its Content-Length")
            length = 0
        elif length is None:
            length = CHUNKED
        expects_continue = b"expect" in fields and expectation(fields, 1)
        if not HOP_BY_HOP.isdisjoint(fields):
            for name in HOP_BY_HOP:
                fields.pop(name, None)
        return RequestHead(
            method,
            path,
            b"HTTP/2.0",
            fields,
            fields[b"host"][1],
            length,
            True,
            expects_continue,
            b"websocket" if tunnel else b"",
        )

    def trailers(self, pairs: Iterable[Pair]) -> Pairs:
        """Read the fields behind a body.

        @raise BadHead: they are malformed, or too many.
        """
        pseudo, fields = self._split(pairs)
        if pseudo:
            raise BadHead("a pseudo-header among the trailers")
        trailers = [
            (key, value)
            for key, field in fields.items()
            if key not in DROPPED
            for value in field[1:]
        ]
        if sum(len(name) + len(value) for name, value in trailers) > MAX_TRAILERS:
            raise BadHead("the trailers are too many")
        return trailers
