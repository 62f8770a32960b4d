"""X-Forwarded-For, -Proto and -Host: who asks, and for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.web.resource import IResource

from kproxy.wrappers.base import Wrapper

_FOR, _PROTO, _HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"
_SET_HERE = frozenset(
    (_FOR, _PROTO, _HOST, b"x-request-id", b"x-request-start", b"x-kamal-target")
)


@dataclass(frozen=True)
class Options:
    forward: bool = True
    """Whether to trust what came with the request (behind a proxy of one's own)."""
    client_ip_header: str | None = None
    """A header that a trusted proxy puts the client's address in; it replaces X-Forwarded-For."""


class ForwardHeaders(Wrapper):
    """Tells the target about the client (behaviour.md section 4)."""

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:  # noqa: B008
        super().__init__(wrapped)
        self._forward = options.forward
        header = options.client_ip_header
        self._client_ip_header = header.lower().encode("ascii") if header else None

    def render(self, request: Any) -> Any:
        headers = request.requestHeaders
        _drop_look_alikes(headers)
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


def _drop_look_alikes(headers: Any) -> None:
    """Take out ``X_Forwarded_For`` and the like: to a CGI or WSGI application both are one variable,
    so that a client could say what only the proxy may."""
    names = getattr(headers, "fields", None) or [n.lower() for n, _ in headers.getAllRawHeaders()]
    if b"_" in b" ".join(names):
        for name in list(names):
            if b"_" in name and name.replace(b"_", b"-") in _SET_HERE:
                headers.removeHeader(name)
