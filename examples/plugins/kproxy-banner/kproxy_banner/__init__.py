"""Puts a banner on top of HTML pages while they stream, as a wrapper for kproxy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from twisted.web.resource import IResource

from kproxy.streaming import streaming
from kproxy.wrappers.base import Filter, Wrapper

_TOKEN = re.compile(
    rb"""
    <!--.*?-->                                        # what is in a comment is no tag,
    | <(script|style)[\s/>].*?</\1\s*>                # nor what is in a script or a style sheet
    | (?P<body> <body (?=[\s/>])
        (?: [^>=] | = \s* (?: "[^"]*" | '[^']*' ) | = (?!\s*["']) )* > )
    | (?P<incomplete> <!-- | <(?:script|style|body)[\s/>] | <[!/a-z-]{0,6} \Z )
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_BEFORE_ALL = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s*<!doctype[^>]*>)?", re.IGNORECASE)
"""What has to stay at the beginning of a page: a byte order mark, and what keeps browsers from
imitating those of the last century."""

_WITHOUT_BODY_OR_WITH_A_PART = (204, 205, 206, 304)
_DIGESTS = (b"content-md5", b"digest", b"content-digest", b"repr-digest")


@dataclass(frozen=True)
class Options:
    html: str
    search: int = 64 * 1024
    """Bytes of a page in which its body tag is looked for."""


class Banner(Wrapper):
    """Puts the banner right behind ``<body ...>``, or at the beginning of a page that has none."""

    def __init__(self, wrapped: IResource, options: Options) -> None:
        super().__init__(wrapped)
        # Character references mean the same in every charset that is a superset of ASCII.
        self._banner = options.html.encode("ascii", "xmlcharrefreplace")
        self._search = options.search

    def render(self, request: Any) -> Any:
        streaming(request).add_filter(self._filter)
        return self.wrapped.render(request)

    def _filter(self, request: Any, sink: Any) -> Inserter:
        return Inserter(request, sink, self._banner, self._search)


class Inserter(Filter):
    """One response on its way. Its beginning is held until it is known where the banner goes."""

    def __init__(self, request: Any, sink: Any, banner: bytes, search: int) -> None:
        super().__init__(request, sink)
        self._banner = banner
        self._search = search
        self._held = bytearray()
        self._searched = 0
        self._looking = False

    def begin(self) -> None:
        if self._banner and is_whole_plain_html(self.request):
            self._looking = self.request.method != b"HEAD"
            adapt_headers(self.request.responseHeaders, len(self._banner))
        super().begin()

    def write(self, data: bytes) -> None:
        if not self._looking:
            self.sink.write(data)
            return
        self._held += data
        end = min(len(self._held), self._search)
        place = None
        if b">" in data:
            place, self._searched = after_body_tag(self._held, self._searched, end)
        if place is not None:
            self._insert(place)
        elif end == self._search:
            self._insert_at_the_beginning()

    def finish(self) -> None:
        if self._looking and self._held:
            self._insert_at_the_beginning()
        super().finish()

    def stop(self) -> None:
        self._looking = False
        self._held.clear()
        super().stop()

    def _insert_at_the_beginning(self) -> None:
        before = _BEFORE_ALL.match(self._held)
        self._insert(before.end() if before else 0)

    def _insert(self, place: int) -> None:
        held, self._held = self._held, bytearray()
        self._looking = False
        self.sink.write(bytes(held[:place]) + self._banner)
        if place < len(held):
            self.sink.write(bytes(held[place:]))


def is_whole_plain_html(request: Any) -> bool:
    """Whether a response is one to put a banner into: HTML, all of it, and not compressed."""
    if request.code in _WITHOUT_BODY_OR_WITH_A_PART:
        return False

    def value(name: bytes) -> bytes:
        values: list[bytes] = request.responseHeaders.getRawHeaders(name, [])
        return b",".join(values).strip().lower()

    kind, _, parameters = value(b"content-type").partition(b";")
    length = value(b"content-length")
    return (
        kind.strip() == b"text/html"
        and b"utf-16" not in parameters
        and b"utf-32" not in parameters
        and value(b"content-encoding") in (b"", b"identity")
        # RFC 9111 section 5.2.2.6: whoever says so wants nothing changed.
        and b"no-transform" not in value(b"cache-control")
        and (not length or (length.isdigit() and int(length) > 0))
    )


def adapt_headers(headers: Any, more: int) -> None:
    """Make the headers of a page right for one that is longer."""
    length = headers.getRawHeaders(b"content-length")
    if length:
        headers.setRawHeaders(b"content-length", [b"%d" % (int(length[0]) + more)])
    # The application knows where its own bytes are, not where those are that the client has.
    if headers.hasHeader(b"accept-ranges"):
        headers.setRawHeaders(b"accept-ranges", [b"none"])
    etag = headers.getRawHeaders(b"etag")
    if etag and not etag[0].startswith(b"W/"):
        headers.setRawHeaders(b"etag", [b"W/" + etag[0]])
    for name in _DIGESTS:
        headers.removeHeader(name)


def after_body_tag(page: bytes | bytearray, start: int, end: int) -> tuple[int | None, int]:
    """Look for the end of the body tag.

    @param start: up to where the page is known to have none.
    @param end: how much of the page to look at.
    @return: the place behind the tag, or None; and `start` for the next time.
    """
    while True:
        token = _TOKEN.search(page, start, end)
        if token is None:
            return None, end
        if token["body"]:
            return token.end(), end
        if token["incomplete"] is not None:
            return None, token.start()
        start = token.end()
