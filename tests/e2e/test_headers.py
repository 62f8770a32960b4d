"""What the target is told about the client (behaviour.md section 4)."""

from __future__ import annotations

import re
import time

import pytest

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, seen_by
from tests.e2e.support.wire import Response, response_text

FORGED = {
    "X-Forwarded-For": "203.0.113.7, 203.0.113.8",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "public.example",
    "X-Request-ID": "id-of-the-client",
    "X-Request-Start": "t=1",
    "X-Kamal-Target": "earlier:1",
}


@pytest.fixture(scope="module")
def target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture(scope="module")
def running(module_stage: Stage, target: Target) -> Proxy:
    roles = {
        name: {"hosts": [target.address], "proxy": {"forward_headers": forward}}
        for name, forward in (("trusting", True), ("strict", False), ("edge", True))
    }
    extras = {"roles": {"edge": {"client_ip_header": "CF-Connecting-IP"}}}
    config = module_stage.deploy(roles, x_kproxy=extras)
    return module_stage.proxy(
        config, healthy=("trusting.example", "strict.example", "edge.example")
    )


@pytest.fixture
def proxy(running: Proxy, target: Target) -> Proxy:
    target.forget()
    return running


def fields(response: Response) -> dict[str, str]:
    fields: dict[str, str] = seen_by(response.body)["fields"]
    return fields


def test_a_bare_request_gets_all_headers_that_tell_about_the_client(
    proxy: Proxy, target: Target
) -> None:
    before = int(time.time() * 1000)
    seen = fields(proxy.get("/", "trusting.example:8080"))
    after = int(time.time() * 1000)
    assert seen["host"] == "trusting.example:8080"
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-forwarded-host"] == "trusting.example:8080"
    assert seen["x-kamal-target"] == target.address
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", seen["x-request-id"])
    assert seen["x-request-start"].startswith("t=")
    assert before <= int(seen["x-request-start"][2:]) <= after


def test_what_a_trusted_proxy_said_is_kept_and_extended(proxy: Proxy, target: Target) -> None:
    seen = fields(proxy.request(host="trusting.example", headers=FORGED))
    assert seen["x-forwarded-for"] == "203.0.113.7, 203.0.113.8, 127.0.0.1"
    assert seen["x-forwarded-proto"] == "https"
    assert seen["x-forwarded-host"] == "public.example"
    assert seen["x-request-id"] == "id-of-the-client"
    assert seen["x-request-start"] == "t=1"
    assert seen["x-kamal-target"] == f"earlier:1, {target.address}"


def test_what_an_untrusted_client_said_about_itself_is_replaced(
    proxy: Proxy, target: Target
) -> None:
    seen = fields(proxy.request(host="strict.example", headers=FORGED))
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-forwarded-host"] == "strict.example"
    assert seen["x-request-id"] == "id-of-the-client"
    assert seen["x-request-start"] == "t=1"
    assert seen["x-kamal-target"] == target.address


@pytest.mark.parametrize("host", ["trusting.example", "strict.example"])
def test_underscores_do_not_smuggle_a_forwarded_address_past_the_proxy(
    proxy: Proxy, host: str
) -> None:
    lies = {"X_Forwarded_For": "1.1.1.1", "X-Forwarded_Host": "evil", "x_request-id": "1"}
    assert not {name.lower() for name in lies} & set(fields(proxy.request(host=host, headers=lies)))


def test_the_client_ip_header_replaces_the_address_that_was_forwarded(proxy: Proxy) -> None:
    came = {"CF-Connecting-IP": "203.0.113.9", "X-Forwarded-For": "203.0.113.7"}
    seen = fields(proxy.request(host="edge.example", headers=came))
    assert seen["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
    del came["CF-Connecting-IP"]
    seen = fields(proxy.request(host="edge.example", headers=came))
    assert seen["x-forwarded-for"] == "203.0.113.7, 127.0.0.1"


def test_hop_by_hop_headers_end_at_the_proxy_in_both_directions(
    proxy: Proxy, target: Target
) -> None:
    answer = response_text(
        "x",
        keep_alive="timeout=5",
        connection="keep-alive, X-Mine",
        x_mine="1",
        proxy_authenticate="Basic",
        upgrade="h2c",
        x_kept="1",
    )
    target.script = lambda wire, request: wire.send(answer)
    came = {
        "Connection": "keep-alive, X-Private",
        "X-Private": "1",
        "Keep-Alive": "300",
        "TE": "trailers",
        "Proxy-Authorization": "Basic x",
        "Proxy-Connection": "keep-alive",
        "Upgrade": "h2c",
        "X-Public": "1",
    }
    response = proxy.request(host="trusting.example", headers=came)
    (request,) = target.requests
    names = {name.lower() for name, _ in request.headers}
    assert "x-public" in names
    assert not names & {name.lower() for name in came if name != "X-Public"}
    assert response.get("x-kept") == "1"
    gone = ("keep-alive", "x-mine", "proxy-authenticate", "upgrade", "connection")
    assert not any(response.has(name) for name in gone)


def test_connection_can_not_take_away_what_the_request_is_about(
    proxy: Proxy, target: Target
) -> None:
    came = {"Connection": "Host, Content-Length, Cookie, Authorization", "Cookie": "a=b"}
    seen = seen_by(proxy.request("POST", "/", "trusting.example", came, b"body").body)
    assert seen["body"] == "body"
    assert seen["fields"]["host"] == "trusting.example"
    assert seen["fields"]["cookie"] == "a=b"


def test_headers_keep_their_spelling_order_and_repetition(proxy: Proxy, target: Target) -> None:
    came = [("x-lower", "1"), ("X-MANY", "a"), ("Cookie", "a=1"), ("X-Many", "b"), ("X-Empty", "")]
    proxy.request(host="trusting.example", headers=came)
    (request,) = target.requests
    kept = [pair for pair in request.headers if pair in came]
    assert sorted(kept) == sorted(came)
    assert [v for n, v in request.headers if n.lower() == "x-many"] == ["a", "b"]


def test_repeated_set_cookie_headers_of_the_response_stay_apart(
    proxy: Proxy, target: Target
) -> None:
    target.script = lambda wire, request: wire.send(
        b"HTTP/1.1 200 Fine\r\nSet-Cookie: a=1, x\r\nServer: mine\r\nset-cookie: b=2\r\n"
        b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
    )
    response = proxy.get(host="trusting.example")
    assert response.first == "HTTP/1.1 200 Fine"
    assert response.all("set-cookie") == ["a=1, x", "b=2"]
    assert response.all("server") == ["mine"]
    assert response.all("date") == ["Thu, 01 Jan 1970 00:00:00 GMT"]
