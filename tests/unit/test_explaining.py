"""What would become of a request, found out without sending it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.config.model import Buffering, Service, Target, WrapperUse
from kproxy.dataplane import DataPlane
from kproxy.explaining import PATIENCE, BadQuestion, Question
from kproxy.plugins import WrapperPlugin, find_wrappers
from kproxy.snapshot import Rollout, ServiceState, Snapshot, Split
from kproxy.wrappers.base import Wrapper
from tests.unit.http.memory import Wire, get
from tests.unit.upstream.support import MemoryNetwork, in_thread_of

A, B, C = Target("a", 1), Target("b", 1), Target("c", 1)
OUTER = ["request-id", "request-start", "access-log", "error-pages", "acme-challenge", "router"]


class Counter(Wrapper):
    """Refuses every second request."""

    def __init__(self, wrapped: Any, options: object = None) -> None:
        super().__init__(wrapped)
        self.count = 0

    def render(self, request: Any) -> Any:
        self.count += 1
        return super().render(request) if self.count % 2 else b"no"


class Slow(Wrapper):
    """Never decides."""

    def render(self, request: Any) -> int:
        return NOT_DONE_YET


class Broken(Wrapper):
    def render(self, request: Any) -> int:
        raise RuntimeError("broken on purpose")


@dataclass(frozen=True)
class Login:
    user: str
    password: str = field(repr=False)
    check: Any = print


class Files(Resource):
    """A stock resource, in the place of what it wraps."""

    def __init__(self, wrapped: Any, options: object = None) -> None:
        super().__init__()
        self.putChild(b"here", Leaf())


class Leaf(Resource):
    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return b"found"

    def render_POST(self, request: Any) -> bytes:
        return b"took %d" % len(request.content.read())


PLUGINS = dict(find_wrappers()) | {
    name: WrapperPlugin(name, "For tests.", factory)
    for name, factory in (
        ("counter", Counter),
        ("slow", Slow),
        ("broken", Broken),
        ("login", lambda resource, options: Wrapper(resource)),
        ("files", Files),
    )
}


class Plane:
    def __init__(self, *states: ServiceState) -> None:
        self.clock = Clock()
        self.lines: list[str] = []
        self.network = MemoryNetwork(self.clock)
        self.plane = DataPlane(
            self.network, self.clock, in_thread_of(self.clock), PLUGINS, self.lines.append
        )
        self.plane.apply(Snapshot(states))

    def ask(self, url: str, *headers: tuple[str, str], **more: Any) -> Any:
        told: list[Any] = []
        asked: Deferred[Any] = self.plane.explain(Question(url, headers=headers, **more))
        asked.addCallback(told.append)
        self.clock.pump([0, 0, 0])
        if not told:
            self.clock.advance(PATIENCE)
        assert self.network.attempts == []
        assert self.lines == []
        assert self.clock.getDelayedCalls() == []
        return told[0]


def up(*targets: Target, **options: Any) -> ServiceState:
    gate = {name: options.pop(name) for name in ("gate", "message", "rollout") if name in options}
    targets = targets or (A,)
    service = Service("app", targets, **options)
    return ServiceState(service, (*targets, *service.read_targets), **gate)


def use(name: str, options: object = None) -> tuple[WrapperUse, ...]:
    return (WrapperUse(name, options),)


def headers(pairs: list[list[str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in pairs}


def way(told: Any) -> list[str]:
    return [step["name"] for step in told["way"]]


def reached(told: Any) -> list[str]:
    return [step["name"] for step in told["way"] if step["reached"]]


def test_a_request_is_shown_as_its_target_would_get_it() -> None:
    plane = Plane(up(A, hosts=("shop.example",), path_prefixes=("/api",)))
    told = plane.ask("http://shop.example:8080/api/users?x=1", ("X-Forwarded-For", "10.0.0.1"))
    assert (told["outcome"], told["service"], told["path_prefix"]) == ("sent", "app", "/api")
    assert told["target"] == "a:1"
    assert told["request"]["line"] == "GET /users?x=1 HTTP/1.1"
    fields = headers(told["request"]["headers"])
    assert len(fields.pop("x-request-id")) == 36
    assert fields.pop("x-request-start").startswith("t=")
    assert fields == {
        "host": "shop.example:8080",
        "x-forwarded-for": "10.0.0.1, 127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "shop.example:8080",
        "x-kamal-target": "a:1",
    }


def test_the_wrappers_are_those_of_the_tree_with_what_each_one_changes() -> None:
    plane = Plane(up(path_prefixes=("/api",), buffering=Buffering(requests=False)))
    told = plane.ask("example.com/api/x", ("Te", "trailers"))
    assert way(told) == [
        *OUTER,
        "refuse-tls",
        "gate",
        "path-prefix",
        "forward-headers",
        "request-limit",
        "response-buffer",
        "target",
    ]
    steps = {step["name"]: step for step in told["way"]}
    assert steps["path-prefix"]["changes"] == ["/api/x becomes /x"]
    assert steps["path-prefix"]["options"] == {"path_prefixes": ["/api"]}
    assert steps["request-id"]["changes"] == ["sets X-Request-Id"]
    assert steps["access-log"]["changes"] == []
    assert all(step["reached"] for step in told["way"])


def test_nobody_loses_a_turn() -> None:
    plane = Plane(up(A, B))
    assert [plane.ask("example.com")["target"] for _ in range(3)] == ["b:1"] * 3


def test_https_is_redirected_to_and_served() -> None:
    plane = Plane(up(ssl=True, hosts=("a.example",)))
    told = plane.ask("http://a.example/x?y")
    assert (told["outcome"], told["by"]) == ("answered", "ssl-redirect")
    assert told["reason"] == "plain HTTP is redirected to HTTPS"
    assert told["answer"]["status"] == 301
    assert headers(told["answer"]["headers"])["location"] == "https://a.example/x?y"
    assert reached(told) == [*OUTER, "ssl-redirect"]
    assert way(told)[-1] == "target"
    told = plane.ask("https://a.example/x")
    assert told["outcome"] == "sent"
    assert headers(told["request"]["headers"])["x-forwarded-proto"] == "https"


def test_a_host_without_a_service_is_a_404_of_the_router() -> None:
    told = Plane(up(hosts=("a.example",))).ask("http://b.example/")
    assert (told["outcome"], told["by"], told["service"]) == ("answered", "router", None)
    assert told["answer"]["status"] == 404
    assert told["reason"] == "no service has this host and path"
    assert way(told) == OUTER


def test_a_path_that_could_be_anothers_is_refused() -> None:
    one = ServiceState(Service("one", (A,)), (A,))
    two = ServiceState(Service("two", (B,), path_prefixes=("/two",)), (B,))
    told = Plane(one, two).ask("http://example.com/x/../two")
    assert (told["answer"]["status"], told["by"]) == (400, "router")


def test_without_a_healthy_target_the_target_answers_503() -> None:
    told = Plane(ServiceState(Service("app", (A,)))).ask("http://example.com/")
    assert (told["answer"]["status"], told["by"]) == (503, "target")
    assert told["reason"] == "no target is healthy"


@pytest.mark.parametrize(("path", "outcome"), [("/", "held"), ("/up", "answered")])
def test_a_paused_service_holds_but_nobody_waits(path: str, outcome: str) -> None:
    told = Plane(up(gate="paused")).ask(f"http://example.com{path}")
    assert (told["outcome"], told["by"]) == (outcome, "gate")
    (step, *_) = [step for step in told["way"] if step["name"] == "gate"]
    assert step["options"]["state"] == "paused"
    assert told["reason"]


def test_a_stopped_service_answers_with_its_message() -> None:
    told = Plane(up(gate="stopped", message="later")).ask("http://example.com/")
    assert (told["answer"]["status"], told["by"]) == (503, "gate")
    assert told["reason"] == "the service is stopped"


@pytest.mark.parametrize("requests", [True, False])
def test_a_body_that_is_only_spoken_of_is_measured(requests: bool) -> None:
    plane = Plane(up(buffering=Buffering(requests=requests, max_request_body=10)))
    told = plane.ask("http://example.com/", ("Content-Length", "11"), method="POST")
    assert (told["answer"]["status"], told["reason"]) == (413, "the body is larger than is allowed")
    told = plane.ask("http://example.com/", ("Content-Length", "10"), method="POST")
    assert headers(told["request"]["headers"])["content-length"] == "10"
    told = plane.ask("http://example.com/", ("Transfer-Encoding", "chunked"), method="POST")
    assert headers(told["request"]["headers"])["transfer-encoding"] == "chunked"


def test_what_a_wrapper_remembers_is_not_touched() -> None:
    plane = Plane(up(wrappers=use("counter")))
    assert [plane.ask("example.com")["outcome"] for _ in range(4)] == ["sent"] * 4


def test_a_wrapper_that_does_not_decide_is_named() -> None:
    told = Plane(up(wrappers=use("slow"))).ask("http://example.com/")
    assert (told["outcome"], told["by"]) == ("undecided", "slow")


def test_a_wrapper_that_breaks_is_named() -> None:
    told = Plane(up(wrappers=use("broken"))).ask("http://example.com/")
    assert (told["answer"]["status"], told["by"]) == (500, "broken")


def test_a_stock_resource_that_answers_is_named() -> None:
    plane = Plane(up(wrappers=use("files")))
    for method in ("GET", "POST"):
        told = plane.ask("http://example.com/here", method=method)
        assert (told["outcome"], told["by"]) == ("answered", "files")
        assert told["answer"]["status"] == 200
    told = plane.ask("http://example.com/here", ("Content-Length", "9"), method="POST")
    assert told["answer"]["status"] == 200


def test_options_that_their_repr_hides_are_secret() -> None:
    told = Plane(up(wrappers=use("login", Login("me", "secret")))).ask("http://example.com/")
    (step,) = [step for step in told["way"] if step["name"] == "login"]
    assert step["options"] == {"user": "me"}


def test_a_long_option_is_cut() -> None:
    told = Plane(up(error_pages=((404, "x" * 5000),))).ask("http://example.com/")
    step = [step for step in told["way"] if step["name"] == "error-pages"][-1]
    ((code, page),) = step["options"]["pages"]
    assert (code, len(page)) == (404, 61)


def test_readers_and_a_rollout_are_chosen_as_for_any_request() -> None:
    rollout = Rollout((C,), (), (C,), Split(0, ("me",)))
    plane = Plane(up(A, read_targets=(B,), rollout=rollout))
    assert plane.ask("http://example.com/")["target"] == "b:1"
    assert plane.ask("http://example.com/", method="POST")["target"] == "a:1"
    assert plane.ask("http://example.com/", ("Cookie", "kamal-rollout=me"))["target"] == "c:1"


def test_the_client_has_the_address_that_is_said() -> None:
    told = Plane(up()).ask("http://example.com/", client="2001:db8::1")
    assert headers(told["request"]["headers"])["x-forwarded-for"] == "2001:db8::1"


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"url": "ftp://a/"}, "is no http:// or https:// URL"),
        ({"url": "http://"}, "is no http:// or https:// URL"),
        ({"url": "http://a:b/"}, "is no URL"),
        ({"url": "http://[a/"}, "is no URL"),
        ({"url": "a", "client": "me"}, '"me" is no IP address'),
        ({"url": "a", "headers": [("X", "1\r\nY: 2")]}, "without line breaks"),
        ({"url": "a", "method": "GET / HTTP/1.1\r\n"}, "without line breaks"),
        ({"url": "a", "method": "GET /"}, "refused with 400"),
        ({"url": "a", "headers": [("X", "\ud800")]}, "should be text"),
        (
            {"url": "a", "headers": [("Host", "a"), ("Host", "b")]},
            "refused with 400: several Hosts",
        ),
        ({"url": "http://a/" + "x" * 9000}, "refused with 414"),
    ],
)
def test_what_is_no_request_is_refused_with_a_sentence(asked: Any, text: str) -> None:
    plane = Plane()
    with pytest.raises(BadQuestion) as raised:
        plane.plane.explain(Question(**asked))
    assert text in str(raised.value)
    assert plane.clock.getDelayedCalls() == []


def test_requests_are_served_as_before() -> None:
    plane = Plane(up(A, B, wrappers=use("counter")))
    plane.ask("http://example.com/")
    client = Wire(plane.clock).attach(plane.plane.site.factory(secure=False)())
    client.send(get())
    assert plane.network.addresses == ["b:1"]
