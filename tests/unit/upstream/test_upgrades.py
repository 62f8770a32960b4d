"""Upgrades: WebSockets, and any other protocol that both sides agree on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.http.memory import Wire, get, post, read_message
from tests.unit.upstream.support import Proxy, answer, one_message

ASK = get(b"/ws", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x")
AGREE = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: y\r\n\r\n"
)


def upgraded(**options: bool) -> tuple[Proxy, Wire, Wire]:
    proxy = Proxy(**options)  # type: ignore[arg-type]
    client = proxy.client()
    client.send(ASK)
    proxy.target.take()
    proxy.target.send(AGREE)
    client.take()
    return proxy, client, proxy.target


@pytest.mark.parametrize("buffered", [False, True])
def test_an_upgrade_is_asked_for_and_agreed_upon(buffered: bool) -> None:
    proxy = Proxy(buffer_requests=buffered, buffer_responses=buffered)
    client = proxy.client()
    client.send(ASK)
    message = one_message(proxy.target)
    assert message.get(b"connection") == [b"Upgrade"]
    assert message.get(b"upgrade") == [b"websocket"]
    assert message.get(b"sec-websocket-key") == [b"x"]
    proxy.target.send(AGREE + b"early", b"more")
    message, rest = read_message(client.take())
    assert message.status == 101
    assert message.get(b"connection") == [b"Upgrade"]
    assert message.get(b"upgrade") == [b"websocket"]
    assert message.get(b"sec-websocket-accept") == [b"y"]
    assert rest == b"earlymore"
    client.send(b"hello")
    assert proxy.target.take() == b"hello"


def test_any_other_token_may_be_asked_for() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(get(b"/", b"Connection: x, upgrade", b"Upgrade: raw/2, chat"))
    assert one_message(proxy.target).get(b"upgrade") == [b"raw/2, chat"]
    proxy.target.send(b"HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
    message, _ = read_message(client.take())
    assert message.get(b"upgrade") == [b"chat"]


def test_a_target_that_does_not_agree_answers_as_ever() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(ASK + get(b"/next"))
    proxy.target.take()
    proxy.target.send(answer(b"no", code=426))
    assert read_message(client.take())[0].status == 426
    assert one_message(proxy.target).start == b"GET /next HTTP/1.1"


def test_a_tunnel_lasts_until_both_sides_have_closed() -> None:
    proxy, client, target = upgraded()
    assert proxy.active == 1
    proxy.clock.advance(10_000)
    client.send_eof()
    assert target.half_closed
    target.send(b"last words")
    assert client.take() == b"last words"
    assert proxy.active == 1
    target.send_eof()
    assert client.closed
    assert target.closed
    assert proxy.active == 0
    assert proxy.idle == 0
    assert not proxy.site.connections


def test_a_tunnel_that_breaks_breaks_on_both_sides() -> None:
    for broken in (0, 1):
        proxy, *ends = upgraded()
        ends[broken].reset()
        assert ends[1 - broken].aborted
        assert proxy.active == 0


def test_a_connection_that_was_a_tunnel_is_never_used_again() -> None:
    proxy, client, target = upgraded()
    client.send_eof()
    target.send_eof()
    other = proxy.client()
    other.send(get())
    assert proxy.target is not target


def test_a_target_that_was_slow_before_the_switch_is_not_held_to_a_limit_afterwards() -> None:
    proxy = Proxy()
    client = proxy.client()
    body = b"x" * 100_000
    text = post(body, b"Connection: Upgrade", b"Upgrade: x")
    client.send(text[:-100_000])
    proxy.target.stop_reading()
    client.send(body)
    proxy.target.send(b"HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    proxy.target.read_on()
    for _ in range(10):
        proxy.clock.advance(60)
        proxy.target.turn()
    assert proxy.target.lost is None
    proxy.target.take()
    client.send(b"!")
    assert proxy.target.take() == b"!"


def test_the_end_of_a_tunnel_is_the_end_of_its_request() -> None:
    ended: list[Any] = []

    class Around:
        isLeaf = streams = True

        def __init__(self, resource: Any) -> None:
            self.resource = resource

        def render(self, request: Any) -> Any:
            request.on_finish(lambda r, failure: ended.append((r.code, failure, r.sentLength)))
            return self.resource.render(request)

    proxy = Proxy(around=Around)
    client = proxy.client()
    client.send(ASK)
    proxy.target.send(AGREE + b"12", b"345")
    assert ended == []
    proxy.target.send_eof()
    client.send_eof()
    assert ended == [(101, None, 5)]
