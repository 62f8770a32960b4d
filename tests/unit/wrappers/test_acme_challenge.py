"""Challenges of a CA over plain HTTP (RFC 8555 section 8.3)."""

from __future__ import annotations

import pytest

from kproxy.wrappers.acme_challenge import AcmeChallenge, Options
from tests.unit.wrappers.support import Echo, Says, Serve, get

TOKEN = "/.well-known/acme-challenge/token"
OURS = Options((("token", "token.thumbprint"),))


def test_a_challenge_is_answered_for_any_host(serve: Serve) -> None:
    site = serve(AcmeChallenge(Says(b"app"), OURS))
    for host in ("one.example", "two.example:80"):
        response = site.ask(get(TOKEN, host=host))
        assert response.code == 200
        assert response.body == b"token.thumbprint"
        assert response.header(b"content-type") == b"application/octet-stream"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/token",
        "/.well-known/acme-challenge/",
        "/.well-known/acme-challenge/other",
        TOKEN + "/",
    ],
)
def test_all_the_rest_is_the_applications(serve: Serve, path: str) -> None:
    assert serve(AcmeChallenge(Says(b"app"), OURS)).ask(get(path)).body == b"app"


def test_challenges_come_and_go(serve: Serve) -> None:
    wrapper = AcmeChallenge(Says(b"app"))
    site = serve(wrapper)
    assert site.ask(get(TOKEN)).body == b"app"
    wrapper.answer([("token", "later")])
    assert site.ask(get(TOKEN)).body == b"later"
    wrapper.answer([])
    assert site.ask(get(TOKEN)).body == b"app"


def test_a_head_request_has_no_body_and_reaches_nobody(serve: Serve) -> None:
    inside = Echo()
    client = serve(AcmeChallenge(inside, OURS)).connect()
    client.send(get(TOKEN, method="HEAD"))
    assert client.response().code == 200
    assert inside.requests == []
