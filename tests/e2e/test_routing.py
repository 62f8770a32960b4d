"""Which application gets a request (behaviour.md section 2: host, path_prefix)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, echo, seen_by


@pytest.fixture(scope="module")
def targets(module_stage: Stage) -> dict[str, Target]:
    names = ("shop", "api", "admin", "raw", "wild", "any")
    return {name: module_stage.target() for name in names}


@pytest.fixture(scope="module")
def running(module_stage: Stage, targets: dict[str, Target]) -> Proxy:
    options = {
        "shop": {"host": "shop.example, www.shop.example"},
        "api": {"host": "shop.example", "path_prefix": "/api"},
        "admin": {"host": "shop.example", "path_prefixes": ["/api/admin", "/staff"]},
        "raw": {"host": "shop.example", "path_prefix": "/raw", "strip_path_prefix": False},
        "wild": {"host": "*.wild.example"},
        "any": {"host": None},
    }
    roles = {
        name: {"hosts": [targets[name].address], "proxy": proxy} for name, proxy in options.items()
    }
    return module_stage.proxy(
        module_stage.deploy(roles),
        healthy=(
            "shop.example",
            "shop.example/api",
            "shop.example/staff",
            "a.wild.example",
            "else.example",
        ),
    )


@pytest.fixture
def proxy(running: Proxy, targets: dict[str, Target]) -> Iterator[Proxy]:
    for target in targets.values():
        target.forget()
    return running


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("shop.example", "shop-shop"),
        ("www.shop.example", "shop-shop"),
        ("SHOP.example", "shop-shop"),
        ("shop.example:8080", "shop-shop"),
        ("shop.example.", "shop-shop"),
        ("shop.example.:8080", "shop-shop"),
        ("a.wild.example", "shop-wild"),
        ("a.b.wild.example", "shop-any"),
        ("wild.example", "shop-any"),
        ("nobody.example", "shop-any"),
        ("127.0.0.1", "shop-any"),
        ("[::1]:8080", "shop-any"),
    ],
)
def test_a_host_leads_to_its_application(proxy: Proxy, host: str, service: str) -> None:
    path = f"/?{host}"
    assert proxy.get(path, host).status == 200
    assert proxy.logged(query=host)["service"] == service


def test_an_http_1_0_request_without_a_host_goes_to_the_service_for_any_host(proxy: Proxy) -> None:
    with proxy.connect() as wire:
        wire.send("GET /old HTTP/1.0\r\n\r\n")
        assert wire.read_response().status == 200
    assert proxy.logged(path="/old")["service"] == "shop-any"


@pytest.mark.parametrize(
    ("path", "name", "target_path"),
    [
        ("/", "shop", "/"),
        ("/apix", "shop", "/apix"),
        ("/api", "api", "/"),
        ("/api/", "api", "/"),
        ("/api?x=1", "api", "/?x=1"),
        ("/api/users/123?x=1", "api", "/users/123?x=1"),
        ("/api/admin/users", "admin", "/users"),
        ("/api/administration", "api", "/administration"),
        ("/staff/a", "admin", "/a"),
        ("/raw/a?b=/raw", "raw", "/raw/a?b=/raw"),
        ("/api/a%2Fb%20c?q=%2f&r=a+b", "api", "/a%2Fb%20c?q=%2f&r=a+b"),
        ("/api/f%C3%BC/?%ff", "api", "/f%C3%BC/?%ff"),
        ("/api//double", "api", "//double"),
    ],
)
def test_the_longest_prefix_of_whole_segments_wins_and_is_stripped(
    proxy: Proxy, targets: dict[str, Target], path: str, name: str, target_path: str
) -> None:
    response = proxy.get(path, "shop.example")
    assert response.status == 200
    assert seen_by(response.body)["target"] == target_path
    assert [t.target for t in targets[name].requests] == [target_path]


@pytest.mark.parametrize(
    "path",
    [
        "/api/../staff/a",
        "/api/%2e%2e/staff/a",
        "/x/..%2fstaff/a",
        "/%73taff/a",
        "/st%61ff",
        "/api/./admin/a",
        "/api//admin/a",
        "/api/x/../admin",
        "/api;v=1/admin",
        "/x\\..\\staff",
        "/API/../api/%61dmin/",
        "//staff/a",
        "/./staff",
    ],
)
def test_a_path_that_could_be_read_as_another_services_is_refused(
    proxy: Proxy, targets: dict[str, Target], path: str
) -> None:
    assert proxy.get(path, "shop.example").status == 400
    assert not any(target.requests for target in targets.values())


def test_dot_segments_within_one_service_are_passed_on_as_they_are(proxy: Proxy) -> None:
    for path in ("/a/../b", "/a/%2e%2e/b", "/a/./b", "//a"):
        assert seen_by(proxy.get(path, "shop.example").body)["target"] == path


def test_the_target_of_an_absolute_request_decides_and_not_its_host_header(
    proxy: Proxy, targets: dict[str, Target]
) -> None:
    with proxy.connect() as wire:
        wire.send("GET http://shop.example:81/api/x?y HTTP/1.1\r\nHost: a.wild.example\r\n\r\n")
        seen = seen_by(wire.read_response().body)
    assert seen["target"] == "/x?y"
    assert seen["fields"]["host"] == "shop.example:81"
    assert len(targets["api"].requests) == 1


def test_options_asterisk_reaches_the_application_as_such(
    proxy: Proxy, targets: dict[str, Target]
) -> None:
    response = proxy.request("OPTIONS", "*", "shop.example")
    assert response.status == 200
    assert [(r.method, r.target) for r in targets["shop"].requests] == [("OPTIONS", "*")]


def test_the_query_arrives_byte_for_byte(proxy: Proxy) -> None:
    query = "a=1&a=2&&b=%41%zz&c=%2F/../x;y&d=[1]{2}|'\"<>^`"
    assert seen_by(proxy.get(f"/q?{query}", "shop.example").body)["target"] == f"/q?{query}"


def test_a_query_of_another_service_s_path_is_no_ambiguity(proxy: Proxy) -> None:
    assert proxy.get("/x?/../api/%61dmin", "shop.example").status == 200


def test_without_a_service_for_it_a_host_or_path_is_not_found(stage: Stage) -> None:
    target = stage.target(echo)
    proxy = stage.app(target, path_prefix="/api")
    for path, host in (("/api/x", "other.example"), ("/", "app.example"), ("/apix", "app.example")):
        response = proxy.get(path, host)
        assert response.status == 404
        assert response.get("content-type") == "text/html; charset=utf-8"
        assert "404" in response.text
    assert proxy.logged(count=3, status=404)["service"] == ""
    assert not target.requests


def test_the_canonical_host_is_where_other_hosts_are_sent(stage: Stage) -> None:
    proxy = {"host": "app.example,www.app.example"}
    roles = {"app": {"hosts": [stage.target().address], "proxy": proxy}}
    config = stage.deploy(roles, x_kproxy={"canonical_host": "app.example"})
    kproxy = stage.proxy(config, healthy=("app.example",))
    response = kproxy.get("/a?b=c", "www.app.example:8080")
    assert response.status == 301
    assert response.get("location") == "http://app.example/a?b=c"
    assert kproxy.get("/a?b=c", "app.example").status == 200
