"""After an upgrade: two connections tied together (behaviour of WebSockets and any other token)."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from kproxy.http.tunnel import tie
from tests.unit.http.memory import Engine, Later, Wire, get, read_message

KB = 1024


class Quiet:
    """A protocol that only lets itself be replaced."""

    transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport


def tied() -> tuple[Wire, Wire, list[int]]:
    clock = Clock()
    client, target = Wire(clock), Wire(clock)
    ends = [Quiet(), Quiet()]
    client.attach(ends[0])
    target.attach(ends[1])
    closed: list[int] = []
    tie(ends[0].transport, ends[1].transport, closed.append)
    return client, target, closed


def test_what_comes_in_at_one_end_goes_out_at_the_other() -> None:
    client, target, _ = tied()
    client.send(b"hello", b" target")
    assert target.take() == b"hello target"
    target.send(b"hello client")
    assert client.take() == b"hello client"
    client.send(b"again")
    assert target.take() == b"again"


def test_an_end_that_has_said_all_may_still_listen() -> None:
    client, target, closed = tied()
    client.send(b"last words")
    client.send_eof()
    assert target.half_closed
    assert target.lost is None
    target.send(b"answer", b" in two pieces")
    assert client.take() == b"answer in two pieces"
    target.send_eof()
    assert client.closed
    assert target.closed
    assert closed == [len(b"answer in two pieces")]


def test_the_target_may_be_the_first_to_say_all() -> None:
    client, target, closed = tied()
    target.send_eof()
    assert client.half_closed
    client.send(b"still here")
    assert target.take() == b"still here"
    client.send_eof()
    assert target.closed
    assert client.closed
    assert closed == [0]


class NoHalfClose(Wire):
    """A transport that can only close as a whole, as those of TLS."""

    loseWriteConnection = property()  # type: ignore[assignment]


def test_an_end_of_tls_closes_as_a_whole_and_takes_nothing_for_granted() -> None:
    clock = Clock()
    for tls, other in ((0, 1), (1, 0)):
        wires = [Wire(clock), Wire(clock)]
        wires[tls] = NoHalfClose(clock)
        ends = [Quiet(), Quiet()]
        for wire, end in zip(wires, ends, strict=True):
            wire.attach(end)
        tie(ends[0].transport, ends[1].transport, lambda received: None)
        wires[tls].send(b"last words")
        wires[tls].send_eof()
        assert wires[other].take() == b"last words"
        assert wires[tls].closed
        assert wires[other].closed


def test_what_an_end_of_tls_can_not_be_told_closes_it() -> None:
    clock = Clock()
    client, target = NoHalfClose(clock), Wire(clock)
    ends = [Quiet(), Quiet()]
    client.attach(ends[0])
    target.attach(ends[1])
    tie(ends[0].transport, ends[1].transport, lambda received: None)
    target.send(b"last words")
    target.send_eof()
    assert client.take() == b"last words"
    assert client.closed
    assert target.closed


def test_what_was_said_before_a_close_still_arrives() -> None:
    client, target, closed = tied()
    client.stop_reading()
    target.send(b"x" * 10 * KB)
    target.send_eof()
    client.send_eof()
    assert closed == []
    client.read_on()
    assert client.take() == b"x" * 10 * KB
    assert closed == [10 * KB]


def test_an_end_that_breaks_breaks_the_other() -> None:
    for broken, other in ((0, 1), (1, 0)):
        *wires, closed = tied()
        wires[broken].reset()
        assert wires[other].aborted
        assert len(closed) == 1


def test_an_end_that_does_not_take_what_comes_slows_the_other_down() -> None:
    client, target, _ = tied()
    client.stop_reading()
    target.send(*[b"x" * 10 * KB] * 20)
    assert not target.reading
    assert target.unread >= 120 * KB
    assert len(client.dataBuffer) <= 80 * KB
    client.send(b"the other way is free")
    assert target.take() == b"the other way is free"
    client.read_on()
    assert target.reading
    assert len(client.received) == 200 * KB


def test_it_works_the_same_from_client_to_target() -> None:
    client, target, _ = tied()
    target.stop_reading()
    client.send(*[b"x" * 10 * KB] * 20)
    assert not client.reading
    target.read_on()
    assert client.reading
    assert len(target.received) == 200 * KB


def test_an_end_that_breaks_while_it_holds_the_other_up_does_no_harm() -> None:
    client, target, closed = tied()
    client.stop_reading()
    target.send(*[b"x" * 10 * KB] * 20)
    client.reset()
    assert target.lost is not None
    assert len(closed) == 1


# The engine's side of an upgrade.


def upgraded(early: bytes = b"", *ahead: bytes) -> tuple[Engine, Wire, Wire, Any]:
    later = Later()
    engine = Engine(later)
    client = engine.client()
    client.send(get(b"/ws", b"Connection: Upgrade", b"Upgrade: websocket"))
    client.send(*ahead)
    end = Quiet()
    target = Wire(engine.clock).attach(end)
    (request,) = later.requests
    assert request.upgrade == b"websocket"
    headers = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    assert request.switch_protocols(101, headers, end.transport, early)
    client.turn()
    return engine, client, target, request


def test_the_client_hears_of_the_switch_and_what_the_target_said_early() -> None:
    _, client, target, request = upgraded(b"early")
    message, rest = read_message(client.take())
    assert message.start == b"HTTP/1.1 101 Switching Protocols"
    assert message.headers == [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    assert rest == b"early"
    assert request.begun()
    target.send(b"more")
    assert client.take() == b"more"


def test_what_the_client_sent_ahead_reaches_the_target() -> None:
    _, client, target, _ = upgraded(b"", b"GET /not-a-request HTTP/1.1\r\n", b"\r\n")
    assert target.take() == b"GET /not-a-request HTTP/1.1\r\n\r\n"
    client.send(b"more")
    assert target.take() == b"more"


def test_the_request_ends_when_both_ends_have_closed() -> None:
    engine, client, target, request = upgraded(b"early")
    ended: list[Any] = []
    request.on_finish(lambda request, failure: ended.append((failure, request.sentLength)))
    target.send(b"12345")
    client.send_eof()
    assert ended == []
    assert engine.site.connections
    target.send_eof()
    assert ended == [(None, 10)]
    assert not engine.site.connections


def test_a_tunnel_has_no_time_limit() -> None:
    engine, client, target, _ = upgraded()
    engine.clock.advance(10_000)
    client.take()
    target.send(b"still here")
    assert client.take() == b"still here"


def test_a_client_that_is_slow_when_the_tunnel_begins_is_waited_for_and_not_cut_off() -> None:
    later = Later()
    engine = Engine(later)
    client = engine.client()
    client.stop_reading()
    client.send(get(b"/ws", b"Connection: Upgrade", b"Upgrade: x"))
    end = Quiet()
    target = Wire(engine.clock).attach(end)
    later.requests[0].switch_protocols(101, [], end.transport, b"x" * 100 * KB)
    target.send(b"y", b"z")
    assert not target.reading
    client.read_on()
    assert target.reading
    for _ in range(10):
        engine.clock.advance(60)
    target.send(b"!")
    assert client.received.endswith(b"xyz!")


def test_a_tunnel_can_be_cut() -> None:
    engine, client, target, _ = upgraded()
    engine.site.abort_all()
    client.turn()
    target.turn()
    assert client.aborted
    assert target.lost is not None
    assert not engine.site.connections
