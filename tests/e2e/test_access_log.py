"""One JSON object a line for every request that got a status (behaviour.md section 5)."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone

import pytest

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Request, Wire, request_text, response_text


@pytest.fixture(scope="module")
def target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture(scope="module")
def running(module_stage: Stage, target: Target) -> Proxy:
    common = {"hosts": [target.address]}
    dead = {"hosts": ["127.0.0.1:1"]}
    logging = {"request_headers": ["X-Mine", "Referer"], "response_headers": ["X-Cache"]}
    roles = {
        "app": {**common, "proxy": {"buffering": {"max_request_body": 10}}},
        "chatty": {**common, "proxy": {"logging": logging}},
        "hasty": {**common, "proxy": {"response_timeout": 0.2}},
        "down": dead,
    }
    healthy = ("app.example", "chatty.example", "hasty.example")
    return module_stage.proxy(module_stage.deploy(roles), healthy=healthy)


@pytest.fixture
def proxy(running: Proxy, target: Target) -> Proxy:
    target.forget()
    return running


def test_a_request_is_logged_with_everything_that_is_known_about_it(
    proxy: Proxy, target: Target
) -> None:
    target.script = lambda wire, request: (
        wire.read_body(request),
        wire.send(response_text("hello", "201 Created", content_type="text/x")),
    )
    headers = {
        "User-Agent": 'a "quoted" agent',
        "Content-Type": "text/y",
        "X-Request-ID": "logged-1",
        "X-Forwarded-For": "203.0.113.7",
        "Cache-Control": "no-cache",
    }
    with proxy.connect() as wire:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        wire.send(
            f"PUT /a%20b?x=%22&y HTTP/1.1\r\nHost: app.example:8080\r\n{lines}"
            "Content-Length: 4\r\n\r\nbody"
        )
        wire.read_response()
        port = wire.sock.getsockname()[1]
    entry = proxy.logged(request_id="logged-1")
    moment = datetime.fromisoformat(entry.pop("time").replace("Z", "+00:00"))
    assert abs((datetime.now(timezone.utc) - moment).total_seconds()) < 60
    assert isinstance(entry.pop("duration"), int)
    assert entry == {
        "level": "INFO",
        "msg": "Request",
        "host": "app.example:8080",
        "port": proxy.port,
        "path": "/a%20b",
        "request_id": "logged-1",
        "status": 201,
        "service": "shop-app",
        "target": target.address,
        "method": "PUT",
        "req_content_length": 4,
        "req_content_type": "text/y",
        "resp_content_length": 5,
        "resp_content_type": "text/x",
        "client_addr": "127.0.0.1",
        "client_port": port,
        "remote_addr": "203.0.113.7",
        "user_agent": 'a "quoted" agent',
        "proto": "HTTP/1.1",
        "scheme": "http",
        "query": "x=%22&y",
        "req_cache_control": "no-cache",
        "req_user_agent": 'a "quoted" agent',
    }


def test_the_headers_that_a_service_names_are_logged(proxy: Proxy, target: Target) -> None:
    target.script = lambda wire, request: wire.send(response_text("", x_cache="HIT", x_other="1"))
    proxy.get("/named", "chatty.example", x_mine="m", user_agent="u")
    entry = proxy.logged(path="/named")
    assert entry["req_x_mine"] == "m"
    assert entry["resp_x_cache"] == "HIT"
    assert "resp_x_other" not in entry
    assert "req_user_agent" not in entry


def test_the_path_is_logged_as_the_client_sent_it_and_the_target_gets_the_id_of_the_line(
    proxy: Proxy, target: Target
) -> None:
    proxy.get("/id", "app.example")
    (request,) = target.requests
    assert request.get("x-request-id") == proxy.logged(path="/id")["request_id"]


def test_nothing_that_a_client_sends_can_begin_a_line_of_its_own(
    proxy: Proxy, target: Target
) -> None:
    agent = 'x","status":999,"y":"\\n\\' + "\x85\xe9"
    proxy.request(path="/%0a{}?\xff\x85", headers={"User-Agent": agent})
    entry = proxy.logged(path="/%0a{}")
    assert entry["status"] == 200
    assert entry["user_agent"].startswith('x","status":999')


@pytest.mark.parametrize(
    ("name", "path", "host", "headers", "body", "status"),
    [
        ("not_found", "/missing", "nobody.example", {}, b"", 404),
        ("too_large", "/large", "app.example", {}, b"x" * 11, 413),
        ("no_answer", "/late", "hasty.example", {}, b"", 504),
        ("nothing_healthy", "/down", "down.example", {}, b"", 503),
        ("nonsense", "/nonsense", "app.example", {}, b"", 502),
    ],
)
def test_answers_of_the_proxy_itself_are_logged_once(
    proxy: Proxy,
    target: Target,
    name: str,
    path: str,
    host: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
) -> None:
    def script(wire: Wire, request: Request) -> None:
        if name == "no_answer":
            wire.at_end()
        else:
            wire.send("nonsense\r\n\r\n")

    target.script = script
    assert proxy.request("POST", path, host, headers, body).status == status
    proxy.get("/after" + path, "nobody.example")
    proxy.logged(path="/after" + path)
    (entry,) = [e for e in proxy.log_lines() if e["path"] == path]
    assert entry["status"] == status
    assert entry["method"] == "POST"
    assert entry["req_content_length"] == len(body)
    assert entry["resp_content_type"].startswith("text/html")


def test_a_request_that_can_not_be_read_is_logged(proxy: Proxy) -> None:
    before = len([e for e in proxy.log_lines() if e["status"] == 400])
    assert proxy.refuse(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").status == 400
    entry = proxy.logged(count=before + 1, status=400)
    assert entry["client_addr"] == "127.0.0.1"
    assert entry["service"] == ""


def test_a_client_that_goes_away_is_logged_as_499(proxy: Proxy, target: Target) -> None:
    arrived = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        arrived.set()
        wire.at_end()

    target.script = script
    with proxy.connect() as wire:
        wire.send("GET /impatient HTTP/1.1\r\nHost: app.example\r\n\r\n")
        assert arrived.wait(20)
    entry = proxy.logged(path="/impatient")
    assert entry["status"] == 499
    assert entry["target"] == target.address


def test_pipelined_requests_get_a_line_each_in_order(proxy: Proxy) -> None:
    with proxy.connect() as wire:
        wire.send(request_text(path="/p?0") + request_text(path="/p?1"))
        wire.read_response()
        wire.read_response()
    proxy.logged(count=2, path="/p")
    assert [e["query"] for e in proxy.log_lines() if e["path"] == "/p"] == ["0", "1"]


def test_the_file_that_access_log_names_takes_the_lines(stage: Stage) -> None:
    file = stage.folder / "requests.log"
    roles = {"app": {"hosts": [stage.target().address]}}
    config = stage.deploy(roles, x_kproxy={"access_log": str(file)})
    proxy = stage.proxy(config, healthy=("app.example",))
    proxy.get("/one")

    def lines() -> list[str]:
        return [line for line in file.read_text().splitlines() if '"/one"' in line]

    (line,) = wait_until("the line", lines)
    assert json.loads(line)["path"] == "/one"
    proxy.get("/two")
    assert proxy.stop() == 0
    assert '"/two"' in file.read_text(), "what waited to be written was lost at the end"
    assert '"msg":"Request"' not in proxy.output
