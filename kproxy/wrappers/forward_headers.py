"""X-Forwarded-For, -Proto and -Host: who asks, and for what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

from twisted.web.resource import IResource

from kproxy.http.lifecycle import request_fields
from kproxy.wrappers.base import Wrapper

_FOR, _PROTO, _HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"
_SET_HERE = (_FOR, _PROTO, _HOST, b"x-request-id", b"x-request-start", b"x-kamal-target")
_HTTP = (b"X-Forwarded-Proto: http", b"http")
_HTTPS = (b"X-Forwarded-Proto: https", b"https")


def _look_alikes(name: bytes) -> Iterator[bytes]:
    """The name with underscores for some of its dashes, or for all."""
    parts = name.split(b"-")
    for dashes in product((b"-", b"_"), repeat=len(parts) - 1):
        if b"_" in dashes:
            yield b"".join(chain(*zip(parts, (*dashes, b""), strict=True)))


_LOOK_ALIKES = frozenset(each for name in _SET_HERE for each in _look_alikes(name))
"""To a CGI or WSGI application ``X_Forwarded_For`` and ``X-Forwarded-For`` are one variable, so that
a client could say by the one what only the proxy may say by the other."""


@dataclass(frozen=True)
class Options:
    forward: bool = True
    """Whether to trust what came with the request (behind a proxy of one's own)."""
    client_ip_header: str | None = None
    """A header that a trusted proxy puts the client's address in; it replaces X-Forwarded-For."""


class ForwardHeaders(Wrapper):
    """Tells the target about the client (behaviour.md section 4)."""

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:
        super().__init__(wrapped)
        self._forward = options.forward
        header = options.client_ip_header
        self._client_ip_header = header.lower().encode("ascii") if header else None

    def render(self, request: Any) -> Any:
        fields = request_fields(request)
        if not _LOOK_ALIKES.isdisjoint(fields):
            for name in _LOOK_ALIKES:
                fields.pop(name, None)
        trusted = self._forward
        if not trusted:
            fields.pop(b"x-kamal-target", None)
        came_for: bytes | None = None
        if self._client_ip_header is not None:
            came_for = request.getHeader(self._client_ip_header)
        if came_for is None and trusted and _FOR in fields:
            came_for = b", ".join(fields[_FOR][1:])
        address: bytes = getattr(request.getClientAddress(), "host", "").encode("ascii")
        if came_for:
            address = came_for + b", " + address
        fields[_FOR] = (b"X-Forwarded-For: " + address, address)
        if not (trusted and _PROTO in fields):
            fields[_PROTO] = _HTTPS if request.isSecure() else _HTTP
        if not (trusted and _HOST in fields):
            host = fields.get(b"host")
            if host is not None:
                fields[_HOST] = (b"X-Forwarded-Host: " + host[-1], host[-1])
            else:
                fields.pop(_HOST, None)
        return self.wrapped.render(request)
