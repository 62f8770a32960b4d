"""Plain HTTP to a service with TLS (behaviour.md section 2, `ssl_redirect`)."""

from __future__ import annotations

import pytest

from kproxy.wrappers.ssl_redirect import SSLRedirect
from tests.unit.wrappers.support import Echo, Serve, echoed, get


def test_plain_http_is_redirected_for_good_to_the_same_path_and_query(serve: Serve) -> None:
    response = serve(SSLRedirect(Echo())).ask(get("/a%20b/?q=%2F&r=a+b&&=?"))
    assert response.code == 301
    assert response.header(b"location") == b"https://example.com/a%20b/?q=%2F&r=a+b&&=?"


@pytest.mark.parametrize(
    ("host", "redirected"),
    [
        ("example.com:8080", b"https://example.com/"),
        ("[2001:db8::1]:8080", b"https://[2001:db8::1]/"),
        ("[2001:db8::1]", b"https://[2001:db8::1]/"),
    ],
)
def test_the_port_is_left_out(serve: Serve, host: str, redirected: bytes) -> None:
    response = serve(SSLRedirect(Echo())).ask(get(host=host))
    assert response.header(b"location") == redirected


def test_the_connection_is_closed_after_the_redirect(serve: Serve) -> None:
    client = serve(SSLRedirect(Echo())).connect()
    client.send(get())
    assert client.response().header(b"connection") == b"close"


def test_kproxys_engine_closes_the_connection_that_it_said_it_would(serve: Serve) -> None:
    site = serve(SSLRedirect(Echo()))
    client = site.connect()
    client.send(get())
    # A stock Site leaves that to the client, which was told.
    assert client.closing or not site.native


def test_a_post_is_redirected_too_and_reaches_nobody(serve: Serve) -> None:
    inside = Echo()
    response = serve(SSLRedirect(inside)).ask(get("/form", "Content-Length: 0", method="POST"))
    assert response.code == 301
    assert inside.requests == []


def test_the_page_of_a_redirect_is_a_link_that_is_escaped(serve: Serve) -> None:
    response = serve(SSLRedirect(Echo())).ask(get("/?a=\"><script>'&b"))
    assert b"<script>" not in response.body
    assert b'href="https://example.com/?a=&quot;&gt;' in response.body


def test_a_head_request_is_redirected_without_a_body(serve: Serve) -> None:
    client = serve(SSLRedirect(Echo())).connect()
    client.send(get("/x", method="HEAD"))
    assert client.response().header(b"location") == b"https://example.com/x"
    assert client.received.endswith(b"\r\n\r\n")


def test_a_request_over_tls_passes(serve: Serve) -> None:
    site = serve(SSLRedirect(Echo()), secure=True)
    assert echoed(site.ask(get("/x?y")))["uri"] == "/x?y"


def test_a_claim_of_the_client_to_have_used_tls_is_no_tls(serve: Serve) -> None:
    response = serve(SSLRedirect(Echo())).ask(get("/", "X-Forwarded-Proto: https"))
    assert response.code == 301


def test_a_request_for_the_server_as_a_whole_leads_to_a_url_that_is_one(serve: Serve) -> None:
    response = serve(SSLRedirect(Echo())).ask(get("*", method="OPTIONS"))
    assert response.header(b"location") in (None, b"https://example.com/")


def test_a_target_in_absolute_form_leads_to_a_url_that_is_one(serve: Serve) -> None:
    response = serve(SSLRedirect(Echo())).ask(get("http://example.com:8080/x?y"))
    assert response.header(b"location") == b"https://example.com/x?y"
