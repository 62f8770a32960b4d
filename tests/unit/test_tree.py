"""Which wrappers a request passes, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from kproxy.config.model import Buffering, Service, Target, WrapperUse
from kproxy.metrics.counts import Counts
from kproxy.plugins import WrapperPlugin, find_wrappers
from kproxy.tree import (
    Link,
    WrapperFailed,
    assemble,
    health_paths,
    outer_chain,
    service_chain,
)
from kproxy.wrappers.base import Wrapper
from kproxy.wrappers.gate import GateControl

TARGETS = (Target("10.0.0.1", 80),)


def threads(work: Any, done: Any) -> None:
    raise AssertionError("nothing is written")


def chain(**options: Any) -> list[Link]:
    return service_chain(Service("a-web", TARGETS, **options), GateControl(Clock()), threads)


def names(**options: Any) -> list[str]:
    return [link.name for link in chain(**options)]


def option(name: str, **options: Any) -> Any:
    """The options of the one link of this name."""
    (link,) = [link for link in chain(**options) if link.name == name]
    return link.options


def test_the_outer_chain_identifies_logs_and_answers_before_a_service_is_known() -> None:
    outer = outer_chain(print)
    assert [link.name for link in outer] == [
        "request-id",
        "request-start",
        "access-log",
        "error-pages",
        "acme-challenge",
    ]
    assert outer[2].options.write is print


def test_requests_are_counted_where_there_is_somewhere_to_count_them() -> None:
    counts = Counts()
    outer = outer_chain(print, counts)
    assert [link.name for link in outer[:4]] == [
        "request-id",
        "request-start",
        "access-log",
        "metrics",
    ]
    assert outer[3].options.counts is counts


def test_a_service_with_everything_has_its_wrappers_in_the_order_of_the_design() -> None:
    everything = names(
        error_pages=((404, "no"),),
        ssl=True,
        canonical_host="example.com",
        path_prefixes=("/api",),
        scope_cookie_paths=True,
        wrappers=(WrapperUse("one", 1), WrapperUse("two", 2), WrapperUse("one", 3)),
    )
    assert everything == [
        "error-pages",
        "ssl-redirect",
        "canonical-host",
        "gate",
        "path-prefix",
        "forward-headers",
        "one",
        "two",
        "one",
        "request-buffer",
        "gate",
        "response-buffer",
        "scope-cookies",
    ]


def test_what_would_do_nothing_is_left_out() -> None:
    plain = ["refuse-tls", "gate", "forward-headers"]
    assert names() == [*plain, "request-buffer", "gate", "response-buffer"]
    streaming = Buffering(requests=False, responses=False, max_request_body=0)
    assert names(buffering=streaming) == plain
    both = names(buffering=streaming, ssl=True, ssl_redirect=False)
    assert both == ["gate", "forward-headers"]


@pytest.mark.parametrize(
    ("options", "redirects"),
    [({"ssl": True}, True), ({"ssl": True, "ssl_redirect": False}, False), ({}, False)],
)
def test_plain_http_is_redirected_where_there_is_tls_to_go_to(
    options: dict[str, Any], redirects: bool
) -> None:
    assert ("ssl-redirect" in names(**options)) == redirects


@pytest.mark.parametrize("ssl", [True, False])
def test_tls_is_refused_where_a_service_has_none(ssl: bool) -> None:
    assert ("refuse-tls" in names(ssl=ssl)) != ssl


@pytest.mark.parametrize(
    ("options", "strips"),
    [
        ({"path_prefixes": ("/api",)}, True),
        ({"path_prefixes": ("/", "/api")}, True),
        ({"path_prefixes": ("/",)}, False),
        ({"path_prefixes": ("/api",), "strip_path_prefix": False}, False),
    ],
)
def test_a_prefix_is_stripped_where_there_is_one_to_strip(
    options: dict[str, Any], strips: bool
) -> None:
    assert ("path-prefix" in names(**options)) == strips


def test_a_limit_holds_also_for_bodies_that_stream() -> None:
    streaming = Buffering(requests=False, max_request_body=7)
    assert names(buffering=streaming) == [
        "refuse-tls",
        "gate",
        "forward-headers",
        "request-limit",
        "response-buffer",
    ]
    assert option("request-limit", buffering=streaming).max_body == 7


def test_options_go_to_the_wrapper_that_they_are_for() -> None:
    buffering = Buffering(max_request_body=1, max_response_body=2, memory=3)
    request = option("request-buffer", buffering=buffering)
    assert (request.max_body, request.memory, request.in_thread) == (1, 3, threads)
    response = option("response-buffer", buffering=buffering)
    assert (response.max_body, response.memory, response.in_thread) == (2, 3, threads)
    forward = option("forward-headers", forward_headers=False, client_ip_header="X-Real-IP")
    assert (forward.forward, forward.client_ip_header) == (False, "X-Real-IP")
    assert option("canonical-host", canonical_host="example.com").host == "example.com"
    assert option("path-prefix", path_prefixes=("/a", "/b")).path_prefixes == ("/a", "/b")
    assert option("error-pages", error_pages=((404, "no"),)).pages == ((404, "no"),)
    assert option("one", wrappers=(WrapperUse("one", "options"),)) == "options"


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({}, ("/up",)),
        ({"path_prefixes": ("/api", "/v2")}, ("/api/up", "/v2/up")),
        ({"path_prefixes": ("/", "/api")}, ("/up", "/api/up")),
        ({"path_prefixes": ("/api",), "strip_path_prefix": False}, ("/up",)),
    ],
)
def test_the_gate_knows_the_health_check_by_the_paths_that_clients_use(
    options: dict[str, Any], paths: tuple[str, ...]
) -> None:
    assert health_paths(Service("a-web", TARGETS, **options)) == paths
    gate = next(link for link in chain(**options) if link.name == "gate")
    assert gate.options.health_paths == paths


@pytest.mark.parametrize(
    ("options", "gates"),
    [
        ({}, ["request-buffer", "gate"]),
        ({"buffering": Buffering(requests=False), "wrappers": (WrapperUse("one", 1),)}, ["gate"]),
        ({"buffering": Buffering(requests=False)}, []),
    ],
)
def test_behind_what_may_hold_a_request_the_gate_is_asked_again(
    options: dict[str, Any], gates: list[str]
) -> None:
    links = chain(path_prefixes=("/api",), **options)
    first, *behind = [link for link in links if link.name in ("gate", "request-buffer")]
    assert [link.name for link in behind] == gates
    for link in behind:
        if link.name == "gate":
            # By then the prefix is off.
            assert link.options.health_paths == ("/up",)
            assert link.options.control is first.options.control


def test_writers_are_marked_where_there_are_readers() -> None:
    def marks(readers: bool, **options: Any) -> list[Any]:
        s = Service("a-web", TARGETS, **options)
        links = service_chain(s, GateControl(Clock()), threads, readers=readers)
        return [link.options for link in links if link.name == "writer-affinity"]

    (options,) = marks(True, writer_affinity_timeout=5.0, read_target_websockets=True)
    assert (options.timeout, options.websockets) == (5.0, True)
    assert marks(True, writer_affinity_timeout=0.0) == []
    assert marks(False) == []


def test_cookies_are_scoped_where_a_prefix_is_stripped() -> None:
    scoped = {"scope_cookie_paths": True, "path_prefixes": ("/api",)}
    assert names(**scoped)[-1] == "scope-cookies"
    assert "scope-cookies" not in names(**{**scoped, "path_prefixes": ("/",)})
    assert "scope-cookies" not in names(**scoped, strip_path_prefix=False)


# Putting a chain together.


class Named(Wrapper):
    def __init__(self, wrapped: Any, options: Any) -> None:
        super().__init__(wrapped)
        self.options = options


def fails(error: Exception) -> WrapperPlugin:
    def factory(resource: Any, options: Any) -> Any:
        raise error

    return WrapperPlugin("fails", "", factory)


def test_the_first_of_a_chain_is_the_outermost_and_one_may_be_there_twice() -> None:
    plugins = {name: WrapperPlugin(name, "", Named) for name in ("one", "two")}
    leaf = Resource()
    tree: Any = assemble([Link("one", 1), Link("two", 2), Link("one", 3)], leaf, plugins)
    assert (tree.options, tree.wrapped.options, tree.wrapped.wrapped.options) == (1, 2, 3)
    assert tree.wrapped.wrapped.wrapped.root is leaf


def test_an_empty_chain_is_its_leaf() -> None:
    leaf = Resource()
    assert assemble([], leaf, {}) is leaf


def test_a_wrapper_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(WrapperFailed, match=r"^there is no wrapper 'one'$"):
        assemble([Link("one")], Resource(), {})


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no such thing"), "wrapper 'fails' failed: no such thing"),
        (ZeroDivisionError(), "wrapper 'fails' failed: ZeroDivisionError"),
        (ImportError("No module named 'x'"), "wrapper 'fails' failed: No module named 'x'"),
    ],
)
def test_a_wrapper_that_fails_is_an_error_that_names_it(error: Exception, message: str) -> None:
    with pytest.raises(WrapperFailed) as caught:
        assemble([Link("fails")], Resource(), {"fails": fails(error)})
    assert str(caught.value) == message


def test_every_wrapper_of_both_chains_is_announced() -> None:
    links = outer_chain(print) + chain(
        error_pages=((404, "no"),),
        ssl=True,
        canonical_host="example.com",
        path_prefixes=("/api",),
    )
    links += chain(buffering=Buffering(requests=False))
    tree: Any = assemble(links, Resource(), find_wrappers())
    found = []
    while isinstance(tree, Wrapper):
        found.append(type(tree).__name__)
        tree = tree.wrapped
    assert found[:7] == [
        "RequestID",
        "RequestStart",
        "AccessLog",
        "ErrorPages",
        "AcmeChallenge",
        "ErrorPages",
        "SSLRedirect",
    ]
    assert len(found) == len(links)
