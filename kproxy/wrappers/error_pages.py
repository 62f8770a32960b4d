"""The pages of the answers that the proxy gives itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from twisted.web.resource import IResource
from zope.interface import implementer

from kproxy.config.pages import Pages, read_pages
from kproxy.errors import REASONS
from kproxy.interfaces import IErrorPages
from kproxy.streaming import streaming
from kproxy.wrappers.base import Wrapper

_MESSAGE = re.compile(r"\{\{\s*\.Message\s*\}\}")
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{code} {title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem;
color:#333}}h1{{font-size:1.4rem}}@media(prefers-color-scheme:dark){{body{{background:#111;color:#ccc}}
}}</style></head>
<body><h1>{code} {title}</h1><p>{text}</p></body>
</html>
"""
_TEXTS = {
    400: "The request could not be understood.",
    404: "There is nothing here.",
    408: "The request took too long to arrive.",
    413: "The request is larger than is allowed here.",
    414: "The address is longer than is allowed here.",
    431: "The headers are larger than is allowed here.",
    500: "Something went wrong.",
    502: "The application gave no proper answer.",
    503: "The application is not available at the moment.",
    504: "The application did not answer in time.",
}


@dataclass(frozen=True)
class Options:
    pages: Pages = ()
    """Status and HTML; the built-in pages are used for statuses that are not here."""


def at(path: str | None = None) -> Options:
    """The options as deploy.yml writes them.

    @raise ValueError: there is no such folder.
    """
    if path is None:
        return Options()
    try:
        return Options(read_pages(Path(path)))
    except ValueError as error:
        raise ValueError(f"path {error}, is {path!r}") from None


@implementer(IErrorPages)
class ErrorPages(Wrapper):
    """Lets everything inside answer with these pages. The innermost of several counts."""

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:
        super().__init__(wrapped)
        self._pages = dict(options.pages)

    def render(self, request: Any) -> Any:
        streaming(request).notes["error_pages"] = self
        return self.wrapped.render(request)

    def page(self, code: int, message: str) -> bytes:
        template = self._pages.get(code)
        if template is not None:
            return _MESSAGE.sub(lambda _: escape(message), template).encode("utf-8")
        title = REASONS.get(code, b"Error").decode("ascii")
        text = escape(message) or _TEXTS.get(code, "")
        return _PAGE.format(code=code, title=title, text=text).encode("utf-8")
