"""`FieldMap` is Twisted's `Headers` to all who look at it, and keeps the wire text beside."""

from __future__ import annotations

import pytest
from twisted.web.http_headers import Headers

from kproxy.http.headers import BadField, FieldMap, _names, parse_field


def wire(headers: FieldMap) -> bytes:
    return b"\r\n".join(headers.lines())


def test_it_is_a_headers_and_equal_to_one_with_the_same_fields() -> None:
    ours, theirs = FieldMap({b"x": [b"1", b"2"]}), Headers({b"X": [b"1", b"2"]})
    assert isinstance(ours, Headers)
    assert ours == theirs
    assert theirs == ours
    assert ours != Headers({b"X": [b"1"]})
    assert ours != {b"x": [b"1", b"2"]}


def test_names_are_found_in_any_spelling_as_bytes_or_text() -> None:
    headers = FieldMap({b"content-TYPE": [b"text/html"]})
    for name in (b"Content-Type", b"content-type", b"CONTENT-TYPE"):
        assert headers.hasHeader(name)
        assert headers.getRawHeaders(name) == [b"text/html"]
        assert headers.getRawHeaders(name.decode()) == ["text/html"]
    assert headers.first(b"content-type") == b"text/html"
    assert headers.first(b"x") is None
    assert headers.getRawHeaders(b"x") is None
    assert headers.getRawHeaders("x", ["default"]) == ["default"]


def test_setting_replaces_adding_appends_removing_forgets() -> None:
    headers = FieldMap()
    headers.setRawHeaders(b"x-a", [b"1"])
    headers.addRawHeader("X-A", "2")
    assert wire(headers) == b"X-A: 1\r\nX-A: 2"
    headers.setRawHeaders(b"X-A", [b"3", b"4"])
    assert headers.getRawHeaders(b"x-a") == [b"3", b"4"]
    assert wire(headers) == b"X-A: 3\r\nX-A: 4"
    headers.setRawHeaders(b"x-a", [])
    assert not headers.hasHeader(b"x-a")
    headers.setRawHeaders(b"x-a", [b"5"])
    headers.removeHeader(b"X-a")
    headers.removeHeader(b"never-there")
    assert headers.lines() == []


def test_a_field_that_was_parsed_keeps_its_spelling() -> None:
    headers = FieldMap()
    headers.add_pair(b"eTag", b"x")
    headers.add_pair(b"ETAG", b"y")
    assert wire(headers) == b"eTag: x\r\nETAG: y"
    assert headers.getRawHeaders(b"etag") == [b"x", b"y"]


def test_all_headers_are_listed_in_title_case() -> None:
    headers = FieldMap({b"x-a": [b"1", b"2"], b"etag": [b"3"]})
    listed = [(name, list(values)) for name, values in headers.getAllRawHeaders()]
    assert listed == [(b"X-A", [b"1", b"2"]), (b"Etag", [b"3"])]


def test_names_that_are_long_are_not_remembered() -> None:
    headers = FieldMap()
    headers.add_pair(b"x" * 1000, b"y")
    assert list(headers.getAllRawHeaders()) == [(b"X" + b"x" * 999, (b"y",))]
    assert max(map(len, _names)) < 300


def test_a_copy_is_independent() -> None:
    headers = FieldMap({b"x": [b"1"]})
    copy = headers.copy()
    copy.addRawHeader(b"x", b"2")
    copy.setRawHeaders(b"y", [b"3"])
    assert headers == FieldMap({b"x": [b"1"]})
    assert copy == FieldMap({b"x": [b"1", b"2"], b"y": [b"3"]})


@pytest.mark.parametrize(
    "value",
    [b"a\r\nX: b", b"a\nX: b", b"a\rX: b", b"a\r\n", b"\r\n\r\nbody", b"a\0b", "a\r\nX: b"],
)
def test_a_value_can_not_begin_another_header(value: bytes | str) -> None:
    headers = FieldMap()
    headers.setRawHeaders(b"a", [value])
    headers.setRawHeaders(b"b", [value, value])
    headers.addRawHeader(b"c", value)
    text = wire(headers)
    assert text.count(b"\n") == text.count(b"\r\n") == 3
    assert b"\0" not in text
    assert text.replace(b"\r\n", b"").count(b"\r") == 0


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"a\0", "ä"])
def test_a_name_that_is_not_a_token_is_an_error(name: bytes | str) -> None:
    headers = FieldMap()
    with pytest.raises(BadField):
        headers.setRawHeaders(name, [b"x"])
    with pytest.raises(BadField):
        headers.addRawHeader(name, b"x")


def test_text_goes_out_as_utf_8() -> None:
    headers = FieldMap()
    headers.setRawHeaders("x", ["ä"])
    assert headers.getRawHeaders(b"x") == ["ä".encode()]
    assert headers.getRawHeaders("x") == ["ä"]


def test_a_parsed_line_is_written_afresh() -> None:
    assert parse_field(b"X-Y:z") == (b"x-y", (b"X-Y: z", b"z"))
    assert parse_field(b"X-Y: \t z\t") == (b"x-y", (b"X-Y: z", b"z"))
    assert parse_field(b"a::") == (b"a", (b"a: :", b":"))
