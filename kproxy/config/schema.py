"""Declare what a piece of configuration may hold, once: for reading, for errors, for the docs.

A wrapper plug-in describes its options as a `Section`::

    from dataclasses import dataclass
    from kproxy.config.schema import Choice, Integer, Option, Section, Seconds

    @dataclass(frozen=True)
    class Limits:
        requests: int
        per: float = 60.0
        by: str = "address"

    OPTIONS = Section(
        Option("requests", Integer(minimum=1), required=True, help="How many are let through."),
        Option("per", Seconds(above=0), help="In how much time."),
        Option("by", Choice("address", "user"), help="Whose requests are counted together."),
        into=Limits,
    )

`Section.read` makes a ``Limits`` of what an operator wrote, or tells a `Report` of everything that
is wrong with it, each with file, line, column and dotted key. An option that was not written takes
the default of the dataclass; one that has ``default=`` takes that. A rule between options belongs
into ``Limits.__post_init__``: a ``ValueError`` from there becomes a problem of the section. A rule
for one value is `Checked`, or a `Type` of one's own, which has a `description` and a `read`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, TypeVar, cast, overload

from kproxy.config.node import ConfigurationError, Node, Position, Problem, Rejected, Report
from kproxy.config.values import (
    Anything,
    Boolean,
    Checked,
    Choice,
    Integer,
    Number,
    OneOf,
    Seconds,
    Text,
    Type,
    did_you_mean,
)

__all__ = [
    "UNSET",
    "Anything",
    "Boolean",
    "Checked",
    "Choice",
    "CommaList",
    "ConfigurationError",
    "Integer",
    "ListOf",
    "MapOf",
    "Node",
    "Number",
    "OneOf",
    "Option",
    "Position",
    "Problem",
    "Rejected",
    "Report",
    "Seconds",
    "Section",
    "Text",
    "Type",
    "did_you_mean",
]

T = TypeVar("T")


class _Unset(Enum):
    UNSET = "no default"


UNSET: Final = _Unset.UNSET
"""An `Option` without a default of its own."""


class ListOf(Type[tuple[T, ...]], Generic[T]):
    """A list whose elements are of one type."""

    def __init__(self, element: Type[T]) -> None:
        self.element = element
        self.secret = element.secret

    @property
    def description(self) -> str:
        return f"a list, each {self.element.description}"

    def read(self, node: Node, report: Report) -> tuple[T, ...]:
        if node.tag != "seq":
            self.reject(node, report, "a list")
        return tuple(_read_all(node.elements(), self.element, report))


class MapOf(Type[dict[str, T]], Generic[T]):
    """A map with keys that are free to choose, and values of one type."""

    def __init__(self, value: Type[T]) -> None:
        self.value = value
        self.secret = value.secret

    @property
    def description(self) -> str:
        return f"a map, each value {self.value.description}"

    def read(self, node: Node, report: Report) -> dict[str, T]:
        if node.tag != "map":
            self.reject(node, report, "a map")
        keys, nodes = [], []
        for key, value in node.items():
            keys.append(key)
            nodes.append(value)
        return dict(zip(keys, _read_all(nodes, self.value, report), strict=True))


class CommaList(Type[tuple[T, ...]], Generic[T]):
    """Text with commas between the elements, or a list of them."""

    def __init__(self, element: Type[T]) -> None:
        self.element = element
        self.secret = element.secret

    @property
    def description(self) -> str:
        return f"{self.element.description}, or several with commas between them, or a list"

    def read(self, node: Node, report: Report) -> tuple[T, ...]:
        if node.tag == "seq":
            return tuple(_read_all(node.elements(), self.element, report))
        if node.tag != "str" or "," not in node.text:
            return (self.element.read(node, report),)
        pieces = [
            Node(dataclasses.replace(node.raw, text=piece.strip()), node.path)
            for piece in node.text.split(",")
        ]
        return tuple(_read_all(pieces, self.element, report))


@dataclass(frozen=True)
class Option:
    """One key of a `Section`."""

    name: str
    """As it is written; with ``into=`` a dash becomes the underscore of a Python name."""
    type: Type[Any]
    default: Any = UNSET
    """The value when the key is not written. Left out: the dataclass's default, else None."""
    required: bool = False
    help: str = ""
    """A sentence for ``kproxy wrappers`` and the reference documentation."""


class Section(Type[T], Generic[T]):
    """A map whose keys are known."""

    description = "a map"

    @overload
    def __init__(self: Section[dict[str, Any]], *options: Option) -> None: ...

    @overload
    def __init__(self, *options: Option, into: Callable[..., T]) -> None: ...

    def __init__(self, *options: Option, into: Callable[..., Any] = dict) -> None:
        """
        @param into: what the values are given to, by name; a frozen dataclass mostly. A
            ``ValueError`` from it becomes a problem of the section.
        """
        self.options = options
        self.into = into
        self.secret = any(option.type.secret for option in options)

    def read(self, node: Node, report: Report) -> T:
        """Like `Type.read`; nothing written (``rate-limit:``) is an empty map."""
        if node.tag not in ("map", "null"):
            self.reject(node, report)
        values: dict[str, Any] = {}
        sound = self._report_unknown(node, report)
        for option in self.options:
            value = node.get(option.name)
            if value is not None:
                try:
                    values[option.name] = option.type.read(value, report)
                except Rejected:
                    sound = False
            elif option.required:
                node.report(report, f"{option.name} is missing")
                sound = False
            elif option.default is not UNSET:
                values[option.name] = option.default
            elif self.into is dict:
                values[option.name] = None
        if not sound:
            raise Rejected
        if self.into is not dict:
            values = {name.replace("-", "_"): value for name, value in values.items()}
        try:
            return cast(T, self.into(**values))
        except ValueError as error:
            raise node.report(report, str(error)) from error

    def default_of(self, option: Option) -> Any:
        """What an option is when it is not written; None also where there is no such thing."""
        if option.default is not UNSET:
            return option.default
        if dataclasses.is_dataclass(self.into):
            for field in dataclasses.fields(self.into):
                if (
                    field.name == option.name.replace("-", "_")
                    and field.default is not dataclasses.MISSING
                ):
                    return field.default
        return None

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Section[Any], Option]]:
        """All options with their dotted names, those of nested sections behind their own."""
        for option in self.options:
            yield prefix + option.name, self, option
            inner = option.type
            if isinstance(inner, OneOf):
                inner = inner.types.get("map", inner)
            if isinstance(inner, Section):
                yield from inner.walk(f"{prefix}{option.name}.")

    def _report_unknown(self, node: Node, report: Report) -> bool:
        known = [option.name for option in self.options]
        unknown = [(key, value) for key, value in node.items() if key not in known]
        for key, value in unknown:
            guess = did_you_mean(key, known)
            report.add(node.at_key(key), value.key, f"is not a known option{guess}")
        return not unknown


def _read_all(nodes: Iterable[Node], each: Type[T], report: Report) -> list[T]:
    """Read all of them, so that the report hears of every problem, then fail if one did."""
    values = []
    sound = True
    for node in nodes:
        try:
            values.append(each.read(node, report))
        except Rejected:
            sound = False
    if not sound:
        raise Rejected
    return values
