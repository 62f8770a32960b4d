"""The leaf for requests that the engine could not read (behaviour.md section 3)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from kproxy.http.heads import BadHead
from kproxy.http.site import Site
from kproxy.network import Carrier
from kproxy.streaming import streaming
from kproxy.wrappers.access_log import AccessLog, Options
from kproxy.wrappers.base import Wrapper
from kproxy.wrappers.error_pages import ErrorPages
from kproxy.wrappers.refusal import Refusal
from tests.unit.wrappers.support import CLIENT, KproxySite, Says, Serve, _Transport


class Unreadable(Wrapper):
    """Says of every request what the engine says of one that it can't read."""

    def __init__(self, wrapped: Any, error: BadHead) -> None:
        super().__init__(wrapped)
        self.error = error

    def render(self, request: Any) -> Any:
        streaming(request).notes["refusal"] = self.error
        return self.wrapped.render(request)


@pytest.mark.parametrize("status", [400, 408, 414, 431])
def test_it_answers_with_the_status_of_the_refusal(serve: Serve, status: int) -> None:
    tree = ErrorPages(Unreadable(Refusal(), BadHead("for a reason", status)))
    response = serve(tree).ask()
    assert response.code == status
    assert response.header(b"connection") == b"close"
    assert b"<h1>%d " % status in response.body
    assert b"for a reason" not in response.body


def test_it_logs_who_was_refused_and_why(serve: Serve) -> None:
    with capturedLogs() as events:
        serve(Unreadable(Refusal(), BadHead("two Hosts"))).ask()
    (event,) = [each for each in events if each.get("log_namespace") == Refusal.__module__]
    assert event["client"] == CLIENT.host
    assert str(event["error"]) == "two Hosts"


@pytest.mark.parametrize(
    "request_bytes",
    [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\0\r\n\r\n"],
)
def test_a_request_that_could_not_be_read_has_its_line_in_the_access_log(
    request_bytes: bytes,
) -> None:
    lines: list[str] = []

    class Logged(KproxySite):
        def protocol(self, transport: Any) -> Any:
            refusals = AccessLog(ErrorPages(Refusal()), Options(lines.append))
            return Carrier(Site(Says(b""), refusals, self.clock).factory(False)())

    client = Logged(Says(b""), Clock()).connect()
    client.send(request_bytes)
    assert client.response().code == 400
    assert client.closing
    (line,) = lines
    entry = json.loads(line)
    assert entry["status"] == 400
    assert entry["client_addr"] == CLIENT.host
    assert isinstance(client.transport, _Transport)
