"""A permanent redirect, as the wrappers that redirect give it."""

from __future__ import annotations

from html import escape
from typing import Any

from twisted.web.http import MOVED_PERMANENTLY, datetimeToString


def redirect(request: Any, origin: bytes) -> bytes:
    """Answer 301, to the same path and query.

    @param origin: scheme and host of the URL to go to.
    @return: the body.
    """
    uri = request.uri
    if not uri.startswith(b"/"):
        # "*", or the absolute form, which a stock Site leaves as it came.
        uri = b"/" + uri.partition(b"://")[2].partition(b"/")[2]
    location = origin + uri
    request.setResponseCode(MOVED_PERMANENTLY)
    request.setHeader(b"location", location)
    request.setHeader(b"date", datetimeToString())
    request.setHeader(b"content-type", b"text/html; charset=utf-8")
    link = escape(location.decode("utf-8", "replace"))
    return f'<a href="{link}">Moved Permanently</a>.\n'.encode()
