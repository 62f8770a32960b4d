"""The types of single values of a configuration; `kproxy.config.schema` combines them."""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar, cast

from kproxy.config.node import Node, Report

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")


class Type(ABC, Generic[T_co]):
    """What a value may be."""

    secret: bool = False
    """Whether a message must not quote the value."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What it is, with its article, so that "should be …" reads well: ``an integer``."""

    @abstractmethod
    def read(self, node: Node, report: Report) -> T_co:
        """Make a value of what was written.

        @raise Rejected: the value can't be used; the report has been told everything about it.
        """

    def reject(self, node: Node, report: Report, expected: str | None = None) -> NoReturn:
        """Report that a value is not of this type.

        @param expected: what it should be, if `description` would say more than helps.
        """
        found = "" if self.secret else f", is {node.describe()}"
        raise node.report(report, f"should be {expected or self.description}{found}")


class Anything(Type[None]):
    """A value that is none of our business: it is accepted and ignored."""

    description = "anything"

    def read(self, node: Node, report: Report) -> None:
        return None


class Boolean(Type[bool]):
    """``true`` or ``false``, and YAML's other words for them."""

    description = "true or false"

    def read(self, node: Node, report: Report) -> bool:
        if node.tag != "bool":
            self.reject(node, report)
        return node.text.lower() in ("true", "yes", "on")


@dataclass(frozen=True)
class Integer(Type[int]):
    """A whole number; ``40_000_000`` is one."""

    minimum: int | None = None
    maximum: int | None = None

    @property
    def description(self) -> str:
        if self.minimum is not None and self.maximum is not None:
            return f"an integer from {self.minimum} to {self.maximum}"
        if self.minimum is not None:
            return f"an integer, at least {self.minimum}"
        return "an integer" if self.maximum is None else f"an integer, at most {self.maximum}"

    def read(self, node: Node, report: Report) -> int:
        if node.tag != "int":
            self.reject(node, report, "an integer")
        value = int(_number(node, self, report))
        if (self.minimum is not None and value < self.minimum) or (
            self.maximum is not None and value > self.maximum
        ):
            self.reject(node, report)
        return value


@dataclass(frozen=True)
class Number(Type[float]):
    """A number, whole or not."""

    minimum: float | None = None
    above: float | None = None
    """Like `minimum`, without the number itself."""
    maximum: float | None = None

    _noun = "a number"

    @property
    def description(self) -> str:
        limits = [
            f"{words} {limit:g}"
            for words, limit in (
                ("at least", self.minimum),
                ("more than", self.above),
                ("at most", self.maximum),
            )
            if limit is not None
        ]
        return ", ".join([self._noun, *limits])

    def read(self, node: Node, report: Report) -> float:
        if node.tag not in ("int", "float"):
            self.reject(node, report)
        value = float(_number(node, self, report))
        if (
            not math.isfinite(value)
            or (self.minimum is not None and value < self.minimum)
            or (self.above is not None and value <= self.above)
            or (self.maximum is not None and value > self.maximum)
        ):
            self.reject(node, report)
        return value


class Seconds(Number):
    """A length of time."""

    _noun = "a number of seconds"


def _number(node: Node, expected: Type[Any], report: Report) -> float:
    # The rules of YAML 1.1 for numbers (underscores, other bases) are PyYAML's own. Workers know what
    # options there are, but read none: they do without PyYAML.
    import yaml

    constructor = yaml.constructor.SafeConstructor()
    scalar = yaml.ScalarNode("", node.text)
    construct = constructor.construct_yaml_int if node.tag == "int" else None
    try:
        return cast(float, (construct or constructor.construct_yaml_float)(scalar))
    except (ValueError, OverflowError):
        expected.reject(node, report)


@dataclass(frozen=True)
class Text(Type[str]):
    """Text that is not empty.

    @ivar secret: never quote the value in a message.
    """

    secret: bool = False
    description = "text"

    def read(self, node: Node, report: Report) -> str:
        if node.tag in ("map", "seq", "null") or (node.tag == "str" and not node.text):
            self.reject(node, report)
        if node.tag != "str":
            found = "" if self.secret else f", is {node.describe()}"
            raise node.report(report, f"should be text{found}; put quotes around it")
        return node.text


class Choice(Type[str]):
    """One word of a few."""

    def __init__(self, *words: str) -> None:
        self.words = words

    @property
    def description(self) -> str:
        return " or ".join(filter(None, (", ".join(self.words[:-1]), self.words[-1])))

    def read(self, node: Node, report: Report) -> str:
        if node.tag in ("map", "seq") or node.text not in self.words:
            guess = did_you_mean(node.text, self.words)
            raise node.report(report, f"should be {self.description}, is {node.describe()}{guess}")
        return node.text


class Checked(Type[U], Generic[T, U]):
    """A type with a further rule, or a conversion.

    @param check: makes the final value; a ``ValueError`` from it becomes a problem, and its text is
        the rest of a sentence that begins with the key: ``should begin with a slash``.
    @param description: for the docs; by default that of the inner type.
    """

    def __init__(
        self, inner: Type[T], check: Callable[[T], U], *, description: str | None = None
    ) -> None:
        self.inner = inner
        self.check = check
        self.secret = inner.secret
        self._description = description or inner.description

    @property
    def description(self) -> str:
        return self._description

    def read(self, node: Node, report: Report) -> U:
        value = self.inner.read(node, report)
        try:
            return self.check(value)
        except ValueError as error:
            found = "" if self.secret else f", is {node.describe()}"
            raise node.report(report, f"{error}{found}") from error


class OneOf(Type[Any]):
    """Different types for different kinds of values: ``OneOf(bool=Boolean(), map=Section(…))``.

    @param types: YAML's tag of a value (`Node.tag`) and how to read a value that has it.
    """

    def __init__(self, **types: Type[Any]) -> None:
        self.types = types
        self.secret = any(each.secret for each in types.values())

    @property
    def description(self) -> str:
        return " or ".join(dict.fromkeys(each.description for each in self.types.values()))

    def read(self, node: Node, report: Report) -> Any:
        chosen = self.types.get(node.tag)
        if chosen is None:
            self.reject(node, report)
        return chosen.read(node, report)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a word was most likely meant to be."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean "hosts"?`` if a known word is near, else nothing."""
    near = nearest(word, known)
    return f'; did you mean "{near}"?' if near else ""
