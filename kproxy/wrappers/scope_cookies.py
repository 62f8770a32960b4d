"""Cookies of an application that is mounted below a path stay below that path."""

from __future__ import annotations

from typing import Any

from kproxy.routing import normalize_host
from kproxy.streaming import streaming
from kproxy.wrappers.base import Filter, Wrapper


class ScopeCookies(Wrapper):
    """Puts the path prefix that was stripped before the paths of cookies, and gives it to those
    without a path: of two applications on one host, neither sees the other's cookies.

    Cookies for another domain, and those that have to be for all paths (``__Host-``, RFC 6265bis
    section 4.1.3.2), are left alone. Nothing is done where no prefix was stripped.
    """

    def render(self, request: Any) -> Any:
        if "path_prefix" in streaming(request).notes:
            request.add_filter(_Scoped)
        return self.wrapped.render(request)


class _Scoped(Filter):
    def begin(self) -> None:
        request = self.request
        headers = request.responseHeaders
        cookies = headers.getRawHeaders(b"set-cookie")
        if cookies:
            host = normalize_host(request.getHeader(b"host") or b"")
            prefix = request.notes["path_prefix"]
            headers.setRawHeaders(b"set-cookie", [scoped(each, prefix, host) for each in cookies])
        super().begin()


def scoped(cookie: bytes, prefix: bytes, host: bytes) -> bytes:
    """The value of a Set-Cookie header with its path below a prefix; the rest as it was.

    @param host: that was asked for, lower case, without a port.
    """
    pair, *attributes = cookie.split(b";")
    if pair.strip().lower().startswith(b"__host-"):
        return cookie
    path, kept = b"", []
    for attribute in attributes:
        name, _, value = attribute.partition(b"=")
        key = name.strip().lower()
        if key == b"path":
            path = value.strip().strip(b"/")  # of several the last one counts
            continue
        if key == b"domain" and value.strip().lower().removeprefix(b".") not in (b"", host):
            return cookie
        kept.append(attribute)
    return b";".join([pair, b" Path=" + prefix + (b"/" + path if path else b""), *kept])
