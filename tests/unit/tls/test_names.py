"""Which certificate a client gets, by the name it asks for."""

from __future__ import annotations

import pytest

from kproxy.snapshot import Certificate, TLSChallenge, TLSName
from kproxy.tls.names import Names


def certificate(text: str) -> Certificate:
    return Certificate(text, text)


def names(*listed: str) -> Names:
    return Names([TLSName(name, certificate(name)) for name in listed])


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("a.example", "a.example"),
        ("www.a.example", "*.a.example"),
        ("api.a.example", "api.a.example"),
        ("x.api.a.example", None),
        ("b.example", None),
        ("example", None),
        ("*.a.example", "*.a.example"),
        ("", "api.a.example"),
    ],
)
def test_exact_beats_a_wildcard_of_one_label_and_without_a_name_the_first_counts(
    asked: str, found: str | None
) -> None:
    entry = names("api.a.example", "*.a.example", "a.example").find(asked)
    assert (entry and entry.name) == found


@pytest.mark.parametrize("asked", ["", "a.example"])
def test_where_nothing_is_served_nothing_is_found(asked: str) -> None:
    assert Names().find(asked) is None


def test_a_name_that_waits_for_its_certificate_does_not_fall_back_to_a_wildcard() -> None:
    table = Names([TLSName("*.a.example", certificate("w")), TLSName("www.a.example")])
    entry = table.find("www.a.example")
    assert entry is not None
    assert entry.certificate is None


def test_challenges_are_for_their_names_alone() -> None:
    table = Names((), [TLSChallenge("a.example", certificate("c"))])
    assert table.challenge("a.example") == certificate("c")
    assert table.challenge("b.example") is None
    assert table.find("a.example") is None


def test_what_was_renewed_is_told() -> None:
    old = Names([TLSName("a", certificate("1")), TLSName("b", certificate("2")), TLSName("c")])
    new = Names(
        [
            TLSName("a", certificate("3")),
            TLSName("b", certificate("2")),
            TLSName("c", certificate("4")),
        ]
    )
    assert new.renewed_since(old) == {certificate("1"): certificate("3")}
    assert new.certificates() == {certificate(text) for text in "234"}
    assert old.certificates() == {certificate(text) for text in "12"}
