"""How long targets may take, on a clock that the test moves."""

from __future__ import annotations

from kproxy.upstream.pool import STALLED
from tests.unit.http.memory import get, post, read_messages
from tests.unit.upstream.support import Proxy, answer, one_message

KB = 1024


def test_headers_that_do_not_come_in_time_are_504() -> None:
    proxy = Proxy(response_timeout=10)
    client = proxy.client()
    client.send(get())
    proxy.target.send(b"HTTP/1.1 200 OK\r\n")
    proxy.clock.advance(9.9)
    assert client.received == b""
    proxy.clock.advance(0.1)
    proxy.target.turn()
    assert one_message(client).status == 504
    assert client.lost is None
    assert proxy.target.aborted
    assert proxy.active == 0


def test_interim_responses_do_not_count() -> None:
    proxy = Proxy(response_timeout=10)
    client = proxy.client()
    client.send(get())
    for _ in range(9):
        proxy.clock.advance(1)
        proxy.target.send(b"HTTP/1.1 102 Processing\r\n\r\n")
    proxy.clock.advance(1)
    assert read_messages(client.take())[-1].status == 504


def test_a_response_that_has_begun_is_never_cut() -> None:
    for buffered in (False, True):
        proxy = Proxy(response_timeout=10, buffer_responses=buffered)
        client = proxy.client()
        client.send(get())
        proxy.clock.advance(9)
        proxy.target.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        proxy.clock.advance(1000)
        proxy.target.send(b"hello")
        proxy.clock.advance(1000)
        proxy.target.send(b"world")
        assert one_message(client).body == b"helloworld"


def test_the_time_begins_when_the_request_was_sent_whole() -> None:
    proxy = Proxy(response_timeout=10)
    client = proxy.client()
    client.send(post(b"x" * 10)[:-10])
    for _ in range(10):
        proxy.clock.advance(9)
        client.send(b"x")
    proxy.clock.advance(9.9)
    assert client.received == b""
    proxy.clock.advance(0.1)
    assert one_message(client).status == 504


def test_the_time_does_not_run_while_a_body_is_buffered() -> None:
    proxy = Proxy(response_timeout=10, buffer_requests=True)
    client = proxy.client()
    client.send(post(b"xx")[:-2])
    proxy.clock.advance(50)
    client.send(b"x")
    proxy.clock.advance(50)
    client.send(b"x")
    proxy.clock.advance(9)
    proxy.target.send(answer())
    assert one_message(client).status == 200


def test_a_response_that_begins_before_the_request_is_whole_has_no_limit_either() -> None:
    proxy = Proxy(response_timeout=10)
    client = proxy.client()
    client.send(post(b"xx")[:-2])
    proxy.target.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
    client.send(b"xx")
    proxy.clock.advance(100)
    proxy.target.send(b"llo")
    assert one_message(client).body == b"hello"


def test_a_repeated_request_gets_the_whole_time_again() -> None:
    proxy = Proxy(response_timeout=10)
    client = proxy.client()
    client.send(get())
    first = proxy.target
    first.send(answer())
    client.take()
    client.send(get())
    proxy.clock.advance(9)
    first.send_eof()
    proxy.clock.advance(9)
    assert client.received == b""
    proxy.target.send(answer())
    assert one_message(client).status == 200


def test_an_answered_request_leaves_no_limit_behind() -> None:
    proxy = Proxy(response_timeout=10)
    client = proxy.client()
    client.send(get())
    proxy.target.send(answer())
    client.take()
    proxy.clock.advance(5)
    client.send(get())
    proxy.clock.advance(9)
    proxy.target.send(answer(b"in time"))
    assert one_message(client).body == b"in time"
    proxy.clock.advance(20)
    assert client.received == b""
    assert proxy.idle == 1


def test_a_target_that_takes_nothing_of_a_body_is_504() -> None:
    proxy = Proxy(response_timeout=10)
    client = proxy.client()
    client.send(post(b"x" * 500 * KB)[: -500 * KB])
    proxy.target.stop_reading()
    client.send(*[b"x" * 10 * KB] * 50)
    assert not client.reading
    proxy.clock.advance(STALLED - 1)
    assert client.received == b""
    proxy.clock.advance(1)
    proxy.target.turn()
    assert one_message(client).status == 504
    assert proxy.target.aborted


def test_a_target_that_takes_little_of_a_body_but_something_gets_it_all() -> None:
    proxy = Proxy(response_timeout=10_000)
    client = proxy.client()
    client.send(post(b"x" * 300 * KB)[: -300 * KB])
    proxy.target.stop_reading()
    client.send(*[b"x" * 10 * KB] * 30)
    for _ in range(60):
        proxy.clock.advance(STALLED - 1)
        proxy.target.read_some(5 * KB)
        if client.received:
            break
    proxy.target.read_on()
    assert one_message(proxy.target).body == b"x" * 300 * KB
    proxy.target.send(answer())
    assert one_message(client).status == 200
