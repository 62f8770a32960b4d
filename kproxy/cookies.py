"""What a request's cookies say, for the few that the proxy itself reads."""

from __future__ import annotations

from typing import Any


def cookie(request: Any, name: bytes) -> bytes:
    """The value of the first cookie of that name, without quotes around it; empty: there is none."""
    headers = request.requestHeaders
    if not headers.hasHeader(b"cookie"):
        return b""
    for line in headers.getRawHeaders(b"cookie"):
        for pair in line.split(b";"):
            key, _, value = pair.partition(b"=")
            if key.strip() == name:
                value = value.strip()
                quoted = len(value) > 1 and value[:1] == value[-1:] == b'"'
                return value[1:-1] if quoted else value  # type: ignore[no-any-return]
    return b""
