"""A permanent redirect, as the wrappers that redirect give it."""

from __future__ import annotations

from html import escape
from typing import Any

from twisted.web.http import MOVED_PERMANENTLY, datetimeToString


def redirect(request: Any, location: bytes) -> bytes:
    """Answer 301.

    @param location: an absolute URL.
    @return: the body.
    """
    request.setResponseCode(MOVED_PERMANENTLY)
    request.setHeader(b"location", location)
    request.setHeader(b"date", datetimeToString())
    request.setHeader(b"content-type", b"text/html; charset=utf-8")
    link = escape(location.decode("utf-8", "replace"))
    return f'<a href="{link}">Moved Permanently</a>.\n'.encode()
