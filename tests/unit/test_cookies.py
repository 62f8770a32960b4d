"""The cookies that the proxy itself reads and writes."""

from __future__ import annotations

from typing import Any

import pytest

from kproxy.affinity import has_written, reads, writer_cookie
from kproxy.cookies import cookie
from kproxy.http.headers import FieldMap


class Request:
    def __init__(self, *cookies: bytes, method: bytes = b"GET", upgrade: bytes = b"") -> None:
        self.requestHeaders = FieldMap()
        for each in cookies:
            self.requestHeaders.addRawHeader(b"cookie", each)
        self.method = method
        self.upgrade = upgrade


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ((b"x=1",), b"1"),
        ((b"a=b; x=1; c=d",), b"1"),
        ((b"a=b;x=1",), b"1"),
        ((b"x=1; x=2",), b"1"),
        ((b"a=b", b"x=1"), b"1"),
        ((b'x="1 2"',), b"1 2"),
        ((b'x="',), b'"'),
        ((b"x=a=b",), b"a=b"),
        ((b"xx=1; ax=2; X=3",), b""),
        ((b"x",), b""),
        ((b"x=",), b""),
        ((), b""),
    ],
)
def test_the_first_cookie_of_a_name_is_found(lines: tuple[bytes, ...], value: bytes) -> None:
    assert cookie(Request(*lines), b"x") == value


@pytest.mark.parametrize(
    ("method", "upgrade", "websockets", "expected"),
    [
        (b"GET", b"", False, True),
        (b"HEAD", b"", False, True),
        (b"POST", b"", True, False),
        (b"OPTIONS", b"", False, False),
        (b"get", b"", False, False),
        (b"GET", b"websocket", False, False),
        (b"GET", b"WebSocket", False, False),
        (b"GET", b"websocket", True, True),
        (b"GET", b"other", False, True),
    ],
)
def test_get_and_head_read_and_websockets_if_they_are_to(
    method: bytes, upgrade: bytes, websockets: bool, expected: bool
) -> None:
    assert reads(Request(method=method, upgrade=upgrade), websockets) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1000001", True),
        (b"1000000", False),
        (b"999999", False),
        (b"", False),
        (b"soon", False),
        (b"-1", False),
        (b"1_000_001", False),
        (b"9" * 20, True),
        (b"9" * 5000, False),
        (b"\xd9\xa1" * 8, False),
    ],
)
def test_who_has_written_is_known_until_the_time_that_the_cookie_says(
    value: bytes, expected: bool
) -> None:
    assert has_written(Request(b"kamal-writer=" + value), now=1000.0) == expected


def test_the_writers_cookie_counts_for_so_long_and_is_kept_a_second_longer() -> None:
    value = writer_cookie(now=1000.5, timeout=3.0)
    assert value == (
        b"kamal-writer=1003500; Path=/; Expires=Thu, 01 Jan 1970 00:16:44 GMT; HttpOnly"
    )
    request: Any = Request(value.partition(b";")[0])
    assert has_written(request, 1003.4)
    assert not has_written(request, 1003.5)
