"""Host and path to service (behaviour.md section 2); tests/unit/test_routing.py has the details."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kproxy.routing import Table
from kproxy.wrappers.access_log import AccessLog, Options
from kproxy.wrappers.error_pages import ErrorPages
from kproxy.wrappers.host_router import HostRouter
from tests.unit.wrappers.support import Says, Serve, get


def router(*routes: tuple[tuple[str, ...], tuple[str, ...], str]) -> HostRouter:
    return HostRouter(
        Table((hosts, paths, (name, Says(name.encode()))) for hosts, paths, name in routes)
    )


def served_by(serve: Serve, tree: Any, target: str, host: str = "example.com") -> str:
    response = serve(tree).ask(get(target, host=host))
    return response.body.decode() if response.code == 200 else str(response.code)


ROUTES = router(
    (("example.com",), ("/",), "exact"),
    (("example.com",), ("/api", "/v2"), "api"),
    (("*.example.com",), ("/",), "wildcard"),
    ((), ("/",), "any"),
)


@pytest.mark.parametrize(
    ("host", "target", "name"),
    [
        ("example.com", "/", "exact"),
        ("EXAMPLE.com.:8080", "/", "exact"),
        ("a.example.com", "/api", "wildcard"),
        ("a.b.example.com", "/", "any"),
        ("other.com", "/api", "any"),
        ("example.com", "/api", "api"),
        ("example.com", "/api/x?y", "api"),
        ("example.com", "/v2/x", "api"),
        ("example.com", "/apix", "exact"),
    ],
)
def test_a_request_goes_to_the_service_of_its_host_and_path(
    serve: Serve, host: str, target: str, name: str
) -> None:
    assert served_by(serve, ROUTES, target, host) == name


@pytest.mark.parametrize("target", ["/%61pi/x", "/x/../api/y", "/api/../x", "/api/%2e%2e/x"])
def test_a_path_that_could_mean_another_service_is_refused(serve: Serve, target: str) -> None:
    assert served_by(serve, ROUTES, target) == "400"


def test_a_host_without_a_service_gets_a_404_page(serve: Serve) -> None:
    tree = ErrorPages(router((("example.com",), ("/",), "a")))
    response = serve(tree).ask(get(host="other.com"))
    assert response.code == 404
    assert b"404 Not Found" in response.body


def test_a_path_without_a_service_gets_a_404(serve: Serve) -> None:
    assert served_by(serve, router(((), ("/api",), "api")), "/other") == "404"


def test_a_new_table_counts_from_the_next_request_on(serve: Serve) -> None:
    tree = router(((), ("/",), "old"))
    client = serve(tree).connect()
    client.send(get())
    tree.table = router(((), ("/",), "new")).table
    client.send(get())
    assert [response.body for response in client.responses()] == [b"old", b"new"]


def test_the_service_is_noted_for_the_access_log(serve: Serve) -> None:
    lines: list[str] = []
    serve(AccessLog(ROUTES, Options(write=lines.append))).ask(get("/api"))
    serve(AccessLog(router(), Options(write=lines.append))).ask()
    assert [json.loads(line)["service"] for line in lines] == ["api", ""]
