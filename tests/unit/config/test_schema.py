"""The schema language, as a plug-in's author uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from kproxy.config.model import Healthcheck
from kproxy.config.node import Node, Report
from kproxy.config.schema import (
    Boolean,
    Checked,
    Choice,
    CommaList,
    Integer,
    ListOf,
    MapOf,
    Number,
    Option,
    Rejected,
    Seconds,
    Section,
    Text,
    Type,
)
from kproxy.config.yamlfile import read_map
from tests.unit.config.helpers import Files


@dataclass(frozen=True)
class Limits:
    requests: int
    per_second: float = 1.5
    by: str = "address"

    def __post_init__(self) -> None:
        if self.requests > 100 and self.by == "address":
            raise ValueError("an address may have 100 requests at most")


OPTIONS = Section(
    Option("requests", Integer(minimum=1), required=True, help="How many."),
    Option("per-second", Seconds(above=0)),
    Option("by", Choice("address", "user")),
    into=Limits,
)


def node(files: Files, text: str) -> Node:
    value = read_map(files.write(f"it: {text}\n"), {}, Report()).raw.entries["it"].value
    return Node(value, ("it",))


def read(files: Files, kind: Type[Any], text: str) -> Any:
    report = Report()
    value = kind.read(node(files, text), report)
    assert not report.problems
    return value


def rejection(files: Files, kind: Type[Any], text: str) -> list[str]:
    report = Report()
    with pytest.raises(Rejected):
        kind.read(node(files, text), report)
    return [f"{problem.key}: {problem.message}" for problem in report.problems]


def test_a_section_makes_a_dataclass_whose_defaults_hold(files: Files) -> None:
    assert read(files, OPTIONS, "{requests: 5}") == Limits(5)
    assert read(files, OPTIONS, "{requests: 5, per-second: 2, by: user}") == Limits(5, 2, "user")


def test_a_section_reports_all_that_is_wrong_with_it(files: Files) -> None:
    assert rejection(files, OPTIONS, "{per-second: 0, by: usr, request: 1}") == [
        "it: requests is missing",
        "it.per-second: should be a number of seconds, more than 0, is 0",
        'it.by: should be address or user, is "usr"; did you mean "user"?',
        'it.request: is not a known option; did you mean "requests"?',
    ]


def test_a_rule_of_the_dataclass_is_a_problem_of_the_section(files: Files) -> None:
    assert rejection(files, OPTIONS, "{requests: 101}") == [
        "it: an address may have 100 requests at most"
    ]


def test_of_some_options_only_one_may_be_written(files: Files) -> None:
    section = Section(Option("a", Text()), Option("b", Text()), either=(("a", "b"),))
    assert read(files, section, "{a: x, b: }") == {"a": "x", "b": None}
    assert rejection(files, section, "{a: x, b: 3}") == [
        "it: a and b can't both be given",
        "it.b: should be text, is 3; put quotes around it",
    ]


def test_some_options_are_written_together_or_not_at_all(files: Files) -> None:
    section = Section(Option("a", Text()), Option("b", Text()), together=(("a", "b"),))
    assert read(files, section, "{}") == {"a": None, "b": None}
    assert rejection(files, section, "{b: x}") == ["it: a is missing; it goes with b"]


def test_a_section_can_be_read_without_the_options_that_are_wrong(files: Files) -> None:
    section = Section(Option("path", Text()), Option("timeout", Seconds(above=0)), into=Healthcheck)
    report = Report()
    value, unread = section.read_partly(node(files, "{path: /x, timeout: 0, pth: 1}"), report)
    assert value == Healthcheck(path="/x")
    assert unread == {"timeout", "path"}
    assert len(report) == 2


def test_what_a_section_makes_may_be_imported_when_it_is_needed(files: Files) -> None:
    section: Section[Any] = Section(Option("path", Text()), into="kproxy.config.model.Healthcheck")
    assert read(files, section, "{path: /x}") == Healthcheck("/x")
    assert section.default_of(section.options[0]) == "/up"


def test_the_defaults_may_be_those_of_another_than_the_function_that_makes_it() -> None:
    section = Section(Option("path", Text()), into=lambda **_: None, defaults=Healthcheck)
    assert section.default_of(section.options[0]) == "/up"


def test_a_section_without_a_dataclass_makes_a_dict(files: Files) -> None:
    section = Section(Option("a", Integer(), default=3), Option("b", Text()))
    assert read(files, section, "{}") == {"a": 3, "b": None}
    assert read(files, section, "") == {"a": 3, "b": None}


def test_options_can_be_listed_with_type_default_and_help() -> None:
    outer = Section(Option("limits", OPTIONS))
    listed = [
        (name, option.type.description, holder.default_of(option), option.help)
        for name, holder, option in outer.walk()
    ]
    assert listed == [
        ("limits", "a map", None, ""),
        ("limits.requests", "an integer, at least 1", None, "How many."),
        ("limits.per-second", "a number of seconds, more than 0", 1.5, ""),
        ("limits.by", "address or user", "address", ""),
    ]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Boolean(), "Yes", True),
        (Boolean(), "false", False),
        (Integer(), "1_000", 1000),
        (Integer(), "0x1F", 31),
        (Number(), "1.5", 1.5),
        (Number(), "2", 2.0),
        (Text(), "'3'", "3"),
        (Choice("on", "off"), "on", "on"),
        (ListOf(Integer()), "[1, 2]", (1, 2)),
        (MapOf(Integer()), "{a: 1}", {"a": 1}),
        (CommaList(Text()), "a, b", ("a", "b")),
        (CommaList(Text()), "[a, 'b']", ("a", "b")),
        (Checked(Text(), str.upper), "a", "A"),
    ],
)
def test_types_read_what_they_should(files: Files, kind: Type[Any], text: str, value: Any) -> None:
    assert read(files, kind, text) == value


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Integer(maximum=3), "4", "should be an integer, at most 3, is 4"),
        (Integer(1, 3), "4", "should be an integer from 1 to 3, is 4"),
        (Integer(), "1.5", "should be an integer, is 1.5"),
        (Integer(), "{}", "should be an integer, is a map"),
        (Number(minimum=0, maximum=1), "2", "should be a number, at least 0, at most 1, is 2"),
        (Text(), "3", "should be text, is 3; put quotes around it"),
        (Text(), "[a]", "should be text, is a list"),
        (Text(), "''", 'should be text, is ""'),
        (Choice("a", "b", "c"), "1", "should be a, b or c, is 1"),
        (ListOf(Integer()), "1", "should be a list, is 1"),
        (MapOf(Integer()), "1", "should be a map, is 1"),
        (Checked(Text(), float), "x", "could not convert string to float: 'x', is \"x\""),
        (Text(), "[" + "a" * 100 + "]", "should be text, is a list"),
        (Integer(), "a" * 100, 'should be an integer, is "' + "a" * 59 + '…"'),
    ],
)
def test_types_say_what_they_want(files: Files, kind: Type[Any], text: str, message: str) -> None:
    assert rejection(files, kind, text) == [f"it: {message}"]


def test_every_element_of_a_list_or_map_is_checked(files: Files) -> None:
    assert len(rejection(files, ListOf(Integer()), "[a, 1, b]")) == 2
    assert rejection(files, MapOf(Integer()), "{x: a, y: 1}") == [
        'it.x: should be an integer, is "a"'
    ]


@pytest.mark.parametrize("text", ["5551", "[x5551]", "{x5551: 1}"])
def test_a_secret_is_not_quoted(files: Files, text: str) -> None:
    assert "5551" not in " ".join(rejection(files, Text(secret=True), text))


def test_a_scalar_in_place_of_a_section_with_a_secret_is_not_quoted(files: Files) -> None:
    section = Section(Option("key", Text(secret=True)))
    assert rejection(files, section, "x5551") == ["it: should be a map"]
