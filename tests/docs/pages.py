"""What a page of the documentation shows in its fenced blocks, and whether it is true."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md"])

_FENCE = re.compile(r"^```(?P<language>[\w-]*) ?(?P<name>.*?)\n(?P<text>.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]]*\]\((?P<to>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: "```LANGUAGE NAME" and what follows."""

    page: str
    line: int
    language: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[tuple[str, str]]:
        """The lines of a console block that begin with ``$``, each with the output below it. A
        backslash at its end lets a command go on in the next line."""
        for part in re.split(r"^\$ ", self.text, flags=re.M)[1:]:
            command, _, output = part.replace("\\\n", " ").partition("\n")
            yield command, output


def blocks(page: Path, replace: Mapping[str, str] | None = None) -> list[Block]:
    """The blocks of a page.

    @param replace: other texts for some texts of the page, port numbers above all.
    """
    text = page.read_text("utf-8")
    if replace:
        # In one go: a port that takes the place of another may have a third one in it.
        text = re.sub("|".join(map(re.escape, replace)), lambda found: replace[found[0]], text)
    return [
        Block(
            page.name,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["name"],
            found["text"],
        )
        for found in _FENCE.finditer(text)
    ]


def links(page: Path) -> list[str]:
    """Where the links of a page lead to."""
    return [found["to"] for found in _LINK.finditer(page.read_text("utf-8"))]


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives the headings of a page."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def pattern(shown: str) -> re.Pattern[str]:
    """What is shown: "…" alone on a line stands for any lines, within one for any text, and columns
    may be wider."""
    text = ""
    for line in shown.splitlines():
        if line.strip() == "…":
            text += r"(?:.*\n)*?"
        else:
            parts = (r"\s+".join(map(re.escape, part.split(" "))) for part in line.split("…"))
            text += ".*".join(parts) + r"[ \t]*\n"
    return re.compile(text)


def is_shown(actual: str, shown: str) -> bool:
    """Whether an output is the one that the page shows."""
    ended = actual if not actual or actual.endswith("\n") else actual + "\n"
    squeezed = re.sub(r" +", " ", ended.replace("\r", ""))
    return pattern(re.sub(r" +", " ", shown)).fullmatch(squeezed) is not None
