"""The wrappers of examples/plugins, on both servers and inside of the whole chain.

What they do by themselves is tested where they are, as anybody's are.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from kproxy.config.model import Buffering, Service, Target, WrapperUse
from kproxy.plugins import WrapperPlugin, find_wrappers
from kproxy.routing import Table
from kproxy.tree import assemble, outer_chain, service_chain
from kproxy.wrappers.base import Wrapper
from kproxy.wrappers.gate import GateControl
from kproxy.wrappers.host_router import HostRouter
from tests.unit.wrappers.support import (
    CLIENT,
    Echo,
    Held,
    Producer,
    Response,
    Says,
    Serve,
    Threads,
    get,
    parse_response,
    post,
)

PLUGINS = Path(__file__).parents[3] / "examples" / "plugins"


def module(distribution: str) -> Any:
    """The module of a distribution that is not installed."""
    name = distribution.replace("-", "_")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, PLUGINS / distribution / name / "__init__.py"
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


BANNER = module("kproxy-banner")
RATE_LIMIT = module("kproxy-rate-limit")
HTML = b"<b>Tonight</b>"
PAGE = b"<html><body class=a><p>hello</p></body></html>"
WITH_BANNER = PAGE.replace(b"<p>", HTML + b"<p>")
STREAMED = Buffering(requests=False, responses=False)
SPILLED = Buffering(memory=0)
Chain = Callable[..., Any]


@pytest.fixture(
    params=[None, Buffering(), STREAMED, SPILLED],
    ids=["alone", "buffered", "streamed", "spilled"],
)
def chain(request: pytest.FixtureRequest, clock: Clock, serve: Serve) -> Chain:
    """A function that serves a leaf inside of a wrapper, alone or in the whole chain."""

    def behind(wrapper: Any, options: Any, leaf: Any, log: list[str] | None = None) -> Any:
        if request.param is None:
            return serve(wrapper(leaf, options))
        plugins = {**find_wrappers(), "theirs": WrapperPlugin("theirs", "", wrapper)}
        service = Service(
            "app-web",
            (Target("10.0.0.1", 80),),
            wrappers=(WrapperUse("theirs", options),),
            buffering=request.param,
        )
        links = service_chain(service, GateControl(clock), Threads())
        router = HostRouter(Table([((), ("/",), ("app-web", assemble(links, leaf, plugins)))]))
        write = (log if log is not None else []).append
        return serve(assemble(outer_chain(write), router, plugins))

    return behind


def banner(chain: Chain, leaf: Any) -> Any:
    return chain(BANNER.Banner, BANNER.Options(HTML.decode()), leaf)


@pytest.mark.parametrize(
    "pieces",
    [[PAGE], [PAGE[:9], PAGE[9:]], [PAGE[i : i + 1] for i in range(len(PAGE))]],
    ids=["whole", "split", "bytes"],
)
def test_a_page_gets_its_banner(chain: Chain, pieces: list[bytes]) -> None:
    response = banner(chain, Says(*pieces, content_type=b"text/html")).ask()
    assert response.body == WITH_BANNER
    if response.header(b"content-length") is not None:
        assert response.header(b"content-length") == b"%d" % len(WITH_BANNER)


def test_a_page_that_announced_its_length_has_the_right_one(chain: Chain) -> None:
    leaf = Says(
        PAGE[:9], PAGE[9:], content_type=b"text/html", content_length=b"%d" % len(PAGE), etag=b'"1"'
    )
    response = banner(chain, leaf).ask()
    assert response.header(b"content-length") == b"%d" % len(WITH_BANNER)
    assert response.body == WITH_BANNER
    assert response.header(b"etag") == b'W/"1"'


def test_a_page_of_the_default_type_gets_its_banner(chain: Chain) -> None:
    assert banner(chain, Says(PAGE)).ask().body == WITH_BANNER


def test_a_head_request_gets_the_length_of_the_page_with_its_banner(chain: Chain) -> None:
    client = banner(chain, Says(PAGE, content_type=b"text/html")).connect()
    client.send(get(method="HEAD"))
    assert client.response().header(b"content-length") == b"%d" % len(WITH_BANNER)
    assert client.received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("code", [204, 304])
def test_an_answer_without_a_body_stays_without_one(chain: Chain, code: int) -> None:
    leaf = Held()
    client = banner(chain, leaf).connect()
    client.send(get())
    leaf.request.setResponseCode(code)
    leaf.request.finish()
    assert client.response().code == code
    assert client.received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("code", "headers"),
    [
        (200, {"content_encoding": b"gzip"}),
        (206, {"content_range": b"bytes 0-9/99"}),
        (200, {"content_type": b"text/css"}),
    ],
)
def test_what_is_not_a_whole_plain_page_is_left_untouched(
    chain: Chain, code: int, headers: dict[str, bytes]
) -> None:
    response = banner(chain, Says(PAGE, code=code, **{"content_type": b"text/html", **headers}))
    assert response.ask().body == PAGE


def test_an_event_stream_is_passed_on_as_it_comes(chain: Chain) -> None:
    leaf = Held()
    client = banner(chain, leaf).connect()
    client.send(get())
    leaf.request.setHeader(b"content-type", b"text/event-stream")
    leaf.request.write(b"data: <body>\n\n")
    assert client.response().body == b"data: <body>\n\n"
    leaf.request.write(b"data: 2\n\n")
    assert client.response().body == b"data: <body>\n\ndata: 2\n\n"


def test_a_page_streams_on_once_the_banner_has_its_place(serve: Serve) -> None:
    leaf = Held()
    client = serve(BANNER.Banner(leaf, BANNER.Options(HTML.decode()))).connect()
    client.send(get())
    leaf.request.setHeader(b"content-type", b"text/html")
    leaf.request.write(b"<html><bo")
    head = client.received
    leaf.request.write(b"dy>hello")

    def body() -> bytes:
        return parse_response(client.received, b"GET", closed=False)[0].body

    assert len(client.received) > len(head)
    assert body() == b"<html><body>" + HTML + b"hello"
    leaf.request.write(b", more")
    assert body().endswith(b"hello, more")


def test_a_slow_client_slows_who_makes_the_page(serve: Serve) -> None:
    leaf, producer = Held(), Producer()
    client = serve(BANNER.Banner(leaf, BANNER.Options(HTML.decode()))).connect()
    client.send(get())
    leaf.request.registerProducer(producer, True)
    leaf.request.write(PAGE)
    client.hurry(False)
    client.hurry(True)
    assert producer.told[0] == "pause"
    assert producer.told[-1] == "resume"


def test_two_banners_are_both_there(serve: Serve) -> None:
    inner = BANNER.Banner(Says(PAGE, content_type=b"text/html"), BANNER.Options("<i>in</i>"))
    response = serve(BANNER.Banner(inner, BANNER.Options("<i>out</i>"))).ask()
    assert b"<body class=a><i>out</i><i>in</i><p>hello" in response.body
    assert response.header(b"content-length") == b"%d" % len(response.body)


# The rate limit.


def refused(response: Response) -> bool:
    assert response.code in (200, 429)
    return response.code == 429


def test_a_client_that_sends_too_much_is_refused_with_a_page(chain: Chain, clock: Clock) -> None:
    limits = RATE_LIMIT.Limits(requests=2, now=clock.seconds)
    site = chain(RATE_LIMIT.RateLimit, limits, Says(b"ok"))
    client = site.connect()
    for _ in range(3):
        client.send(get())
    *passed, last = client.responses()
    assert [response.body for response in passed] == [b"ok", b"ok"]
    assert (last.code, last.reason) == (429, b"Too Many Requests")
    assert last.header(b"retry-after") == b"30"
    assert last.complete
    assert not client.closing
    clock.advance(30)
    client.send(get())
    assert client.responses()[-1].body == b"ok"


def test_a_refused_body_reaches_nobody(chain: Chain, clock: Clock) -> None:
    inside = Echo()
    limits = RATE_LIMIT.Limits(requests=1, now=clock.seconds)
    site = chain(RATE_LIMIT.RateLimit, limits, inside)
    assert not refused(site.ask(post(b"first")))
    client = site.connect()
    client.send(post(b"second" * 1000))
    assert refused(client.response())
    assert len(inside.requests) == 1


def test_a_refusal_is_logged(chain: Chain, clock: Clock) -> None:
    log: list[str] = []
    limits = RATE_LIMIT.Limits(requests=1, now=clock.seconds)
    site = chain(RATE_LIMIT.RateLimit, limits, Says(b"ok"), log)
    site.ask()
    site.ask()
    if log:  # in the chain
        assert [json.loads(line)["status"] for line in log] == [200, 429]


def test_a_client_can_not_get_more_by_saying_that_it_is_another(chain: Chain, clock: Clock) -> None:
    limits = RATE_LIMIT.Limits(requests=1, trusted_proxies=0, now=clock.seconds)
    site = chain(RATE_LIMIT.RateLimit, limits, Says(b"ok"))
    assert not refused(site.ask(get("/", "X-Forwarded-For: 10.0.0.1")))
    assert refused(site.ask(get("/", "X-Forwarded-For: 10.0.0.2")))


def test_behind_a_load_balancer_the_client_is_who_that_says_it_is(
    clock: Clock, serve: Serve
) -> None:
    from kproxy.wrappers.forward_headers import ForwardHeaders

    limits = RATE_LIMIT.Limits(requests=1, trusted_proxies=1, now=clock.seconds)
    site = serve(ForwardHeaders(RATE_LIMIT.RateLimit(Says(b"ok"), limits)))
    assert not refused(site.ask(get("/", "X-Forwarded-For: 10.0.0.1")))
    assert not refused(site.ask(get("/", "X-Forwarded-For: 10.0.0.2")))
    assert refused(site.ask(get("/", "X-Forwarded-For: forged, 10.0.0.2")))
    # Without the header it is the load balancer itself.
    assert not refused(site.ask(get()))
    assert refused(site.ask(get("/", f"X-Forwarded-For: {CLIENT.host}")))


def test_examples_are_wrappers_as_kproxys_own_are() -> None:
    assert issubclass(BANNER.Banner, Wrapper)
    assert issubclass(RATE_LIMIT.RateLimit, Wrapper)
