"""A configuration file as a tree that remembers where each value was written.

1. A `Raw` is one value of a file and its `Position`. It is made once and never changed; an alias
   shares the `Raw` of its anchor.
2. A `Node` is a `Raw` seen from a place in the configuration: it adds the dotted key. Nodes are
   what schema types and wrapper plug-ins read.
3. `merge` lays one tree over another and leaves both alone. What it took from either side keeps
   its position and its dotted key, so a problem always names the place that has to be edited.
4. Every problem goes to a `Report`. Whoever reports one raises `Rejected` when there is no value to
   go on with, so that whoever reads a group of values can read the rest of them first.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_YAML = "tag:yaml.org,2002:"
_LONGEST_QUOTE = 60

# Kamal itself would take both of a pair for a contradiction. Where one map is laid over another,
# the later spelling is meant to replace the earlier one.
_SPELLINGS = {
    "host": "hosts",
    "hosts": "host",
    "path_prefix": "path_prefixes",
    "path_prefixes": "path_prefix",
}


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; ``str()`` of it is the line that an operator reads."""

    position: Position
    key: str
    """Dotted, as ``proxy.buffering.memory``; empty when the file as a whole is meant."""
    message: str
    """The rest of a sentence that begins with the key: ``should be an integer, is "lots"``."""

    def __str__(self) -> str:
        place = f"{self.position.file}:{self.position.line}:{self.position.column}: "
        return place + (f"{self.key}: {self.message}" if self.key else self.message)


class Rejected(Exception):
    """A value can't be used, and a `Report` has been told why."""


class ConfigurationError(Exception):
    """The configuration can't be used."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(slots=True)
class Report:
    """Collects problems. One that was seen already (by two roles, say) is kept once."""

    files: list[str] = field(default_factory=list)
    """In which order those files are that problems may be in."""
    _problems: dict[Problem, None] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All of them, in the order of their files and lines."""
        order = {file: index for index, file in enumerate(self.files)}
        return tuple(
            sorted(
                self._problems,
                key=lambda p: (order.get(p.position.file, -1), p.position.line, p.position.column),
            )
        )

    def add(self, position: Position, key: str, message: str) -> None:
        """Take a problem. Line breaks in the message become spaces: a problem is one line."""
        self._problems.setdefault(Problem(position, key, " ".join(message.split())))

    def absorb(self, other: Report) -> None:
        """Take all the problems of another report."""
        for problem in other.problems:
            self._problems.setdefault(problem)

    def __len__(self) -> int:
        return len(self._problems)


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a map."""

    position: Position
    """Of the key."""
    value: Raw
    path: tuple[str, ...] | None = None
    """Where a merged value was written; None: under the map that holds it."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One YAML value: a scalar, a map or a list."""

    position: Position
    tag: str
    """YAML's, without its common prefix: ``str``, ``int``, ``map``."""
    text: str = ""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    elements: tuple[Raw, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a configuration file, with the place where it stands."""

    raw: Raw
    path: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The dotted key, as in ``proxy.buffering.memory``."""
        return ".".join(self.path)

    @property
    def position(self) -> Position:
        return self.raw.position

    @property
    def tag(self) -> str:
        """YAML's tag: ``str``, ``int``, ``float``, ``bool``, ``null``, ``map``, ``seq``, …"""
        return self.raw.tag

    @property
    def text(self) -> str:
        """A scalar as it was written, without its quotes."""
        return self.raw.text

    @property
    def is_null(self) -> bool:
        """Whether nothing was written, which means the same as leaving the key out."""
        return self.raw.tag == "null"

    def get(self, key: str) -> Node | None:
        """The value of a key of a map; None if it is not there, or nothing is written behind it."""
        entry = self.raw.entries.get(key)
        if entry is None or entry.value.tag == "null":
            return None
        return Node(entry.value, entry.path or (*self.path, key))

    def items(self) -> Iterator[tuple[str, Node]]:
        """The keys of a map and their values, in the order of the file; none for anything else."""
        for key, entry in self.raw.entries.items():
            yield key, Node(entry.value, entry.path or (*self.path, key))

    def elements(self) -> Iterator[Node]:
        """The elements of a list; none for anything else. They share the list's dotted key."""
        for element in self.raw.elements:
            yield Node(element, self.path)

    def at_key(self, key: str) -> Position:
        """Where a key of a map is written, as opposed to its value."""
        return self.raw.entries[key].position

    def describe(self) -> str:
        """What was written, for a message: ``"lots"``, ``12``, ``a map``."""
        if self.raw.tag in ("map", "seq"):
            return "a map" if self.raw.tag == "map" else "a list"
        if self.raw.tag == "null":
            return "empty"
        text = self.raw.text
        if len(text) > _LONGEST_QUOTE:
            text = text[: _LONGEST_QUOTE - 1] + "…"
        return f'"{text}"' if self.raw.tag == "str" else text

    def report(self, report: Report, message: str) -> Rejected:
        """Report a problem with this value.

        @return: an exception to raise, for a caller that has no value to go on with.
        """
        report.add(self.position, self.key, message)
        return Rejected(message)

    def without(self, keys: Container[str]) -> Node:
        """The same map, without some of its keys."""
        entries = {key: each for key, each in self.raw.entries.items() if key not in keys}
        return Node(Raw(self.position, "map", entries=entries), self.path)

    def empty(self) -> Node:
        """A map without keys in the same place, for what is written as a bare name."""
        return Node(Raw(self.position, "map"), self.path)


def short_tag(tag: str) -> str:
    """A YAML tag without the prefix that all standard ones share."""
    return tag.removeprefix(_YAML)


def merge(base: Node, overlay: Node) -> Node:
    """Lay a tree over another: maps are merged key by key, anything else of the overlay wins.

    An overlay's ``host`` replaces the base's ``hosts`` as well, and so for the other names that are
    two spellings of one option.
    """
    if base.tag != "map" or overlay.tag != "map":
        return overlay
    entries: dict[str, Entry] = {}
    for key, node in base.items():
        if key not in overlay.raw.entries and _SPELLINGS.get(key) in overlay.raw.entries:
            continue
        entries[key] = Entry(base.at_key(key), node.raw, node.path)
    for key, node in overlay.items():
        over = node
        if key in entries:
            under = entries[key]
            over = merge(Node(under.value, under.path or ()), node)
        entries[key] = Entry(overlay.at_key(key), over.raw, node.path)
    return Node(Raw(overlay.position, "map", entries=entries), overlay.path)
