"""Large pieces of responses are passed on out of the memory that they were read into, which is read
into again at once: whoever keeps them has copied them."""

from __future__ import annotations

from typing import Any

import pytest

from kproxy.upstream.connection import MOST_SMALL_READS
from kproxy.wrappers.base import Filter
from tests.unit.http import http2_client
from tests.unit.http.memory import Wire, get, read_message
from tests.unit.upstream.support import Lender, Proxy, answer, one_message

KB = 1024
BODY = bytes(range(250)) * 400
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

lends = pytest.mark.parametrize("lends", [True, False])
buffered = pytest.mark.parametrize("buffered", [True, False])


def warm(**options: Any) -> Proxy:
    """A proxy that has a connection over which large pieces have come."""
    proxy = Proxy(**options)
    client = proxy.client()
    client.send(get())
    proxy.target.send(answer(BODY[: 20 * KB]))
    assert one_message(client).status == 200
    return proxy


def asked(**options: Any) -> tuple[Proxy, Wire]:
    proxy = warm(**options)
    client = proxy.client()
    client.send(get())
    return proxy, client


@lends
@buffered
@pytest.mark.parametrize("size", [16 * KB, 17 * KB, 100_000])
def test_a_response_that_comes_in_one_piece(lends: bool, buffered: bool, size: int) -> None:
    proxy, client = asked(lends=lends, buffer_responses=buffered, buffer_memory=1_000_000)
    proxy.target.send(answer(BODY[:size]))
    assert one_message(client).body == BODY[:size]
    assert proxy.idle == 1


@lends
@buffered
def test_a_response_that_comes_in_several_pieces(lends: bool, buffered: bool) -> None:
    for sizes in ((30_000, 70_000), (70_000, 30_000), (99_990, 10), (20_000,) * 5):
        proxy, client = asked(lends=lends, buffer_responses=buffered, buffer_memory=1_000_000)
        text = answer(BODY)
        head = len(text) - len(BODY)
        for size in sizes:
            proxy.target.send(text[: head + size])
            text, head = text[head + size :], 0
        assert one_message(client).body == BODY
        assert proxy.idle == 1


def test_a_buffered_response_is_not_passed_on_before_its_last_piece() -> None:
    proxy, client = asked(buffer_responses=True, buffer_memory=1_000_000)
    text = answer(BODY)
    proxy.target.send(text[:-20_000])
    proxy.target.reset()
    assert one_message(client).status == 502


def test_a_buffered_response_that_is_over_its_memory_goes_through_a_file() -> None:
    proxy, client = asked(buffer_responses=True, buffer_memory=99_999)
    proxy.target.send(answer(BODY))
    assert one_message(client).body == BODY


def test_a_buffered_response_that_is_over_its_limit_is_replaced_by_an_error() -> None:
    for limit, status in ((99_999, 500), (100_000, 200)):
        proxy, client = asked(
            buffer_responses=True, buffer_memory=1_000_000, max_response_body=limit
        )
        proxy.target.send(answer(BODY))
        assert one_message(client).status == status


@buffered
def test_a_body_without_a_length(buffered: bool) -> None:
    for head, text in ((UNTIL_CLOSE, BODY), (CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (100_000, BODY))):
        proxy, client = asked(buffer_responses=buffered, buffer_memory=1_000_000)
        proxy.target.send(head + text[:40_000], text[40_000:])
        proxy.target.send_eof()
        assert one_message(client).body == BODY


@buffered
def test_more_than_a_read_takes(buffered: bool) -> None:
    proxy, client = asked(buffer_responses=buffered, buffer_memory=1_000_000)
    proxy.target.send(answer(BODY * 9))
    assert one_message(client).body == BODY * 9


def test_a_slow_client_gets_what_was_sent() -> None:
    proxy, client = asked()
    client.stop_reading()
    proxy.target.send(answer(BODY * 4))
    other = proxy.client()
    other.send(get())
    proxy.target.send(answer(b"another body" * 9000))
    client.read_on()
    assert one_message(client).body == BODY * 4
    assert one_message(other).body == b"another body" * 9000


def test_a_head_that_is_longer_than_a_small_piece() -> None:
    lines = [b"X-%d: %b" % (number, b"y" * 1000) for number in range(40)]
    proxy, client = asked()
    proxy.target.send(answer(BODY, *lines))
    message = one_message(client)
    assert message.body == BODY
    assert message.get(b"x-39") == [b"y" * 1000]


def test_a_head_whose_first_line_came_by_itself() -> None:
    proxy, client = asked()
    text = answer(BODY)
    proxy.target.send(text[:20], text[20:])
    assert one_message(client).body == BODY


def test_what_is_no_head_is_refused() -> None:
    for text in (b"\n" * 20_000, b"x" * 100_000):
        proxy, client = asked()
        proxy.target.send(text)
        assert one_message(client).status == 502
        assert proxy.target.aborted


def test_an_interim_response_before_a_large_one() -> None:
    proxy, client = asked()
    proxy.target.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(BODY))
    hints, rest = read_message(client.take())
    assert hints.status == 103
    assert read_message(rest)[0].body == BODY


def test_what_a_target_says_behind_an_upgrade() -> None:
    proxy = warm()
    client = proxy.client()
    client.send(get(b"/", b"Connection: Upgrade", b"Upgrade: raw"))
    proxy.target.send(
        b"HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n" + BODY, BODY
    )
    assert client.take().partition(b"\r\n\r\n")[2] == BODY * 2


def test_bytes_behind_a_response_end_its_connection() -> None:
    proxy, client = asked()
    proxy.target.send(answer(BODY) + b"more")
    assert one_message(client).body == BODY
    assert proxy.target.lost is not None


def test_an_idle_target_that_says_much_is_closed() -> None:
    proxy, client = asked()
    proxy.target.send(answer(BODY))
    proxy.target.send(BODY)
    assert proxy.target.aborted
    assert one_message(client).body == BODY


def test_a_response_to_http_1_0() -> None:
    proxy = warm()
    client = proxy.client()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    proxy.target.send(answer(BODY))
    assert one_message(client).body == BODY


def test_the_first_large_piece_is_the_last_that_is_not_lent() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(get())
    proxy.target.send(answer(BODY)[:50_000])
    assert proxy.target.protocol.lent == 0
    proxy.target.send(answer(BODY)[50_000:])
    assert proxy.target.protocol.lent == 1
    assert one_message(client).body == BODY


def test_many_small_responses_end_the_lending() -> None:
    proxy, client = asked()
    carrier = proxy.target.protocol
    for number in range(MOST_SMALL_READS + 5):
        proxy.target.send(answer(b"%d" % number))
        assert one_message(client).body == b"%d" % number
        client.send(get())
    assert carrier.lent == MOST_SMALL_READS
    proxy.target.send(answer(BODY))
    assert one_message(client).body == BODY


def test_a_large_response_now_and_then_keeps_the_lending() -> None:
    proxy, client = asked()
    carrier = proxy.target.protocol
    for number in range(3 * MOST_SMALL_READS):
        body = BODY if number % MOST_SMALL_READS == 1 else b"small"
        proxy.target.send(answer(body))
        assert one_message(client).body == body
        client.send(get())
    assert carrier.lent == 3 * MOST_SMALL_READS


def test_nothing_is_lent_by_transports_that_can_not() -> None:
    proxy, client = asked(lends=False)
    proxy.target.send(answer(BODY))
    assert one_message(client).body == BODY
    assert not isinstance(proxy.target.protocol, Lender)


def test_a_response_over_tls() -> None:
    proxy = warm()
    client = proxy.client(secure=True)
    client.send(get())
    proxy.target.send(answer(BODY)[:50_000], answer(BODY)[50_000:])
    assert one_message(client).body == BODY


@buffered
def test_a_response_over_http2(buffered: bool) -> None:
    proxy = Proxy(buffer_responses=buffered, buffer_memory=1_000_000)
    client = http2_client.client(proxy, window=30_000)
    stream = client.request()
    proxy.target.send(answer(BODY)[:60_000], answer(BODY)[60_000:])
    client.turn()
    client.take(1_000_000)
    while not client.answers[stream].ended:
        client.take(20_000, stream)
    assert client.answers[stream].body == BODY


def test_a_filter_gets_bytes_that_are_its_own() -> None:
    kept: list[Any] = []

    class Keeps(Filter):
        def write(self, data: bytes) -> None:
            kept.append(data)
            super().write(data)

    class Around:
        isLeaf = streams = True

        def __init__(self, resource: Any) -> None:
            self.resource = resource

        def render(self, request: Any) -> Any:
            request.add_filter(Keeps)
            return self.resource.render(request)

    proxy, client = asked(around=Around)
    kept.clear()
    proxy.target.send(answer(BODY)[:50_000], answer(BODY)[50_000:])
    assert one_message(client).body == BODY
    assert b"".join(kept) == BODY
    assert {type(data) for data in kept} == {bytes}
