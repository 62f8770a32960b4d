"""The access log (behaviour.md section 5)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.web.resource import Resource

from kproxy.errors import answer_error
from kproxy.routing import Table
from kproxy.streaming import streaming
from kproxy.wrappers.access_log import AccessLog, LoggedHeaders, Options
from kproxy.wrappers.forward_headers import ForwardHeaders
from kproxy.wrappers.forward_headers import Options as Forwarding
from kproxy.wrappers.host_router import HostRouter
from kproxy.wrappers.path_prefix import Options as Prefixes
from kproxy.wrappers.path_prefix import PathPrefix
from kproxy.wrappers.request_id import RequestID
from kproxy.wrappers.ssl_redirect import SSLRedirect
from tests.unit.wrappers.support import (
    CLIENT,
    HERE,
    Echo,
    Held,
    Says,
    Serve,
    chunked,
    echoed,
    get,
    post,
)


class Log:
    """Takes lines; each is read as JSON."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def options(self, now: float = 0.0) -> Options:
        return Options(self.lines.append, lambda: now)

    def entry(self) -> dict[str, Any]:
        """The one line that was written."""
        (line,) = self.lines
        assert line.endswith("}\n")
        assert line.count("\n") == 1
        entry: dict[str, Any] = json.loads(line)
        return entry


def logged(serve: Serve, leaf: Resource, request: bytes, **how: Any) -> dict[str, Any]:
    log = Log()
    client = serve(AccessLog(leaf, log.options()), **how).connect()
    client.send(request)
    return log.entry()


FIELDS = [
    "time",
    "level",
    "msg",
    "host",
    "port",
    "path",
    "request_id",
    "status",
    "service",
    "target",
    "duration",
    "method",
    "req_content_length",
    "req_content_type",
    "resp_content_length",
    "resp_content_type",
    "client_addr",
    "client_port",
    "remote_addr",
    "user_agent",
    "proto",
    "scheme",
    "query",
]


def test_a_line_has_all_fields_in_the_order_of_the_reference(serve: Serve) -> None:
    assert list(logged(serve, Echo(), get())) == FIELDS


def test_a_line_tells_what_was_asked(serve: Serve) -> None:
    request = post(
        b"a=b", "/a%20b/c?q=%2F&r", "X-Request-ID: id 1", "User-Agent: curl/8", "Content-Type: x/y"
    )
    entry = logged(serve, Says(b"ok"), request)
    assert entry["level"] == "INFO"
    assert entry["msg"] == "Request"
    assert entry["host"] == "example.com"
    assert entry["port"] == HERE.port
    assert entry["path"] == "/a%20b/c"
    assert entry["query"] == "q=%2F&r"
    assert entry["request_id"] == "id 1"
    assert entry["method"] == "POST"
    assert entry["req_content_length"] == 3
    assert entry["req_content_type"] == "x/y"
    assert entry["client_addr"] == CLIENT.host
    assert entry["client_port"] == CLIENT.port
    assert entry["remote_addr"] == CLIENT.host
    assert entry["user_agent"] == "curl/8"
    assert entry["proto"] == "HTTP/1.1"
    assert entry["scheme"] == "http"


def test_a_line_tells_what_was_answered(serve: Serve) -> None:
    leaf = Says(b"gone", code=410, content_type=b"text/plain")
    entry = logged(serve, leaf, get())
    assert entry["status"] == 410
    assert entry["resp_content_length"] == 4
    assert entry["resp_content_type"] == "text/plain"


def test_a_response_in_pieces_is_counted_without_its_framing(serve: Serve) -> None:
    assert logged(serve, Says(b"abc", b"defg"), get())["resp_content_length"] == 7


def test_a_request_over_tls_has_the_scheme_https(serve: Serve) -> None:
    assert logged(serve, Says(b""), get(), secure=True)["scheme"] == "https"


def test_an_http_1_0_request_without_a_host_has_an_empty_one(serve: Serve) -> None:
    entry = logged(serve, Says(b""), b"GET / HTTP/1.0\r\n\r\n")
    assert entry["proto"] == "HTTP/1.0"
    assert entry["host"] == ""


def test_the_length_of_a_chunked_request_is_not_known(serve: Serve) -> None:
    log = Log()
    site = serve(AccessLog(Says(b""), log.options()))
    site.ask(chunked(b"abc"))
    # A stock Site has read the whole body before it asks a resource.
    assert log.entry()["req_content_length"] == (-1 if site.native else 3)


def test_the_duration_is_in_nanoseconds_until_the_response_is_complete(serve: Serve) -> None:
    log, leaf = Log(), Held()
    serve(AccessLog(leaf, log.options())).connect().send(get())
    leaf.request.write(b"begun")
    assert log.lines == []
    leaf.request.began -= 700 * 10**9  # so long ago
    leaf.request.finish()
    assert 700 * 10**9 <= log.entry()["duration"] < 1300 * 10**9


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (1_700_000_000.0, "2023-11-14T22:13:20.000000Z"),
        (1_700_000_000.25, "2023-11-14T22:13:20.250000Z"),
        (1_700_000_000.00006, "2023-11-14T22:13:20.000060Z"),
    ],
)
def test_the_time_is_utc_with_microseconds(serve: Serve, now: float, text: str) -> None:
    log = Log()
    serve(AccessLog(Says(b""), log.options(now))).ask()
    assert log.entry()["time"] == text


def test_the_second_in_the_time_moves_on(serve: Serve) -> None:
    log, times = Log(), iter([1_700_000_000.5, 1_700_000_001.0])
    site = serve(AccessLog(Says(b""), Options(log.lines.append, lambda: next(times))))
    site.ask()
    site.ask()
    seconds = [json.loads(line)["time"][17:19] for line in log.lines]
    assert seconds == ["20", "21"]


def test_remote_addr_is_x_forwarded_for_if_it_was_sent(serve: Serve) -> None:
    entry = logged(serve, Says(b""), get("/", "X-Forwarded-For: 10.0.0.1, 10.0.0.2"))
    assert entry["remote_addr"] == "10.0.0.1, 10.0.0.2"
    assert entry["client_addr"] == CLIENT.host


def test_the_line_shows_what_the_client_sent_and_not_what_was_made_of_it(serve: Serve) -> None:
    log, inside = Log(), Echo()
    chain = PathPrefix(
        ForwardHeaders(inside, Forwarding(client_ip_header="X-Real-IP")), Prefixes(("/api",))
    )
    tree = AccessLog(chain, log.options())
    request = get("/api/x?q", "X-Forwarded-For: 10.0.0.1", "X-Real-IP: 10.0.0.9")
    assert echoed(serve(tree).ask(request))["uri"] == "/x?q"
    entry = log.entry()
    assert entry["remote_addr"] == "10.0.0.1"
    assert entry["path"] == "/api/x"
    assert entry["query"] == "q"


def test_the_line_shows_an_id_that_was_made_before_it(serve: Serve) -> None:
    log = Log()
    told = echoed(serve(RequestID(AccessLog(Echo(), log.options()))).ask())
    assert [log.entry()["request_id"]] == told["headers"]["x-request-id"]


def test_service_and_target_are_as_others_have_noted_them(serve: Serve) -> None:
    class Noted(Says):
        def render(self, request: Any) -> Any:
            streaming(request).notes["target"] = "10.0.0.1:3000"
            return super().render(request)

    log = Log()
    router = HostRouter(Table([((), ("/",), ("shop-web", Noted(b"")))]))
    serve(AccessLog(router, log.options())).ask()
    assert log.entry()["service"] == "shop-web"
    assert log.entry()["target"] == "10.0.0.1:3000"


HEADERS = {"a-web": LoggedHeaders(("X-Tenant", "Cache-Control"), ("X-Request-Id", "Age"))}


@pytest.mark.parametrize(
    ("service", "more"),
    [
        (
            "a-web",
            {"req_x_tenant": "t1", "req_cache_control": "no-cache", "resp_x_request_id": "r1"},
        ),
        ("b-web", {"req_cache_control": "no-cache"}),
    ],
)
def test_a_line_shows_the_headers_that_its_service_wants(
    serve: Serve, service: str, more: dict[str, str]
) -> None:
    log = Log()
    leaf = Says(b"", x_request_id=b"r1")
    tree = AccessLog(HostRouter(Table([((), ("/",), (service, leaf))])), log.options())
    tree.show_headers(HEADERS)
    serve(tree).ask(get("/", "X-Tenant: t1", "Cache-Control: no-cache"))
    entry = log.entry()
    assert {key: entry[key] for key in entry if key not in FIELDS} == more


def test_the_default_request_headers_are_shown_when_they_came(serve: Serve) -> None:
    lines = ("Cache-Control: max-age=0", "Last-Modified: never", "User-Agent: me")
    entry = logged(serve, Says(b""), get("/", *lines))
    assert entry["req_cache_control"] == "max-age=0"
    assert entry["req_last_modified"] == "never"
    assert entry["req_user_agent"] == "me"


def test_hostile_bytes_are_escaped_wherever_a_client_can_put_them(serve: Serve) -> None:
    raw = b'\xff\xc3"\\\t\xe2\x80\xa8'
    lines = b"".join(
        b"%b: %b\r\n" % (name, raw)
        for name in (b"User-Agent", b"X-Request-ID", b"Content-Type", b"X-Forwarded-For", b"Cookie")
    )
    log = Log()
    site = serve(AccessLog(Says(b"", content_type=b'text/"\\\xff'), log.options()))
    odd = b"\xc3\xa9\xff" if site.native else b""  # a stock Site takes ASCII only
    site.ask(b'GET /"%b\\?"%b\\ HTTP/1.1\r\nHost: a\r\n%b\r\n' % (odd, odd, lines))
    (line,) = log.lines
    assert line.isascii()
    assert line[:-1].isprintable()
    entry = log.entry()
    shown = '\\xff\\xc3"\\\t\u2028'
    escaped = "\u00e9\\xff" if site.native else ""
    assert entry["path"] == f'/"{escaped}\\'
    assert entry["query"] == f'"{escaped}\\'
    assert entry["user_agent"] == shown
    assert entry["req_content_type"] == shown
    assert entry["remote_addr"] == shown
    assert entry["resp_content_type"] == 'text/"\\\\xff'
    assert entry["request_id"] == raw.decode("latin-1")


def test_a_strange_method_or_host_is_escaped(serve: Serve) -> None:
    entry = logged(serve, Says(b""), b"M'!|~ / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert entry["method"] == "M'!|~"


def test_more_different_values_than_are_remembered_are_all_logged_right(serve: Serve) -> None:
    log = Log()
    client = serve(AccessLog(Says(b""), log.options())).connect()
    agents = [f'agent "{number}" {"long " * (number % 80)}end' for number in range(2500)]
    for agent in agents:
        client.send(get("/", f"User-Agent: {agent}"))
    assert [json.loads(line)["user_agent"] for line in log.lines] == agents


def test_a_client_that_left_before_it_was_answered_is_a_499(serve: Serve) -> None:
    log, leaf = Log(), Held()
    client = serve(AccessLog(leaf, log.options())).connect()
    client.send(get())
    client.leave()
    assert log.entry()["status"] == 499
    assert log.entry()["resp_content_length"] == 0


def test_a_client_that_left_in_the_middle_of_a_response_keeps_its_status(serve: Serve) -> None:
    log, leaf = Log(), Held()
    client = serve(AccessLog(leaf, log.options())).connect()
    client.send(get())
    leaf.request.setResponseCode(206)
    leaf.request.write(b"abc")
    client.leave()
    assert log.entry()["status"] == 206
    assert log.entry()["resp_content_length"] == 3


def test_a_client_that_leaves_after_its_answer_is_no_news(serve: Serve) -> None:
    log = Log()
    client = serve(AccessLog(Says(b"ok"), log.options())).connect()
    client.send(get())
    client.leave()
    assert log.entry()["status"] == 200


@pytest.mark.parametrize("code", [404, 413, 502, 503])
def test_an_answer_of_the_proxy_itself_is_logged_once(serve: Serve, code: int) -> None:
    class Refuses(Held):
        def render(self, request: Any) -> int:
            answer_error(streaming(request), code)
            return super().render(request)

    entry = logged(serve, Refuses(), get())
    assert entry["status"] == code
    assert entry["resp_content_length"] > 0


def test_a_redirect_is_logged(serve: Serve) -> None:
    assert logged(serve, SSLRedirect(Echo()), get())["status"] == 301


def test_a_resource_that_raises_an_error_is_logged_as_500(serve: Serve) -> None:
    class Broken(Resource):
        isLeaf = True

        def render(self, request: Any) -> bytes:
            raise ZeroDivisionError

    assert logged(serve, Broken(), get())["status"] == 500


def test_a_head_request_is_logged_with_no_content(serve: Serve) -> None:
    entry = logged(serve, Says(b"abc"), get(method="HEAD"))
    assert entry["method"] == "HEAD"
    assert entry["status"] == 200
    assert entry["resp_content_length"] == 0


def test_each_request_of_a_connection_has_its_line_in_order(serve: Serve) -> None:
    log = Log()
    client = serve(AccessLog(Says(b"ok"), log.options())).connect()
    client.send(get("/1") + get("/2") + get("/3"))
    assert [json.loads(line)["path"] for line in log.lines] == ["/1", "/2", "/3"]
