"""What a client may send and how long it may take (issue 2 section 4, Limits)."""

from __future__ import annotations

import pytest

from kproxy.http.site import Limits
from tests.unit.http.memory import (
    Echo,
    Engine,
    Later,
    Receiver,
    Upload,
    get,
    post,
    read_messages,
)

KB = 1024


# Sizes.


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (get(b"/" + b"x" * (8 * KB - 20)), 200),
        (get(b"/" + b"x" * 8 * KB), 414),
        (get(b"/", *[b"X-%d: y" % i for i in range(99)]), 200),
        (get(b"/", *[b"X-%d: y" % i for i in range(100)]), 431),
        (get(b"/", *[b"X-%d: %b" % (i, b"y" * KB) for i in range(62)]), 200),
        (get(b"/", *[b"X-%d: %b" % (i, b"y" * KB) for i in range(64)]), 431),
        (get(b"/", b"X: " + b"y" * 63 * KB), 200),
        (get(b"/", b"X: " + b"y" * 64 * KB), 431),
        (get(b"/", b"X: " + b"y" * 300 * KB), 431),
    ],
)
def test_the_sizes_of_heads_are_limited(text: bytes, status: int) -> None:
    for piece in (len(text), 1000, 4096, 65536):
        client = Engine(Echo()).client()
        client.send(*[text[i : i + piece] for i in range(0, len(text), piece)])
        (message,) = read_messages(client.received)
        assert message.status == status
        assert message.get(b"connection") == ([] if status == 200 else [b"close"])


def test_limits_hold_for_heads_that_never_end() -> None:
    for text, status in ((b"GET /", 414), (b"GET / HTTP/1.1\r\nX: ", 431)):
        resource = Echo()
        client = Engine(resource).client()
        client.send(text, *[b"x" * 1000] * 100)
        (message,) = read_messages(client.received)
        assert message.status == status
        assert resource.seen == []


def test_a_line_feed_without_carriage_return_is_refused_without_waiting_for_more() -> None:
    client = Engine(Echo()).client()
    client.send(b"GET / HTTP/1.1\nHost: a\n\n")
    assert [message.status for message in read_messages(client.received)] == [400]


# Times.


def test_a_head_that_is_not_complete_in_time_is_408() -> None:
    engine = Engine(Echo())
    client = engine.client()
    client.send(b"GET / HTTP/1.1\r\n")
    for _ in range(59):
        engine.clock.advance(1)
        client.send(b"X: y\r\n")
    assert client.received == b""
    engine.clock.advance(1)
    (message,) = read_messages(client.received)
    assert message.status == 408
    assert message.get(b"connection") == [b"close"]
    client.send(b"\r\n")
    client.send_eof()
    assert client.closed


def test_a_connection_that_stays_silent_is_closed_without_a_word() -> None:
    engine = Engine(Echo())
    new, used = engine.client(), engine.client()
    engine.clock.advance(30)
    used.send(get())
    used.take()
    engine.clock.advance(30)
    assert new.closed
    assert new.received == b""
    engine.clock.advance(29.9)
    assert used.lost is None
    engine.clock.advance(0.1)
    used.turn()
    assert used.closed
    assert used.received == b""


def test_empty_lines_do_not_keep_a_connection_open() -> None:
    engine = Engine(Echo())
    client = engine.client()
    for _ in range(60):
        client.send(b"\r\n")
        engine.clock.advance(1)
    client.turn()
    assert client.lost is not None


def test_a_request_may_take_as_long_as_it_takes_to_be_answered() -> None:
    later = Later()
    engine = Engine(later)
    client = engine.client()
    client.send(get())
    engine.clock.advance(3600)
    later.answer(0, b"at last")
    assert read_messages(client.received)[0].body == b"at last"


def test_a_body_that_stops_coming_is_408() -> None:
    resource = Upload()
    engine = Engine(resource)
    client = engine.client()
    client.send(post(b"x" * 100)[:-100])
    for _ in range(3):
        client.send(b"x")
        engine.clock.advance(59)
    assert client.received == b""
    engine.clock.advance(1)
    (message,) = read_messages(client.received)
    assert message.status == 408
    assert message.get(b"connection") == [b"close"]
    assert resource.bodies[0].lost is not None


def test_a_body_that_stops_coming_cuts_an_answer_that_has_begun() -> None:
    later = Later()
    engine = Engine(later)
    client = engine.client()
    client.send(post(b"x" * 100)[:-100])
    receiver = Receiver()
    later.requests[0].body.start(receiver)
    later.requests[0].write(b"half")
    engine.clock.advance(60)
    client.turn()
    assert client.aborted
    assert receiver.lost is not None


def test_a_body_that_nobody_reads_is_not_the_clients_fault() -> None:
    later = Later()
    engine = Engine(later)
    waiting, paused = engine.client(), engine.client()
    waiting.send(post(b"x" * 100)[:-100])
    paused.send(post(b"x" * 100)[:-100])
    body = later.requests[1].body
    body.start(Receiver())
    body.pause()
    paused.send(b"x")
    engine.clock.advance(200)
    for index, client in enumerate((waiting, paused)):
        assert client.received == b""
        later.answer(index, b"fine")
        assert read_messages(client.received)[0].body == b"fine"


def test_a_body_that_is_wanted_late_gets_its_whole_time_then() -> None:
    later = Later()
    engine = Engine(later)
    client = engine.client()
    client.send(get(b"/", b"Expect: 100-continue", b"Content-Length: 1", method=b"POST"))
    engine.clock.advance(119)
    receiver = Receiver()
    later.requests[0].body.start(receiver)
    engine.clock.advance(59)
    client.send(b"x")
    assert receiver.ended == []


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off() -> None:
    later = Later()
    engine = Engine(later)
    client = engine.client()
    client.stop_reading()
    client.send(get())
    later.answer(0, b"x" * 500 * KB)
    for _ in range(3):
        engine.clock.advance(59)
        client.read_some(10 * KB)
        assert client.lost is None
    engine.clock.advance(60)
    engine.clock.advance(60)
    client.turn()
    assert client.aborted
    assert not engine.site.connections


def test_a_client_that_takes_little_but_something_is_served_to_the_end() -> None:
    later = Later()
    engine = Engine(later)
    client = engine.client()
    client.stop_reading()
    client.send(get())
    later.answer(0, b"x" * 500 * KB)
    for _ in range(100):
        engine.clock.advance(50)
        client.read_some(6 * KB)
    assert not client.aborted
    assert read_messages(client.received)[0].body == b"x" * 500 * KB


@pytest.mark.parametrize("lines", [[], [b"Connection: close"]])
def test_a_client_that_leaves_the_end_of_its_answer_unread_is_cut_off(lines: list[bytes]) -> None:
    """Less than what slows the sender: it is done, and the connection is idle, or closing."""
    engine = Engine(Echo())
    client = engine.client()
    client.stop_reading()
    client.send(get(b"/" + b"x" * 5000, *lines))
    for _ in range(4):
        engine.clock.advance(60)
        client.turn()
    assert client.aborted
    assert not engine.site.connections


def test_limits_can_be_set() -> None:
    engine = Engine(Echo(), Limits(headers=1.0))
    client = engine.client()
    client.send(b"GET")
    engine.clock.advance(1)
    assert read_messages(client.received)[0].status == 408


def test_a_stopped_site_has_nothing_left_to_do() -> None:
    engine = Engine(Upload())
    client = engine.client()
    client.send(post(b"hello")[:-1])
    engine.client()
    engine.site.abort_all()
    engine.clock.advance(0)
    engine.site.stop()
    assert engine.clock.getDelayedCalls() == []
