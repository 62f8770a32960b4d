"""Path prefixes are stripped (behaviour.md section 2, `strip_path_prefix`)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.web.resource import Resource

from kproxy.wrappers.path_prefix import Options, PathPrefix
from tests.unit.wrappers.support import Echo, Says, Serve, echoed, get


def reached(serve: Serve, target: str, *prefixes: str) -> dict[str, Any]:
    told: dict[str, Any] = echoed(serve(PathPrefix(Echo(), Options(prefixes))).ask(get(target)))
    return told


@pytest.mark.parametrize(
    ("target", "stripped"),
    [
        ("/api/users/123?x=1", "/users/123?x=1"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/api?x=1", "/?x=1"),
        ("/api/?x=1", "/?x=1"),
        ("/api//x", "//x"),
        ("/api/api/x", "/api/x"),
        ("/api/%2e%2E/a%20b;c=d", "/%2e%2E/a%20b;c=d"),
    ],
)
def test_the_prefix_is_taken_off(serve: Serve, target: str, stripped: str) -> None:
    told = reached(serve, target, "/api")
    assert told["uri"] == stripped
    assert told["path"] == stripped.partition("?")[0]


@pytest.mark.parametrize("target", ["/apix", "/apix/y", "/x/api", "/API/x", "/%61pi/x", "/"])
def test_only_whole_segments_at_the_beginning_are_the_prefix(serve: Serve, target: str) -> None:
    assert reached(serve, target, "/api")["uri"] == target


@pytest.mark.parametrize("query", ["a=%2F&b=+&&;c", "?", "a=/api/x", "%00%zz", "a=b?c=d"])
def test_the_query_stays_as_it_is_byte_for_byte(serve: Serve, query: str) -> None:
    assert reached(serve, f"/api/x?{query}", "/api")["uri"] == f"/x?{query}"


def test_the_longest_of_several_prefixes_is_taken_off(serve: Serve) -> None:
    prefixes = ("/api", "/api/v2", "/shop")
    assert reached(serve, "/api/v2/x", *prefixes)["uri"] == "/x"
    assert reached(serve, "/api/v1/x", *prefixes)["uri"] == "/v1/x"
    assert reached(serve, "/shop/x", *prefixes)["uri"] == "/x"


def test_the_root_takes_nothing_off(serve: Serve) -> None:
    assert reached(serve, "/x/y", "/", "/api")["uri"] == "/x/y"
    assert reached(serve, "/api/y", "/", "/api")["uri"] == "/y"


def test_children_of_a_stock_resource_are_found_below_the_prefix(serve: Serve) -> None:
    root = Resource()
    root.putChild(b"users", Says(b"all of them"))
    root.putChild(b"", Says(b"the top"))
    site = serve(PathPrefix(root, Options(("/api/v2",))))
    assert site.ask(get("/api/v2/users")).body == b"all of them"
    assert site.ask(get("/api/v2/")).body == b"the top"
    assert site.ask(get("/api/v2")).body == b"the top"
    assert site.ask(get("/api/v2/none")).code == 404


def test_a_stock_resource_knows_by_which_path_it_was_reached(serve: Serve) -> None:
    seen = []

    class Child(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            seen.append((request.prepath, request.postpath, request.prePathURL()))
            return b""

    root = Resource()
    root.putChild(b"users", Child())
    serve(PathPrefix(root, Options(("/api",)))).ask(get("/api/users/1/2"))
    (prepath, postpath, url) = seen[0]
    assert prepath == [b"api", b"users"]
    assert postpath == [b"1", b"2"]
    assert url == b"http://example.com:8080/api/users"
