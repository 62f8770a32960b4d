"""Targets that refuse, break off or speak nonsense (behaviour.md section 3)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource

from kproxy.config.model import Target
from kproxy.streaming import streaming
from kproxy.wrappers.base import Filter, Wrapper
from tests.unit.http.memory import Incomplete, Wire, get, post, read_message, read_messages
from tests.unit.upstream.support import Proxy, answer, one_message

A, B, C = Target("a", 1), Target("b", 2), Target("c", 3)

NONSENSE = {
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "tls": b"\x15\x03\x03\x00\x02\x02\x46\r\n\r\n",
    "http/2": b"HTTP/2 200 OK\r\n\r\n",
    "status": b"HTTP/1.1 20x OK\r\n\r\n",
    "bare lf": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "one bare lf": b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\r\n\r\n",
    "bare cr": b"HTTP/1.1 200 OK\r\nX: y\rContent-Length: 0\r\n\r\n",
    "both": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: one\r\n\r\n",
    "gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n",
    "space": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "nul": b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n",
    "endless line": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    "large head": b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
    "many fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    "first chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    "unasked switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("response", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_502_and_the_connection_is_never_used_again(response: bytes) -> None:
    proxy = Proxy(buffer_responses=True)
    client = proxy.client()
    client.send(get() + get(b"/next"))
    first = proxy.network.wires[0]
    first.send(response)
    assert one_message(client).status == 502
    assert first.aborted
    assert proxy.idle == 0
    assert proxy.target is not first
    assert one_message(proxy.target).start == b"GET /next HTTP/1.1"
    assert proxy.active == 1


def test_an_error_page_tells_nothing_of_the_targets_answer() -> None:
    proxy = Proxy(buffer_responses=True)
    client = proxy.client()
    client.send(get())
    proxy.target.send(
        b"HTTP/1.1 200 OK\r\nX-Secret: 1\r\nSet-Cookie: a=b\r\nContent-Length: 10\r\n\r\nhalf"
    )
    proxy.target.reset()
    message = one_message(client)
    assert message.status == 502
    assert not message.get(b"x-secret")
    assert not message.get(b"set-cookie")
    assert b"half" not in message.body


# No connection.


def test_a_refused_connection_is_502() -> None:
    proxy = Proxy()
    proxy.network.refusing.add("app:1")
    client = proxy.client()
    client.send(get() + get())
    assert [message.status for message in read_messages(client.take())] == [502, 502]
    assert client.lost is None
    assert proxy.active == 0


def test_a_refused_connection_sends_the_request_to_another_target() -> None:
    for text in (get(b"/x"), post(b"hello", path=b"/x")):
        proxy = Proxy(A, B, C)
        proxy.network.refusing.update(("a:1", "c:3"))
        for _ in range(4):
            client = proxy.client()
            client.send(text)
            assert one_message(proxy.target).start.split()[1] == b"/x"
            proxy.target.send(answer(b"x", b"Connection: close"))
            assert one_message(client).status == 200
        assert all(attempt.address == "b:2" for attempt in proxy.network.attempts if attempt.wire)
        assert proxy.active == 0


def test_each_target_is_tried_once_before_it_is_502() -> None:
    proxy = Proxy(A, B, C)
    proxy.network.refusing.update(("a:1", "b:2", "c:3"))
    client = proxy.client()
    client.send(get())
    assert sorted(proxy.network.addresses) == ["a:1", "b:2", "c:3"]
    assert one_message(client).status == 502
    assert [len(pool.active) for pool in proxy.pools] == [0, 0, 0]


def test_no_target_is_503() -> None:
    proxy = Proxy()
    proxy.balancer.use(())
    client = proxy.client()
    client.send(get() + post(b"hello"))
    assert [message.status for message in read_messages(client.take())] == [503, 503]
    assert proxy.network.attempts == []


def test_a_target_that_leaves_the_rotation_while_it_is_connected_to_is_not_missed() -> None:
    proxy = Proxy(A, B)
    proxy.network.silent.update(("a:1", "b:2"))
    client = proxy.client()
    client.send(get())
    proxy.balancer.use(())
    proxy.network.attempts[0].fail()
    client.turn()
    assert one_message(client).status == 502


# The target goes away.


@pytest.mark.parametrize("close", [Wire.send_eof, Wire.reset])
@pytest.mark.parametrize(
    ("beginning", "streamed"),
    [
        (b"", 502),
        (b"HTTP/1.1 200", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", None),
    ],
)
def test_a_target_that_dies_is_502_or_cuts_the_client_never_half_an_answer(
    beginning: bytes, streamed: int | None, close: object
) -> None:
    for buffered in (False, True):
        proxy = Proxy(buffer_responses=buffered)
        client = proxy.client()
        client.send(get())
        if beginning:
            proxy.target.send(beginning)
        close(proxy.target)  # type: ignore[operator]
        if buffered or streamed:
            assert one_message(client).status == 502
            assert client.lost is None
        else:
            assert client.aborted
            with pytest.raises(Incomplete):
                read_message(client.received)
        assert proxy.active == 0
        assert proxy.idle == 0


def test_a_response_until_close_that_is_reset_is_not_a_whole_one() -> None:
    for buffered in (False, True):
        proxy = Proxy(buffer_responses=buffered)
        client = proxy.client()
        client.send(get())
        proxy.target.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        proxy.target.reset()
        client.turn()
        if buffered:
            assert one_message(client).status == 502
        else:
            assert client.aborted


@pytest.mark.parametrize(
    "rest", [b"x\r\n", b"5\r\nhelloX", b"5\nhello\r\n", b"0\r\nX : y\r\n\r\n", b"-1\r\n"]
)
def test_a_chunked_response_that_breaks_cuts_the_client(rest: bytes) -> None:
    for buffered in (False, True):
        proxy = Proxy(buffer_responses=buffered)
        client = proxy.client()
        client.send(get())
        proxy.target.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        proxy.target.send(rest)
        assert proxy.target.aborted
        if buffered:
            assert one_message(client).status == 502
        else:
            assert client.aborted


def test_a_target_that_dies_while_it_is_sent_a_body_is_502() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(post(b"x" * 100)[:-50])
    proxy.target.reset()
    message = one_message(client)
    assert message.status == 502
    assert client.half_closed
    client.send(b"x" * 50)
    client.send_eof()
    assert client.closed


# Something fails on the response's way to the client.


class Breaks(Wrapper):
    """Fails in one of its filter's methods."""

    def __init__(self, wrapped: IResource, method: str) -> None:
        super().__init__(wrapped)
        self.method = method

    def render(self, request: Any) -> Any:
        streaming(request).add_filter(self.make)
        return self.wrapped.render(request)

    def make(self, request: Any, sink: Any) -> Filter:
        broken = Filter(request, sink)
        setattr(broken, self.method, self.fail)
        return broken

    def fail(self, *args: Any) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize(
    ("method", "pieces"),
    [
        ("begin", [answer()]),
        ("write", [answer()]),
        ("finish", [answer()]),
        ("finish", [answer()[:-1], answer()[-1:]]),
    ],
)
def test_a_filter_that_fails_is_500_or_cuts_the_client(
    method: str, pieces: list[bytes], buffered: bool
) -> None:
    proxy = Proxy(around=lambda resource: Breaks(resource, method), buffer_responses=buffered)
    client = proxy.client()
    client.send(get())
    proxy.target.send(*pieces)
    assert proxy.active == 0
    if not client.aborted:
        assert one_message(client).status == 500


def test_a_filter_that_fails_keeps_no_error_from_the_client() -> None:
    for method, status in (("begin", 502), ("write", None), ("finish", None)):
        proxy = Proxy(around=lambda resource, method=method: Breaks(resource, method))  # type: ignore[misc]
        proxy.network.refusing.add("app:1")
        client = proxy.client()
        client.send(get())
        assert proxy.active == 0
        if status is None:
            assert client.aborted
        else:
            assert one_message(client).status == status


# The client goes away.


def test_a_client_that_leaves_cancels_the_request_to_the_target() -> None:
    beginnings = [
        (b"", b""),
        (b"", b"HTTP/1.1 200"),
        (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        (b"xxxxx", b""),
    ]
    for buffered in (False, True):
        for sent, came in beginnings:
            proxy = Proxy(buffer_responses=buffered)
            client = proxy.client()
            client.send(post(b"x" * 10)[:-10] + sent if sent else get())
            if came:
                proxy.target.send(came)
            client.reset()
            proxy.target.turn()
            assert proxy.target.aborted
            assert proxy.active == 0
            assert proxy.idle == 0


def test_a_client_that_leaves_while_its_body_is_buffered_bothers_no_target() -> None:
    proxy = Proxy(buffer_requests=True)
    client = proxy.client()
    client.send(post(b"x" * 10)[:-5])
    client.reset()
    assert proxy.network.attempts == []


def test_a_client_that_leaves_before_the_connection_stands_gives_it_up() -> None:
    proxy = Proxy()
    proxy.network.silent.add("app:1")
    client = proxy.client()
    client.send(get())
    client.reset()
    (attempt,) = proxy.network.attempts
    assert attempt.given_up
    assert proxy.active == 0


def test_a_connection_that_stands_just_as_it_was_given_up_is_closed_unused() -> None:
    proxy = Proxy()
    proxy.network.silent.add("app:1")
    client = proxy.client()
    client.send(post(b"hello"))
    client.reset()
    (attempt,) = proxy.network.attempts
    attempt.succeed()
    assert proxy.target.lost is not None
    assert proxy.target.received == b""
    proxy.clock.advance(120)
    assert proxy.active == 0


def test_what_a_target_still_says_to_a_client_that_left_goes_nowhere() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(get())
    client.reset()
    proxy.target.send(answer(b"too late"))
    assert client.received == b""
    assert proxy.idle == 0


class Logs(SynchronousTestCase):
    def test_no_failure_of_a_target_is_an_error_of_ours(self) -> None:
        for response in [*NONSENSE.values(), b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]:
            for close in (Wire.send_eof, Wire.reset):
                proxy = Proxy()
                client = proxy.client()
                client.send(post(b"hello")[:-1])
                proxy.target.send(response)
                close(proxy.target)
                client.turn()
        assert self.flushLoggedErrors() == []
