"""Host and path to service (behaviour.md section 2)."""

from __future__ import annotations

import pytest

from kproxy.routing import AmbiguousPath, Table, canonical_path, normalize_host


def table(*routes: tuple[str, str, str]) -> Table[str]:
    """Of (hosts, prefixes, value), comma-separated."""
    return Table(
        (hosts.split(",") if hosts else [], prefixes.split(","), value)
        for hosts, prefixes, value in routes
    )


def find(routes: Table[str], host: str, path: str = "/") -> str | None:
    route = routes.find(host.encode(), path.encode())
    return None if route is None else route.value


# Hosts.


def test_exact_hosts_beat_wildcards_which_beat_any_host() -> None:
    routes = table(
        ("", "/", "any"),
        ("*.example.com", "/", "wildcard"),
        ("a.example.com,example.org", "/", "exact"),
    )
    for _ in range(2):
        assert find(routes, "a.example.com") == "exact"
        assert find(routes, "example.org") == "exact"
        assert find(routes, "b.example.com") == "wildcard"
        assert find(routes, "example.com") == "any"
        assert find(routes, "x.b.example.com") == "any"
        assert find(routes, "10.0.0.1") == "any"
        assert find(routes, "") == "any"


@pytest.mark.parametrize(
    "host",
    ["a.example", "A.Example", "a.example:80", "a.example:", "a.example.", "A.EXAMPLE.:8080"],
)
def test_case_port_and_trailing_dot_do_not_matter(host: str) -> None:
    assert find(table(("a.example", "/", "a")), host) == "a"
    assert find(table(("*.example", "/", "a")), host) == "a"


def test_an_ipv6_address_is_not_cut_at_its_colons() -> None:
    assert normalize_host(b"[::1]") == b"[::1]"
    assert normalize_host(b"[::1]:80") == b"[::1]"
    assert find(table(("[::1]", "/", "six"), ("", "/", "any")), "[::1]:80") == "six"


def test_a_host_that_nobody_has_finds_nothing() -> None:
    assert find(table(("a.example", "/", "a")), "b.example") is None
    assert find(table(), "a.example") is None


def test_a_host_that_matches_does_not_fall_back_to_another_services_path() -> None:
    routes = table(("a.example", "/api", "a"), ("", "/", "any"))
    assert find(routes, "a.example", "/api/x") == "a"
    assert find(routes, "a.example", "/other") is None


def test_names_of_clients_can_not_fill_the_memory() -> None:
    routes = table(("", "/", "any"))
    for i in range(10_000):
        assert find(routes, f"{i}.example") == "any"
    assert find(routes, "long" * 10_000) == "any"
    assert len(routes._seen) <= 4096
    assert max(map(len, routes._seen)) < 300


# Paths.


def test_the_longest_prefix_of_whole_segments_wins() -> None:
    routes = table(("a", "/", "root"), ("a", "/api,/v1", "api"), ("a", "/api/admin", "admin"))
    expected = {
        "/": "root",
        "/apix": "root",
        "/ap": "root",
        "/api": "api",
        "/api/": "api",
        "/api/x": "api",
        "/api/adminx": "api",
        "/api/admin": "admin",
        "/api/admin/x": "admin",
        "/v1/api/admin": "api",
        "/x/api": "root",
        "/API": "root",
        "*": "root",
    }
    assert {path: find(routes, "a", path) for path in expected} == expected


def test_the_prefix_that_matched_is_told() -> None:
    route = table(("a", "/,/api", "x")).find(b"a", b"/api/y")
    assert route is not None
    assert route.prefix == b"/api"


def test_a_path_that_no_prefix_matches_finds_nothing() -> None:
    assert find(table(("a", "/api", "api")), "a", "/") is None


AMBIGUOUS = [
    "/%61pi",
    "/%61pi/x",
    "/a%70i",
    "/%2fapi",
    "/%2Fapi/x",
    "//api",
    "///api/x",
    "/./api",
    "/x/../api",
    "/x/%2e%2e/api",
    "/x/%2E./api",
    "/x/..%2fapi",
    "/%2e/api",
    "/\\api",
    "/x\\..\\api",
    "/%5capi",
    "/;x/api",
    "/api;x=y",
    "/api;/x",
    "/x/..;/api",
    "/x/y/../../api",
    "/api/..",
    "/api/../x",
    "/api/%2e%2e/x",
    "/api/..%2fx",
    "/api/x/../..",
    "/api/..;a=b/x",
]


@pytest.mark.parametrize("path", AMBIGUOUS)
def test_a_path_that_two_services_could_claim_is_refused(path: str) -> None:
    routes = table(("a", "/", "root"), ("a", "/api", "api"))
    with pytest.raises(AmbiguousPath):
        find(routes, "a", path)


@pytest.mark.parametrize("path", AMBIGUOUS)
def test_one_service_may_have_its_paths_as_it_likes(path: str) -> None:
    assert find(table(("a", "/", "root")), "a", path) == "root"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/a%20b", "root"),
        ("/x//y", "root"),
        ("/x/../y", "root"),
        ("/x;y=z", "root"),
        ("/%zz", "root"),
        ("/x%2fapi", "root"),
        ("/api/a%20b", "api"),
        ("/api/x/../y", "api"),
        ("/api//x", "api"),
        ("/api/%2e%2e%", "api"),
        ("/api/..x", "api"),
        ("/api/.well-known", "api"),
        ("/.well-known", "root"),
        ("/api/x;y", "api"),
        ("/%2561pi", "root"),
        ("/../x", "root"),
        ("/..", "root"),
        ("/api\\..\\x", "root"),
    ],
)
def test_an_unusual_path_that_both_readings_give_to_one_service_is_served(
    path: str, value: str
) -> None:
    routes = table(("a", "/", "root"), ("a", "/api", "api"))
    assert find(routes, "a", path) == value


def test_a_path_can_not_reach_a_service_that_has_only_a_prefix() -> None:
    routes = table(("a", "/api", "api"))
    assert find(routes, "a", "/x") is None
    for path in ("/x/../api", "/%61pi", "//api"):
        with pytest.raises(AmbiguousPath):
            find(routes, "a", path)
    with pytest.raises(AmbiguousPath):
        find(routes, "a", "/api/../x")


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a//b", "/a/b"),
        ("/a/./b/.", "/a/b"),
        ("/a/../../b", "/b"),
        ("/%41%2f%2e%2e%2fb", "/b"),
        ("/a;x/b;y=z", "/a/b"),
        ("/a\\b", "/a/b"),
        ("/%252e", "/%2e"),
        ("*", "/*"),
    ],
)
def test_the_most_lenient_reading_of_a_path(path: str, canonical: str) -> None:
    assert canonical_path(path.encode()) == canonical.encode()
