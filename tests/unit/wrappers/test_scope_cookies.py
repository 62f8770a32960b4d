"""Cookies stay below the path prefix of their application (`scope_cookie_paths`)."""

from __future__ import annotations

import pytest

from kproxy.wrappers.path_prefix import Options, PathPrefix
from kproxy.wrappers.response_buffer import ResponseBuffer
from kproxy.wrappers.scope_cookies import ScopeCookies, scoped
from tests.unit.wrappers.support import Says, Serve, get


def scope(cookie: bytes, prefix: bytes = b"/api", host: bytes = b"example.com") -> bytes:
    return scoped(cookie, prefix, host)


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        (b"a=1; Path=/", b"a=1; Path=/api"),
        (b"a=1", b"a=1; Path=/api"),
        (b"a=1; Path=/admin", b"a=1; Path=/api/admin"),
        (b"a=1; Path=/admin/x/", b"a=1; Path=/api/admin/x"),
        (b"a=1; path=/x", b"a=1; Path=/api/x"),
        (b"a=1;PATH=/x;Secure", b"a=1; Path=/api/x;Secure"),
        (b"a=1; Path=", b"a=1; Path=/api"),
        (b"a=1; Path=/x; Path=/y", b"a=1; Path=/api/y"),
        (b"a=1; Path=/apix", b"a=1; Path=/api/apix"),
    ],
)
def test_the_path_is_put_below_the_prefix(cookie: bytes, expected: bytes) -> None:
    assert scope(cookie) == expected


def test_everything_else_stays_byte_for_byte() -> None:
    cookie = b'a="1,2=%3B"; HttpOnly; Secure; Max-Age=5; SameSite=Lax; Partitioned; X=Y=Z'
    assert scope(cookie) == (
        b'a="1,2=%3B"; Path=/api; HttpOnly; Secure; Max-Age=5; SameSite=Lax; Partitioned; X=Y=Z'
    )


@pytest.mark.parametrize("domain", [b"example.com", b"EXAMPLE.com", b".example.com", b""])
def test_a_cookie_for_the_host_that_was_asked_is_scoped(domain: bytes) -> None:
    assert scope(b"a=1; Path=/; Domain=" + domain) == b"a=1; Path=/api; Domain=" + domain


@pytest.mark.parametrize("domain", [b"other.com", b"sub.example.com", b"com"])
def test_a_cookie_for_another_domain_is_left_alone(domain: bytes) -> None:
    cookie = b"a=1; Path=/; Domain=" + domain
    assert scope(cookie) == cookie


@pytest.mark.parametrize("name", [b"__Host-a", b"__host-A"])
def test_a_cookie_that_has_to_be_for_all_paths_is_left_alone(name: bytes) -> None:
    cookie = name + b"=1; Secure; Path=/"
    assert scope(cookie) == cookie


def test_each_cookie_of_a_response_is_scoped_by_the_prefix_that_its_request_came_by(
    serve: Serve,
) -> None:
    leaf = ScopeCookies(Says(b"ok", set_cookie=b"a=1; Path=/x"))
    site = serve(PathPrefix(leaf, Options(("/api", "/api/v2"))))
    for path, scoped_path in (("/api/x", b"/api/x"), ("/api/v2/x", b"/api/v2/x")):
        response = site.ask(get(path, host="example.com:8080"))
        assert response.all(b"set-cookie") == [b"a=1; Path=" + scoped_path]


def test_a_response_without_a_prefix_or_without_cookies_is_not_touched(serve: Serve) -> None:
    site = serve(PathPrefix(ScopeCookies(Says(b"ok", set_cookie=b"a=1")), Options(("/api",))))
    assert site.ask(get("/other")).all(b"set-cookie") == [b"a=1"]
    bare = serve(PathPrefix(ScopeCookies(Says(b"ok")), Options(("/api",))))
    assert bare.ask(get("/api")).all(b"set-cookie") == []


def test_a_response_that_is_buffered_is_scoped_as_well(serve: Serve) -> None:
    leaf = ScopeCookies(Says(b"a", b"b", set_cookie=b"a=1"))
    site = serve(PathPrefix(ResponseBuffer(leaf), Options(("/api",))))
    response = site.ask(get("/api/x"))
    assert (response.body, response.all(b"set-cookie")) == (b"ab", [b"a=1; Path=/api"])
