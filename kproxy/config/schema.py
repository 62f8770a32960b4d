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
into ``Limits.__post_init__``: once each option is right by itself, a ``ValueError`` from there
becomes a problem of the section. A rule for one value is `Checked`, or a `Type` of one's own, which
has a `description` and a `read`.
"""

from __future__ import annotations

import dataclasses
import importlib
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
    nearest,
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
    def __init__(
        self: Section[dict[str, Any]],
        *options: Option,
        either: tuple[tuple[str, ...], ...] = (),
        together: tuple[tuple[str, ...], ...] = (),
    ) -> None: ...

    @overload
    def __init__(
        self,
        *options: Option,
        into: Callable[..., T],
        defaults: type | None = None,
        either: tuple[tuple[str, ...], ...] = (),
        together: tuple[tuple[str, ...], ...] = (),
    ) -> None: ...

    @overload
    def __init__(
        self: Section[Any],
        *options: Option,
        into: str,
        defaults: type | None = None,
        either: tuple[tuple[str, ...], ...] = (),
        together: tuple[tuple[str, ...], ...] = (),
    ) -> None: ...

    def __init__(
        self,
        *options: Option,
        into: Callable[..., Any] | str = dict,
        defaults: type | None = None,
        either: tuple[tuple[str, ...], ...] = (),
        together: tuple[tuple[str, ...], ...] = (),
    ) -> None:
        """
        @param into: what the values are given to, by name; a frozen dataclass mostly, or where to
            import it from (``package.module.Class``) once it is needed. A ``ValueError`` from it
            becomes a problem of the section.
        @param defaults: the dataclass that has the defaults, where `into` is a function.
        @param either: groups of options of which only one may be written.
        @param together: groups of options of which all have to be written, or none.
        """
        self.options = options
        self._known = frozenset(option.name for option in options)
        self.secret = any(option.type.secret for option in options)
        self._into = into
        self._defaults = defaults
        self._either = either
        self._together = together

    @property
    def into(self) -> Callable[..., Any]:
        """What the values are given to, imported if need be.

        @raise Exception: whatever importing it raises.
        """
        if not isinstance(self._into, str):
            return self._into
        found: Callable[..., Any] = imported(self._into)
        return found

    def read(self, node: Node, report: Report) -> T:
        """Like `Type.read`; nothing written (``rate-limit:``) is an empty map."""
        values, unread = self._read_options(node, report)
        if unread:
            raise Rejected
        return self._make(values, node, report)

    def read_partly(self, node: Node, report: Report) -> tuple[T, frozenset[str]]:
        """Like `read`, for a caller who has a use for the rest when an option can't be read.

        It is meant for sections whose options all have defaults.

        @return: what was made without those options, and their names; a key that is not known
            counts as the option that it resembles.
        """
        values, unread = self._read_options(node, report)
        return self._make(values, node, report), frozenset(unread)

    def _read_options(self, node: Node, report: Report) -> tuple[dict[str, Any], set[str]]:
        """The values of the options, and the names of those that there is something wrong with."""
        if node.tag not in ("map", "null"):
            self.reject(node, report)
        values: dict[str, Any] = {}
        unread = self._report_unknown(node, report) | self._report_combinations(node, report)
        for option in self.options:
            value = node.get(option.name)
            if value is not None:
                try:
                    values[option.name] = option.type.read(value, report)
                except Rejected:
                    unread.add(option.name)
            elif option.required:
                node.report(report, f"{option.name} is missing")
                unread.add(option.name)
            elif option.default is not UNSET:
                values[option.name] = option.default
            elif self._into is dict:
                values[option.name] = None
        return values, unread

    def _make(self, values: dict[str, Any], node: Node, report: Report) -> T:
        if self._into is not dict:
            values = {name.replace("-", "_"): value for name, value in values.items()}
        try:
            return cast(T, self.into(**values))
        except ValueError as error:
            raise node.report(report, str(error)) from error

    def default_of(self, option: Option) -> Any:
        """What an option is when it is not written; None also where there is no such thing.

        @raise Exception: whatever importing what the values are given to raises.
        """
        if option.default is not UNSET:
            return option.default
        holder = self._defaults or self.into
        if dataclasses.is_dataclass(holder):
            for field in dataclasses.fields(holder):
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
            if isinstance(inner, Checked):
                inner = inner.inner
            if isinstance(inner, Section):
                yield from inner.walk(f"{prefix}{option.name}.")

    def _report_unknown(self, node: Node, report: Report) -> set[str]:
        if self._known.issuperset(node.raw.entries):
            return set()
        known = [option.name for option in self.options]
        unknown = {key: value for key, value in node.items() if key not in self._known}
        for key, value in unknown.items():
            guess = did_you_mean(key, known)
            report.add(node.at_key(key), value.key, f"is not a known option{guess}")
        return {nearest(key, known) or key for key in unknown}

    def _report_combinations(self, node: Node, report: Report) -> set[str]:
        """Rules about which options are written; they hold whatever the values are."""
        wrong: set[str] = set()
        for names in self._either:
            written = [name for name in names if node.get(name) is not None]
            if len(written) > 1:
                node.report(report, f"{' and '.join(written)} can't both be given")
                wrong.update(written)
        for names in self._together:
            written = [name for name in names if node.get(name) is not None]
            missing = [name for name in names if name not in written]
            if written and missing:
                node.report(report, f"{missing[0]} is missing; it goes with {written[0]}")
                wrong.update(names)
        return wrong


def imported(name: str) -> Any:
    """What ``package.module.name`` stands for.

    @raise Exception: whatever importing it raises.
    """
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


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
