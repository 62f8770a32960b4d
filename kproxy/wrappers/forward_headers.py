"""X-Forwarded-For, -Proto and -Host: who asks, and for what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

from twisted.web.resource import IResource

from kproxy.wrappers.base import Wrapper

_FOR, _PROTO, _HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"
_SET_HERE = (_FOR, _PROTO, _HOST, b"x-request-id", b"x-request-start", b"x-kamal-target")


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
        headers = request.requestHeaders
        if not _LOOK_ALIKES.isdisjoint(_names(headers)):
            for name in _LOOK_ALIKES:
                headers.removeHeader(name)
        address = getattr(request.getClientAddress(), "host", "").encode("ascii")
        came_for: bytes | None = None
        if self._client_ip_header is not None:
            came_for = request.getHeader(self._client_ip_header)
        if came_for is None and self._forward and headers.hasHeader(_FOR):
            came_for = b", ".join(headers.getRawHeaders(_FOR))
        headers.setRawHeaders(_FOR, [came_for + b", " + address if came_for else address])
        if not (self._forward and headers.hasHeader(_PROTO)):
            headers.setRawHeaders(_PROTO, [b"https" if request.isSecure() else b"http"])
        if not (self._forward and headers.hasHeader(_HOST)):
            host = request.getHeader(b"host")
            if host is None:
                headers.removeHeader(_HOST)
            else:
                headers.setRawHeaders(_HOST, [host])
        return self.wrapped.render(request)


def _names(headers: Any) -> Iterable[bytes]:
    """The names of all headers in lower case."""
    fields = getattr(headers, "fields", None)
    return [name.lower() for name, _ in headers.getAllRawHeaders()] if fields is None else fields
