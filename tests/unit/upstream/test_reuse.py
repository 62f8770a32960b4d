"""When a connection to a target is used again, and what is repeated if that goes wrong."""

from __future__ import annotations

import pytest

from kproxy.config.model import Target
from kproxy.upstream.pool import IDLE, MOST_IDLE
from tests.unit.http.memory import Wire, get, post, read_messages
from tests.unit.upstream.support import Proxy, answer, one_message


def exchange(proxy: Proxy, client: Wire, response: bytes = answer()) -> None:
    """One request and its answer, after which the target's connection is idle."""
    client.send(get())
    proxy.target.take()
    proxy.target.send(response)
    assert one_message(client).status == 200


def used(**options: bool) -> tuple[Proxy, Wire, Wire]:
    """A proxy, a client of it, and a target's connection that has been used once."""
    proxy = Proxy(**options)  # type: ignore[arg-type]
    client = proxy.client()
    exchange(proxy, client)
    assert proxy.idle == 1
    return proxy, client, proxy.target


# Use again, or not.


def test_a_connection_is_used_again_by_any_client() -> None:
    proxy, client, target = used()
    for other in (client, proxy.client()):
        exchange(proxy, other)
    assert proxy.network.wires == [target]


def test_requests_at_the_same_time_get_connections_of_their_own() -> None:
    proxy = Proxy()
    clients = [proxy.client() for _ in range(3)]
    for client in clients:
        client.send(get())
    assert len(proxy.network.wires) == 3
    for index, wire in enumerate(proxy.network.wires):
        wire.send(answer(b"%d" % index))
    assert [one_message(client).body for client in clients] == [b"0", b"1", b"2"]
    assert proxy.idle == 3


@pytest.mark.parametrize(
    "response",
    [
        answer(b"x", b"Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        answer(b"x") + b"behind",
        answer(b"x") + answer(b"y"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nbehind",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_a_connection_that_does_not_end_clean_is_closed(response: bytes, bytewise: bool) -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(get())
    first = proxy.target
    if bytewise:
        first.send_bytewise(response)
    else:
        first.send(response)
    assert one_message(client).status == 200
    assert proxy.idle == 0
    assert first.lost is not None
    exchange(proxy, client)
    assert proxy.target is not first


def test_http_1_0_with_keep_alive_is_used_again() -> None:
    proxy = Proxy()
    response = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx"
    exchange(proxy, proxy.client(), response)
    assert proxy.idle == 1


@pytest.mark.parametrize(
    "noise", [b"x", b"\r\n", answer(b"poison"), b"HTTP/1.1 408 Timeout\r\n\r\n"]
)
def test_an_idle_connection_that_says_anything_is_closed(noise: bytes) -> None:
    proxy, client, target = used()
    target.send(noise)
    assert target.aborted
    assert proxy.idle == 0
    client.send(get())
    assert proxy.target is not target
    proxy.target.send(answer(b"mine"))
    assert one_message(client).body == b"mine"


def test_an_idle_connection_that_closes_is_forgotten() -> None:
    for close in (Wire.send_eof, Wire.reset):
        proxy, client, target = used()
        close(target)
        assert proxy.idle == 0
        exchange(proxy, client)
        assert proxy.target is not target


def test_an_idle_connection_is_closed_after_a_while() -> None:
    proxy, _, target = used()
    proxy.clock.advance(IDLE - 1)
    assert target.lost is None
    exchange(proxy, proxy.client())
    proxy.clock.advance(IDLE - 1)
    assert target.lost is None
    proxy.clock.advance(1)
    target.turn()
    assert target.closed
    assert proxy.idle == 0


def test_the_connection_that_was_used_last_is_used_first() -> None:
    proxy = Proxy()
    clients = [proxy.client() for _ in range(2)]
    for client in clients:
        client.send(get())
    first, second = proxy.network.wires
    first.send(answer())
    second.send(answer())
    second.take()
    clients[0].send(get(b"/again"))
    assert one_message(second).start == b"GET /again HTTP/1.1"


def test_idle_connections_are_bounded() -> None:
    proxy = Proxy()
    clients = [proxy.client() for _ in range(MOST_IDLE + 3)]
    for client in clients:
        client.send(get())
    for wire in list(proxy.network.wires):
        wire.send(answer())
    assert proxy.idle == MOST_IDLE
    assert sum(wire.closed for wire in proxy.network.wires) == 3


def test_a_connection_is_not_used_again_if_the_request_was_not_sent_whole() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(post(b"x" * 100)[:-50])
    proxy.target.send(answer(b"enough"))
    assert one_message(client).body == b"enough"
    assert proxy.idle == 0
    assert proxy.target.lost is not None
    assert client.half_closed


def test_an_answer_that_comes_early_is_passed_on_while_the_request_is_still_sent() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(post(b"x" * 10)[:-5])
    proxy.target.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    assert client.received.endswith(b"\r\n\r\nhello")
    client.send(b"xxxxx")
    assert one_message(proxy.target).body == b"x" * 10
    proxy.target.send(b"world")
    assert one_message(client).body == b"helloworld"
    assert proxy.idle == 1
    assert client.lost is None


def test_a_closed_pool_closes_what_is_idle_and_the_rest_when_it_is_done() -> None:
    proxy, client, _ = used()
    client.send(get())
    proxy.client().send(get())
    busy, other = proxy.network.wires
    other.send(answer())
    assert proxy.idle == 1
    proxy.pools[0].close()
    other.turn()
    assert other.closed
    assert busy.lost is None
    busy.send(answer())
    assert one_message(client).status == 200
    assert busy.closed


# Once more.


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"])
@pytest.mark.parametrize("close", [Wire.send_eof, Wire.reset])
def test_a_request_is_repeated_if_the_connection_was_closed_before_it(
    method: bytes, close: object
) -> None:
    proxy, client, target = used()
    client.send(get(b"/again", method=method))
    target.take()
    close(target)  # type: ignore[operator]
    assert proxy.target is not target
    assert one_message(proxy.target).start == method + b" /again HTTP/1.1"
    proxy.target.send(answer(b"" if method == b"HEAD" else b"hello"))
    assert one_message(client, bodiless=method == b"HEAD").status == 200
    assert proxy.active == 0


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"LOCK", b"get"])
def test_a_request_that_might_have_been_acted_upon_is_not_repeated(method: bytes) -> None:
    proxy, client, target = used()
    client.send(get(b"/again", method=method))
    target.send_eof()
    assert proxy.network.wires == [target]
    assert one_message(client).status == 502


@pytest.mark.parametrize("method", [b"POST", b"PUT"])
def test_a_body_that_was_not_buffered_is_not_sent_again(method: bytes) -> None:
    proxy, client, target = used()
    client.send(post(b"hello", method=method))
    target.send_eof()
    assert proxy.network.wires == [target]
    assert one_message(client).status == 502


def test_a_buffered_body_is_sent_again_whole() -> None:
    for size in (5, 5000):
        proxy, client, target = used(buffer_requests=True)
        body = bytes(range(5)) * (size // 5)
        client.send(post(body, method=b"PUT"))
        assert one_message(target).body == body
        target.send_eof()
        assert one_message(proxy.target).body == body
        proxy.target.send(answer())
        assert one_message(client).status == 200


def test_a_buffered_post_is_not_sent_again() -> None:
    proxy, client, target = used(buffer_requests=True)
    client.send(post(b"hello"))
    target.send_eof()
    assert one_message(client).status == 502
    assert proxy.network.wires == [target]


@pytest.mark.parametrize(
    "beginning", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"]
)
def test_a_request_is_not_repeated_once_a_byte_of_an_answer_has_come(beginning: bytes) -> None:
    proxy, client, target = used()
    client.send(get())
    target.send(beginning)
    target.send_eof()
    assert proxy.network.wires == [target]
    assert read_messages(client.take())[-1].status == 502


def test_a_request_is_repeated_once_only() -> None:
    proxy = Proxy()
    clients = [proxy.client() for _ in range(2)]
    for client in clients:
        client.send(get())
    for wire in list(proxy.network.wires):
        wire.send(answer())
    assert proxy.idle == 2
    clients[0].take()
    clients[0].send(get())
    proxy.network.wires[1].send_eof()
    # The repetition takes a fresh connection, not the other old one.
    assert proxy.idle == 1
    assert len(proxy.network.wires) == 3
    proxy.target.send_eof()
    assert len(proxy.network.wires) == 3
    assert one_message(clients[0]).status == 502


def test_a_request_is_not_repeated_on_a_connection_that_was_fresh() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(get())
    proxy.target.send_eof()
    assert len(proxy.network.attempts) == 1
    assert one_message(client).status == 502


def test_a_request_is_not_repeated_for_a_client_that_left() -> None:
    proxy, client, target = used()
    client.send(get())
    client.reset()
    target.turn()
    assert target.aborted
    assert proxy.network.wires == [target]
    assert proxy.active == 0


def test_a_repetition_whose_connection_is_refused_goes_to_another_target() -> None:
    proxy = Proxy(Target("a", 1), Target("b", 2))
    client = proxy.client()
    exchange(proxy, client)
    first = proxy.network.addresses[0]
    exchange(proxy, client)
    client.send(get(b"/again"))
    proxy.network.refusing.add(first)
    proxy.network.wires[0].send_eof()
    assert proxy.network.addresses[2] == first
    other = proxy.network.wires[1]
    assert other.received.endswith(b"\r\n\r\n")
    assert read_messages(other.take())[-1].start == b"GET /again HTTP/1.1"
    other.send(answer())
    assert one_message(client).status == 200
    assert proxy.active == 0
