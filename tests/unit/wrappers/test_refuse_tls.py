"""HTTPS to a service without TLS."""

from __future__ import annotations

from twisted.internet.task import Clock

from kproxy.wrappers.error_pages import ErrorPages
from kproxy.wrappers.refuse_tls import RefuseTLS
from tests.unit.http.memory import Echo, Engine, get, read_message
from tests.unit.wrappers.support import Says, Serve
from tests.unit.wrappers.support import get as get_text


def test_plain_http_passes(serve: Serve) -> None:
    assert serve(RefuseTLS(Says(b"app"))).ask(get_text()).body == b"app"


def test_https_is_answered_with_503_and_reaches_nobody() -> None:
    inside = Echo()
    client = Engine(ErrorPages(RefuseTLS(inside)), clock=Clock()).client(secure=True)
    client.send(get())
    message, _ = read_message(client.received)
    assert message.status == 503
    assert b"not available" in message.body
    assert inside.seen == []
