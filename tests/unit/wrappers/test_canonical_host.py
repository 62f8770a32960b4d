"""One name for a service that has several (behaviour.md section 7, `canonical_host`)."""

from __future__ import annotations

import pytest

from kproxy.wrappers.canonical_host import CanonicalHost, Options
from tests.unit.wrappers.support import Echo, Serve, echoed, get

OPTIONS = Options("example.com")


def test_another_name_is_redirected_for_good_to_the_same_path_and_query(serve: Serve) -> None:
    site = serve(CanonicalHost(Echo(), OPTIONS))
    response = site.ask(get("/a%2Fb?q=%20&&", host="www.example.com"))
    assert response.code == 301
    assert response.header(b"location") == b"http://example.com/a%2Fb?q=%20&&"


def test_a_redirect_keeps_the_scheme(serve: Serve) -> None:
    site = serve(CanonicalHost(Echo(), OPTIONS), secure=True)
    response = site.ask(get("/x", host="www.example.com"))
    assert response.header(b"location") == b"https://example.com/x"


@pytest.mark.parametrize("host", ["example.com", "EXAMPLE.com", "example.com:8080", "example.com."])
def test_the_canonical_name_passes_whatever_its_case_port_or_trailing_dot(
    serve: Serve, host: str
) -> None:
    assert echoed(serve(CanonicalHost(Echo(), OPTIONS)).ask(get("/x", host=host)))["uri"] == "/x"


def test_the_connection_stays_open(serve: Serve) -> None:
    client = serve(CanonicalHost(Echo(), OPTIONS)).connect()
    client.send(get("/1", host="www.example.com"))
    client.send(get("/2", host="example.com"))
    assert [response.code for response in client.responses()] == [301, 200]


def test_a_request_without_a_host_is_redirected(serve: Serve) -> None:
    response = serve(CanonicalHost(Echo(), OPTIONS)).connect()
    response.send(b"GET /x HTTP/1.0\r\n\r\n")
    assert response.response().header(b"location") == b"http://example.com/x"


def test_a_target_in_absolute_form_leads_to_a_url_that_is_one(serve: Serve) -> None:
    site = serve(CanonicalHost(Echo(), OPTIONS))
    response = site.ask(get("http://www.example.com/x?y", host="www.example.com"))
    assert response.header(b"location") == b"http://example.com/x?y"
