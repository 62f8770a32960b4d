"""How HTTP/2 connections end: idle, drained, broken, in time."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame
from twisted.web.server import NOT_DONE_YET

from kproxy.http.site import Limits

from .http2_client import GET, PREFACE, RawClient, connect, fields, posting
from .memory import Echo, Engine, Later, Receiver, Streaming

NEVER = 2**31 - 1


def waiting(limits: Limits | None = None) -> tuple[Engine, Later, RawClient]:
    """A client whose requests wait for the test to answer them."""
    later = Later()
    engine = Engine(later, limits)
    return engine, later, RawClient(connect(engine))


def goaways(peer: RawClient) -> list[tuple[int, int]]:
    """The last stream and the code of each GOAWAY."""
    return [(f.last_stream_id, f.error_code) for f in peer.read() if isinstance(f, GoAwayFrame)]


def answer_pings(peer: RawClient) -> None:
    for frame in list(peer.read()):
        if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            peer.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))


def pass_time(engine: Engine, seconds: float) -> None:
    engine.clock.advance(seconds)
    engine.clock.advance(0)


def test_an_idle_connection_is_told_and_then_closed() -> None:
    engine = Engine(Echo(), Limits(headers=60, linger=2))
    peer = RawClient(connect(engine))
    peer.get()
    pass_time(engine, 59)
    assert goaways(peer) == []
    pass_time(engine, 2)
    assert goaways(peer) == [(1, ErrorCodes.NO_ERROR)]
    assert peer.wire.lost is None
    pass_time(engine, 2)
    assert peer.wire.closed
    assert not engine.site.connections


def test_a_connection_with_a_request_is_not_idle() -> None:
    engine, later, peer = waiting(Limits(headers=60))
    peer.get()
    pass_time(engine, 1000)
    assert goaways(peer) == []
    later.answer(0, b"")
    pass_time(engine, 59)
    assert goaways(peer) == []
    pass_time(engine, 2)
    assert len(goaways(peer)) == 1


def test_pings_do_not_keep_an_idle_connection() -> None:
    engine = Engine(Echo(), Limits(headers=60))
    peer = RawClient(connect(engine))
    for _ in range(7):
        pass_time(engine, 10)
        peer.send(PingFrame(0))
    assert len(goaways(peer)) == 1


def test_a_client_that_says_nothing_is_closed() -> None:
    engine = Engine(Echo(), Limits(headers=60))
    peer = RawClient(connect(engine), greet=False)
    peer.send_bytes(PREFACE[:10])
    pass_time(engine, 61)
    assert peer.wire.closed
    assert goaways(peer) == []


def test_a_field_block_that_does_not_end_in_time_ends_the_connection() -> None:
    engine, _, peer = waiting(Limits(headers=60))
    peer.get()
    pass_time(engine, 100)
    peer.send(HeadersFrame(3, peer.encoder.encode(GET)))
    for _ in range(6):
        pass_time(engine, 9)
        peer.send(peer.continuation(3, b""))
    assert goaways(peer) == []
    pass_time(engine, 10)
    assert goaways(peer) == [(1, ErrorCodes.ENHANCE_YOUR_CALM)]


def test_a_field_block_that_ends_in_time_ends_nothing() -> None:
    engine, _, peer = waiting(Limits(headers=60))
    block = peer.encoder.encode(GET)
    peer.send(HeadersFrame(1, block[:3], flags=["END_STREAM"]))
    pass_time(engine, 30)
    peer.send(peer.continuation(1, block[3:], "END_HEADERS"))
    pass_time(engine, 1000)
    assert goaways(peer) == []


def test_draining_is_announced_and_requests_on_their_way_are_served() -> None:
    engine, later, peer = waiting()
    drained: list[Any] = []
    engine.site.drain().addCallback(drained.append)
    assert goaways(peer) == [(NEVER, ErrorCodes.NO_ERROR)]
    peer.get()
    assert len(later.requests) == 1
    answer_pings(peer)
    assert goaways(peer) == [(NEVER, ErrorCodes.NO_ERROR), (1, ErrorCodes.NO_ERROR)]
    later.answer(0, b"done")
    assert peer.answered()
    assert not drained
    pass_time(engine, 2)
    assert peer.wire.closed
    assert drained


def test_requests_that_come_after_the_last_word_are_refused_unseen() -> None:
    engine, later, peer = waiting()
    peer.get()
    engine.site.drain()
    answer_pings(peer)
    peer.get(3)
    assert peer.resets(3) == [ErrorCodes.REFUSED_STREAM]
    assert len(later.requests) == 1


def test_a_client_that_does_not_answer_pings_is_drained_too() -> None:
    engine = Engine(Echo())
    peer = RawClient(connect(engine))
    drained: list[Any] = []
    engine.site.drain().addCallback(drained.append)
    pass_time(engine, 1)
    assert goaways(peer) == [(NEVER, ErrorCodes.NO_ERROR), (0, ErrorCodes.NO_ERROR)]
    pass_time(engine, 2)
    assert drained


def test_a_drained_connection_closes_with_the_client() -> None:
    engine = Engine(Echo())
    peer = RawClient(connect(engine))
    drained: list[Any] = []
    engine.site.drain().addCallback(drained.append)
    answer_pings(peer)
    peer.wire.send_eof()
    pass_time(engine, 0)
    assert drained


def test_a_connection_that_has_not_begun_is_closed_when_draining() -> None:
    engine = Engine(Echo())
    peer = RawClient(connect(engine), greet=False)
    engine.site.drain()
    pass_time(engine, 0)
    assert peer.wire.closed


def test_a_slow_client_gets_the_end_of_its_answer_though_the_connection_drains() -> None:
    engine, later, peer = waiting(Limits(linger=2, stalled=60))
    peer.get()
    peer.wire.stop_reading()
    engine.site.drain()
    pass_time(engine, 1)
    later.answer(0, b"x" * 20_000)
    for _ in range(10):
        pass_time(engine, 3)
        peer.wire.read_some(1000)
    assert peer.wire.lost is None
    peer.wire.read_on()
    pass_time(engine, 3)
    assert peer.answered()
    assert peer.wire.closed


def test_a_client_that_closes_its_side_takes_its_requests_back() -> None:
    engine, later, peer = waiting()
    peer.get()
    peer.wire.send_eof()
    assert later.ends[0] is not None
    assert not engine.site.connections


def test_all_connections_can_be_cut() -> None:
    engine, later, peer = waiting()
    peer.get()
    engine.site.abort_all()
    pass_time(engine, 0)
    assert peer.wire.aborted
    assert later.ends[0] is not None


def test_nothing_is_left_to_do_when_a_connection_has_gone() -> None:
    engine, _, peer = waiting()
    peer.get()
    engine.site.drain()
    peer.wire.reset()
    pass_time(engine, 1000)
    assert not engine.clock.getDelayedCalls()


class Watched(Streaming):
    """Takes bodies, answers what is to be answered, and watches whether requests are forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[weakref.ref[Any]] = []

    def render(self, request: Any) -> Any:
        self.seen.append(weakref.ref(request))
        if request.body.length is None:
            request.body.start(Receiver())
        return NOT_DONE_YET if request.uri == b"/never" else b"hello"


def test_requests_that_have_ended_are_gone_without_the_collector() -> None:
    watched = Watched()
    peer = RawClient(connect(Engine(watched)))
    gc.disable()
    try:
        peer.get(1)
        peer.send(peer.headers(3, posting()), DataFrame(3, b"body", flags=["END_STREAM"]))
        peer.get(5, fields(path=b"/never"))
        peer.send(RstStreamFrame(5))
        assert peer.answered(3)
        assert [request() for request in watched.seen] == [None] * 3
    finally:
        gc.enable()
