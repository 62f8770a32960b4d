"""The part of ERB that kproxy understands in a deploy.yml: reading the environment.

Kamal renders the file with Ruby before YAML sees it, so a tag may stand anywhere, in a comment
too. The rendered text is what YAML reads; `Rendered.position` leads from there back to the file.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

_TAG = re.compile(r"<%(?P<body>.*?)%>|<%", re.DOTALL)
_QUOTED = r"""(?:"(?P<{0}d>[^"\\]*)"|'(?P<{0}s>[^'\\]*)')"""
_LOOKUP = re.compile(
    r"=\s*ENV\s*(?:\[\s*"
    + _QUOTED.format("key")
    + r"\s*\]|\.\s*fetch\s*\(\s*"
    + _QUOTED.format("name")
    + r"\s*(?P<otherwise>,\s*"
    + _QUOTED.format("default")
    + r"\s*)?\))\s*"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A tag that can't be rendered, with its place; line and column count from 1."""

    line: int
    column: int
    message: str


@dataclass(frozen=True)
class Rendered:
    """A rendered file, and the way back to what was written."""

    source: str
    text: str
    faults: tuple[Fault, ...] = ()
    _pieces: tuple[tuple[int, int, bool], ...] = ((0, 0, True),)
    """Offset in the text, offset in the source, whether the text there is the source's own."""

    # A file may hold thousands of tags, and more values: each is found without counting lines anew.

    @cached_property
    def _starts(self) -> list[int]:
        return [piece[0] for piece in self._pieces]

    @cached_property
    def _text_lines(self) -> list[int]:
        return _line_starts(self.text)

    @cached_property
    def _source_lines(self) -> list[int]:
        return _line_starts(self.source)

    def position(self, line: int, column: int) -> tuple[int, int]:
        """Where in the file something stands that YAML found in the rendered text.

        @param line: counted from 0, as YAML does, and so is `column`.
        @return: line and column, counted from 1.
        """
        if len(self._pieces) == 1:
            return line + 1, column + 1
        offset = self._text_lines[min(line, len(self._text_lines) - 1)] + column
        at, origin, own = self._pieces[bisect_right(self._starts, offset) - 1]
        place = origin + (offset - at if own else 0)
        source_line = bisect_right(self._source_lines, place)
        return source_line, place - self._source_lines[source_line - 1] + 1


def render(source: str, environ: Mapping[str, str]) -> Rendered:
    """Replace the tags that read the environment; a tag with a fault becomes nothing."""
    text: list[str] = []
    pieces: list[tuple[int, int, bool]] = []
    faults: list[Fault] = []
    length = end = 0
    for tag in _TAG.finditer(source):
        own = source[end : tag.start()]
        pieces += [(length, end, True), (length + len(own), tag.start(), False)]
        try:
            value = _value(tag["body"], environ)
        except ValueError as error:
            value = ""
            faults.append(Fault(*line_and_column(source, tag.start()), str(error)))
        text += [own, value]
        length += len(own) + len(value)
        end = tag.end()
    text.append(source[end:])
    pieces.append((length, end, True))
    return Rendered(source, "".join(text), tuple(faults), tuple(pieces))


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Where an offset is, both counted from 1."""
    before = text.count("\n", 0, offset)
    return before + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1


def _value(body: str | None, environ: Mapping[str, str]) -> str:
    if body is None:
        raise ValueError("this ERB tag has no end (%>)")
    lookup = _LOOKUP.fullmatch(body)
    if lookup is None:
        raise ValueError(
            'this ERB tag needs Ruby; kproxy understands only <%= ENV["X"] %>, '
            '<%= ENV.fetch("X") %> and <%= ENV.fetch("X", "default") %>'
        )
    groups = lookup.groupdict()

    def quoted(name: str) -> str | None:
        double: str | None = groups[name + "d"]
        return double if double is not None else groups[name + "s"]

    key = quoted("key")
    if key is not None:
        return environ.get(key, "")
    name = quoted("name") or ""
    value = environ.get(name, quoted("default"))
    if value is None:
        raise ValueError(f"the environment variable {name} is not set, and no default is given")
    return value


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]
