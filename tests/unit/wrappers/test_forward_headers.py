"""X-Forwarded-For, -Proto and -Host: the table of behaviour.md section 4, in both modes."""

from __future__ import annotations

from typing import Any

import pytest

from kproxy.wrappers.forward_headers import ForwardHeaders, Options
from tests.unit.wrappers.support import CLIENT, Echo, Serve, echoed, get

PEER = CLIENT.host
TRUST = Options(forward=True)
DISTRUST = Options(forward=False)
BOTH = pytest.mark.parametrize("options", [TRUST, DISTRUST], ids=["true", "false"])


def sent_on(serve: Serve, options: Options, *lines: str, secure: bool = False) -> dict[str, Any]:
    site = serve(ForwardHeaders(Echo(), options), secure=secure)
    headers: dict[str, Any] = echoed(site.ask(get("/", *lines)))["headers"]
    return headers


@BOTH
def test_x_forwarded_for_is_the_peer_if_the_client_sent_none(
    serve: Serve, options: Options
) -> None:
    assert sent_on(serve, options)["x-forwarded-for"] == [PEER]


def test_x_forwarded_for_is_the_clients_value_then_the_peer(serve: Serve) -> None:
    headers = sent_on(serve, TRUST, "X-Forwarded-For: 10.0.0.1, 10.0.0.2")
    assert headers["x-forwarded-for"] == [f"10.0.0.1, 10.0.0.2, {PEER}"]


def test_several_x_forwarded_for_lines_become_one_in_their_order(serve: Serve) -> None:
    headers = sent_on(serve, TRUST, "X-Forwarded-For: 10.0.0.1", "x-forwarded-for: 10.0.0.2")
    assert headers["x-forwarded-for"] == [f"10.0.0.1, 10.0.0.2, {PEER}"]


def test_an_empty_x_forwarded_for_leaves_no_stray_comma(serve: Serve) -> None:
    assert sent_on(serve, TRUST, "X-Forwarded-For: ")["x-forwarded-for"] == [PEER]


def test_x_forwarded_for_is_the_peer_alone_where_the_client_is_not_trusted(serve: Serve) -> None:
    headers = sent_on(serve, DISTRUST, "X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 10.0.0.2")
    assert headers["x-forwarded-for"] == [PEER]


def test_the_target_that_a_trusted_proxy_named_is_kept(serve: Serve) -> None:
    assert sent_on(serve, TRUST, "X-Kamal-Target: a:1")["x-kamal-target"] == ["a:1"]


def test_no_target_is_named_by_a_client_that_is_not_trusted(serve: Serve) -> None:
    assert "x-kamal-target" not in sent_on(serve, DISTRUST, "X-Kamal-Target: a:1")


@BOTH
@pytest.mark.parametrize(("secure", "scheme"), [(False, "http"), (True, "https")])
def test_x_forwarded_proto_is_the_real_scheme_if_the_client_sent_none(
    serve: Serve, options: Options, secure: bool, scheme: str
) -> None:
    assert sent_on(serve, options, secure=secure)["x-forwarded-proto"] == [scheme]


def test_x_forwarded_proto_is_the_clients_value_where_it_is_trusted(serve: Serve) -> None:
    headers = sent_on(serve, TRUST, "X-Forwarded-Proto: https")
    assert headers["x-forwarded-proto"] == ["https"]


def test_x_forwarded_proto_is_the_real_scheme_where_the_client_is_not_trusted(
    serve: Serve,
) -> None:
    headers = sent_on(serve, DISTRUST, "X-Forwarded-Proto: https", "X-Forwarded-Proto: wss")
    assert headers["x-forwarded-proto"] == ["http"]


@BOTH
def test_x_forwarded_host_is_the_host_if_the_client_sent_none(
    serve: Serve, options: Options
) -> None:
    site = serve(ForwardHeaders(Echo(), options))
    told = echoed(site.ask(get("/", host="Example.com:8080")))
    assert told["headers"]["x-forwarded-host"] == ["Example.com:8080"]
    assert told["headers"]["host"] == ["Example.com:8080"]


def test_x_forwarded_host_is_the_clients_value_where_it_is_trusted(serve: Serve) -> None:
    headers = sent_on(serve, TRUST, "X-Forwarded-Host: shop.example.com")
    assert headers["x-forwarded-host"] == ["shop.example.com"]
    assert headers["host"] == ["example.com"]


def test_x_forwarded_host_is_the_host_where_the_client_is_not_trusted(serve: Serve) -> None:
    headers = sent_on(serve, DISTRUST, "X-Forwarded-Host: evil.example")
    assert headers["x-forwarded-host"] == ["example.com"]


def test_a_forged_x_forwarded_host_is_gone_also_from_a_request_without_a_host(
    serve: Serve,
) -> None:
    site = serve(ForwardHeaders(Echo(), DISTRUST))
    told = echoed(site.ask(b"GET / HTTP/1.0\r\nX-Forwarded-Host: evil.example\r\n\r\n"))
    assert "x-forwarded-host" not in told["headers"]


@pytest.mark.parametrize("forward", [True, False])
def test_the_client_ip_header_replaces_x_forwarded_for_first(serve: Serve, forward: bool) -> None:
    options = Options(forward, client_ip_header="CF-Connecting-IP")
    headers = sent_on(serve, options, "X-Forwarded-For: 10.0.0.1", "cf-connecting-ip: 203.0.113.5")
    assert headers["x-forwarded-for"] == [f"203.0.113.5, {PEER}"]
    assert headers["cf-connecting-ip"] == ["203.0.113.5"]


def test_without_the_client_ip_header_in_a_request_x_forwarded_for_is_as_ever(
    serve: Serve,
) -> None:
    line = "X-Forwarded-For: 10.0.0.1"
    trusting = Options(True, client_ip_header="CF-Connecting-IP")
    assert sent_on(serve, trusting, line)["x-forwarded-for"] == [f"10.0.0.1, {PEER}"]
    distrusting = Options(False, client_ip_header="CF-Connecting-IP")
    assert sent_on(serve, distrusting, line)["x-forwarded-for"] == [PEER]


@BOTH
@pytest.mark.parametrize(
    "name",
    [
        "X_Forwarded_For",
        "X_Forwarded-For",
        "x-forwarded_for",
        "X_FORWARDED_PROTO",
        "X-Forwarded_Host",
        "X_Request_ID",
        "X_Request-Start",
        "X_Kamal_Target",
    ],
)
def test_a_look_alike_with_underscores_is_removed(
    serve: Serve, options: Options, name: str
) -> None:
    headers = sent_on(serve, options, f"{name}: forged", "X_Other: kept")
    assert [values for values in headers.values() if "forged" in values] == []
    assert headers["x_other"] == ["kept"]


@BOTH
def test_other_headers_are_left_alone(serve: Serve, options: Options) -> None:
    headers = sent_on(serve, options, "X-Forwarded-Port: 81", "Forwarded: for=a", "Cookie: a=b")
    assert headers["x-forwarded-port"] == ["81"]
    assert headers["forwarded"] == ["for=a"]
    assert headers["cookie"] == ["a=b"]
