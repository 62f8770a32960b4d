"""Flow control both ways, and taking turns."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from h2.events import DataReceived
from hyperframe.frame import DataFrame, SettingsFrame, WindowUpdateFrame
from twisted.web.server import NOT_DONE_YET

from kproxy.http.http2_machine import CONNECTION_WINDOW, STREAM_WINDOW
from kproxy.http.http2_outbox import MOST_HELD
from kproxy.http.site import Limits

from .http2_client import Client, RawClient, client, connect, posting
from .memory import Engine, Later, Producer, Receiver, Streaming, Upload


def waiting(window: int | None = None) -> tuple[Later, Client]:
    """A client whose requests wait for the test to answer them."""
    later = Later()
    return later, client(Engine(later), window)


class Bodies(Streaming):
    """Takes each body into a receiver, and answers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self.bodies: list[Receiver] = []

    def render(self, request: Any) -> int:
        receiver = Receiver()
        self.requests.append(request)
        self.bodies.append(receiver)
        request.body.start(receiver)
        return NOT_DONE_YET


# Requests: what a client may send.


def room(peer: Client, stream: int) -> int:
    return peer.h2.local_flow_control_window(stream)


def test_a_client_may_send_so_much_before_anybody_wants_it() -> None:
    peer = client(Engine(Later()))
    first = peer.request(posting(), end=False)
    assert room(peer, first) == STREAM_WINDOW
    assert peer.h2.outbound_flow_control_window == CONNECTION_WINDOW


def test_a_body_that_nobody_takes_is_not_asked_for() -> None:
    _, peer = waiting()
    stream = peer.request(posting(), end=False)
    peer.data(stream, b"x" * STREAM_WINDOW)
    assert room(peer, stream) == 0


def test_a_body_that_is_taken_is_asked_for() -> None:
    bodies = Bodies()
    peer = client(Engine(bodies))
    stream = peer.request(posting(), end=False)
    for _ in range(20):
        peer.data(stream, b"x" * (STREAM_WINDOW // 2))
    assert len(bodies.bodies[0].data) == 10 * STREAM_WINDOW


def test_a_body_that_is_paused_waits_and_goes_on_where_it_was() -> None:
    bodies = Bodies()
    peer = client(Engine(bodies))
    stream = peer.request(posting(), end=False)
    bodies.requests[0].body.pause()
    peer.data(stream, b"x" * STREAM_WINDOW)
    assert bodies.bodies[0].data == b""
    assert room(peer, stream) == 0
    bodies.requests[0].body.resume()
    peer.turn()
    assert len(bodies.bodies[0].data) == STREAM_WINDOW
    assert room(peer, stream) == STREAM_WINDOW


def test_a_body_that_is_paused_holds_no_other_up() -> None:
    bodies = Bodies()
    peer = client(Engine(bodies))
    stuck = peer.request(posting(), end=False)
    bodies.requests[0].body.pause()
    peer.data(stuck, b"x" * STREAM_WINDOW)
    other = peer.request(posting(), end=False)
    for _ in range(10):
        peer.data(other, b"y" * (STREAM_WINDOW // 2))
    assert len(bodies.bodies[1].data) == 5 * STREAM_WINDOW


def test_all_bodies_that_wait_together_are_bounded() -> None:
    peer = client(Engine(Later()))
    streams = [peer.request(posting(), end=False) for _ in range(10)]
    for stream in streams:
        size = room(peer, stream)
        if size:
            peer.data(stream, b"x" * size)
    assert peer.h2.outbound_flow_control_window == 0


@pytest.mark.parametrize("whole", [False, True])
def test_what_a_taken_back_request_held_is_given_back_to_the_connection(whole: bool) -> None:
    peer = client(Engine(Later()))
    for _ in range(20):
        stream = peer.request(posting(), b"x" * STREAM_WINDOW, end=whole)
        peer.h2.reset_stream(stream)
        peer.turn()
    assert peer.h2.outbound_flow_control_window >= CONNECTION_WINDOW // 2


@pytest.mark.parametrize("whole", [False, True])
def test_what_an_answered_request_held_is_given_back_to_the_connection(whole: bool) -> None:
    later, peer = waiting()
    for index in range(20):
        peer.request(posting(), b"x" * STREAM_WINDOW, end=whole)
        later.answer(index, b"no")
        peer.turn()
    assert peer.h2.outbound_flow_control_window >= CONNECTION_WINDOW // 2


def test_a_body_is_taken_to_its_end_though_it_was_answered_by_then() -> None:
    upload = Upload()
    peer = client(Engine(upload))
    answer = peer.ask(posting((b"content-length", b"5")), b"hello")
    assert answer.body == b"hello"
    assert answer.reset is None


# Responses: what a client takes.


def test_a_response_stops_at_the_streams_window_and_goes_on_from_there() -> None:
    later, peer = waiting(1000)
    stream = peer.request()
    later.answer(0, bytes(range(250)) * 10)
    peer.turn()
    assert len(peer.answers[stream].body) == 1000
    assert not peer.answers[stream].ended
    peer.take(500, stream)
    assert len(peer.answers[stream].body) == 1500
    peer.take(5000, stream)
    assert peer.answers[stream].body == bytes(range(250)) * 10
    assert peer.answers[stream].ended


def test_a_response_stops_at_the_connections_window() -> None:
    later, peer = waiting(2**20)
    stream = peer.request()
    later.answer(0, b"x" * 100_000)
    peer.turn()
    assert len(peer.answers[stream].body) == 65535
    peer.take(100_000)
    assert len(peer.answers[stream].body) == 100_000
    assert peer.answers[stream].ended


def test_a_response_that_just_fits_ends() -> None:
    later, peer = waiting(1000)
    stream = peer.request()
    later.answer(0, b"x" * 1000)
    peer.turn()
    assert peer.answers[stream].ended


def test_an_end_needs_no_window() -> None:
    later, peer = waiting(1000)
    stream = peer.request()
    later.requests[0].write(b"x" * 1000)
    later.requests[0].finish()
    peer.turn()
    assert peer.answers[stream].ended


def test_trailers_wait_behind_a_body_that_waits() -> None:
    later, peer = waiting(10)
    stream = peer.request()
    later.requests[0].write(b"x" * 20)
    later.requests[0].response_trailers = [(b"a", b"b")]
    later.requests[0].finish()
    peer.turn()
    assert peer.answers[stream].trailers == []
    peer.take(10, stream)
    assert peer.answers[stream].body == b"x" * 20
    assert peer.answers[stream].trailers == [(b"a", b"b")]


def test_a_request_has_ended_only_when_its_last_byte_was_sent() -> None:
    later, peer = waiting(10)
    stream = peer.request()
    later.answer(0, b"x" * 20)
    assert later.ends == []
    peer.take(10, stream)
    assert later.ends == [None]


def test_a_response_that_the_client_does_not_take_is_taken_back_with_its_stream() -> None:
    later, peer = waiting(10)
    stream = peer.request()
    later.answer(0, b"x" * 20)
    peer.h2.reset_stream(stream)
    peer.turn()
    assert later.ends[0] is not None


def test_a_producer_pauses_while_its_stream_has_no_window() -> None:
    later, peer = waiting(10)
    producer = Producer()
    stream = peer.request()
    later.requests[0].registerProducer(producer, True)
    later.requests[0].write(b"x" * 10)
    assert producer.calls == []
    later.requests[0].write(b"x" * 10)
    assert producer.calls == ["pause"]
    peer.take(5, stream)
    assert producer.calls == ["pause"]
    peer.take(10, stream)
    assert producer.calls == ["pause", "resume"]
    assert len(peer.answers[stream].body) == 20


def test_a_producer_that_comes_while_there_is_no_window_waits() -> None:
    later, peer = waiting(10)
    producer = Producer()
    peer.request()
    later.requests[0].write(b"x" * 20)
    later.requests[0].registerProducer(producer, True)
    assert producer.calls == ["pause"]


def test_a_producer_that_comes_while_its_stream_has_no_window_begins_when_it_has() -> None:
    later, peer = waiting(0)
    producer = Producer()
    stream = peer.request()
    later.requests[0].registerProducer(producer, True)
    assert producer.calls == ["pause"]
    peer.take(10, stream)
    assert producer.calls == ["pause", "resume"]
    later.requests[0].write(b"x" * 20)
    assert producer.calls == ["pause", "resume", "pause"]
    assert peer.wire.take().endswith(b"x" * 10)


def test_a_producer_that_comes_while_the_connection_has_no_window_begins_when_it_has() -> None:
    later, peer = waiting(2**20)
    full, other = peer.request(), peer.request()
    later.requests[0].write(b"x" * 65535)
    producer = Producer()
    later.requests[1].registerProducer(producer, True)
    assert producer.calls == ["pause"]
    peer.take(10)
    assert producer.calls == ["pause", "resume"]
    later.answer(1, b"fine")
    peer.turn()
    assert peer.answers[other].body == b"fine"
    assert not peer.answers[full].ended


def test_a_producer_that_comes_while_the_transport_is_full_begins_when_it_is_not() -> None:
    later, peer = waiting(2**20)
    peer.take(2**24)
    peer.request(), peer.request()
    peer.wire.stop_reading()
    later.requests[0].write(b"x" * 200_000)
    producer = Producer()
    later.requests[1].registerProducer(producer, True)
    assert producer.calls == ["pause"]
    peer.wire.read_on()
    assert producer.calls == ["pause", "resume"]


def test_a_producer_that_has_used_up_a_window_may_end() -> None:
    later, peer = waiting(10)
    producer = Producer()
    stream = peer.request()
    later.requests[0].registerProducer(producer, True)
    later.requests[0].write(b"x" * 10)
    assert producer.calls == []
    later.requests[0].unregisterProducer()
    later.requests[0].finish()
    peer.turn()
    assert peer.answers[stream].ended


def test_what_a_client_has_not_taken_of_a_write_is_all_that_is_kept_of_it() -> None:
    later, peer = waiting(90_000)
    peer.take(2**24)
    peer.request()
    tracemalloc.start()
    try:
        later.requests[0].write(b"x" * 100_000)
        peer.wire.take()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 50_000


def test_once_much_waits_for_a_client_all_that_can_not_send_pause() -> None:
    later, peer = waiting(2**20)
    producers = [Producer() for _ in range(20)]
    for index, producer in enumerate(producers):
        peer.request()
        later.requests[index].registerProducer(producer, True)
    piece = MOST_HELD // 5
    written = 0
    for request, producer in zip(later.requests, producers, strict=True):
        if producer.calls == []:
            request.write(b"x" * piece)
            written += 1
    assert all(producer.calls[-1] == "pause" for producer in producers)
    assert MOST_HELD < written * piece < MOST_HELD + 2 * piece
    peer.take(2**24)
    assert all(producer.calls[-1] == "resume" for producer in producers)


def test_a_stream_with_room_goes_on_however_much_waits_in_others() -> None:
    later, peer = waiting(10)
    peer.take(2**24)
    stream = peer.request()
    peer.take(2**24, stream)
    producer = Producer()
    later.requests[0].registerProducer(producer, True)
    for index in range(1, 4):
        peer.request()
        later.answer(index, b"x" * MOST_HELD)
    later.requests[0].write(b"y" * 1000)
    peer.turn()
    assert producer.calls == []
    assert peer.answers[stream].body == b"y" * 1000


def test_producers_pause_while_the_transport_is_full() -> None:
    later, peer = waiting()
    peer.take(2**24)
    producers = [Producer(), Producer()]
    streams = [peer.request(), peer.request()]
    for stream, request, producer in zip(streams, later.requests, producers, strict=True):
        peer.take(2**24, stream)
        request.registerProducer(producer, True)
    peer.wire.stop_reading()
    later.requests[0].write(b"x" * 200_000)
    later.requests[1].write(b"y" * 200_000)
    assert [p.calls for p in producers] == [["pause"], ["pause"]]
    assert len(peer.wire.dataBuffer) < 150_000
    peer.wire.read_on()
    peer.turn()
    assert [p.calls for p in producers] == [["pause", "resume"]] * 2
    assert [len(peer.answers[stream].body) for stream in streams] == [200_000] * 2


def test_streams_take_turns() -> None:
    later, peer = waiting(2**20)
    streams = [peer.request() for _ in range(3)]
    for index in range(3):
        later.answer(index, b"x" * 200_000)
    peer.turn()
    peer.events.clear()
    peer.take(600_000)
    order = [e.stream_id for e in peer.events if isinstance(e, DataReceived)]
    assert order[:6] == streams * 2
    assert all(peer.answers[stream].ended for stream in streams)


def test_a_small_response_does_not_wait_for_all_of_a_large_one() -> None:
    later, peer = waiting(2**24)
    large = peer.request()
    small = peer.request()
    later.answer(0, b"x" * 2_000_000)
    later.answer(1, b"small")
    peer.take(40_000)
    assert peer.answers[small].ended
    assert not peer.answers[large].ended


def test_settings_may_open_and_close_the_windows_of_streams_that_are_there() -> None:
    later = Later()
    peer = RawClient(connect(Engine(later)))
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 10}))
    peer.get()
    later.answer(0, b"x" * 30)
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 5}))
    peer.send(WindowUpdateFrame(1, 4))
    assert sent(peer) == 10
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 20}))
    assert sent(peer) == 24
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 100}))
    assert sent(peer) == 30


def sent(peer: RawClient) -> int:
    return sum(len(f.data) for f in peer.read() if isinstance(f, DataFrame))


def test_frames_are_as_large_as_the_client_takes_them() -> None:
    later = Later()
    peer = RawClient(connect(Engine(later)))
    peer.send(SettingsFrame(0, settings={SettingsFrame.MAX_FRAME_SIZE: 40_000}))
    peer.get()
    later.answer(0, b"x" * 60_000)
    assert [len(f.data) for f in peer.read() if isinstance(f, DataFrame)] == [40_000, 20_000]


def test_a_large_response_arrives_as_it_is() -> None:
    later, peer = waiting()
    stream = peer.request()
    body = bytes(range(251)) * 20_000
    later.answer(0, body)
    for _ in range(1000):
        peer.turn()
        if peer.answers[stream].ended:
            break
    assert peer.answers[stream].body == body


# Time limits.


def test_a_response_that_a_client_leaves_no_window_for_is_given_up() -> None:
    later = Later()
    engine = Engine(later, Limits(stalled=30))
    peer = client(engine, window=10)
    stream = peer.request()
    later.answer(0, b"x" * 100)
    engine.clock.advance(29)
    peer.take(10, stream)
    engine.clock.advance(29)
    peer.turn()
    assert peer.answers[stream].reset is None
    engine.clock.advance(2)
    peer.turn()
    assert peer.answers[stream].reset is not None
    assert later.ends[0] is not None
    assert engine.site.connections


def test_a_producer_that_a_client_leaves_no_window_for_is_asked_before_it_is_given_up() -> None:
    later = Later()
    engine = Engine(later, Limits(stalled=30))
    peer = client(engine, window=0)
    producer = Producer()
    stream = peer.request()
    later.requests[0].registerProducer(producer, True)
    engine.clock.advance(31)
    assert producer.calls == ["pause", "resume"]
    engine.clock.advance(1000)
    peer.turn()
    assert peer.answers[stream].reset is None  # it had nothing to send
    later.requests[0].write(b"x")
    assert producer.calls == ["pause", "resume", "pause"]
    engine.clock.advance(31)
    peer.turn()
    assert peer.answers[stream].reset is not None


def test_a_client_that_reads_nothing_at_all_is_cut_off() -> None:
    later = Later()
    engine = Engine(later, Limits(stalled=30))
    peer = client(engine)
    peer.take(2**24)
    stream = peer.request()
    peer.take(2**24, stream)
    peer.wire.stop_reading()
    later.answer(0, b"x" * 500_000)
    engine.clock.advance(31)
    engine.clock.advance(0)
    assert peer.wire.aborted
    assert not engine.site.connections


def test_a_body_that_stops_coming_is_given_up_with_408() -> None:
    bodies = Bodies()
    engine = Engine(bodies, Limits(stalled=30, headers=1000))
    peer = client(engine)
    stream = peer.request(posting(), b"half", end=False)
    engine.clock.advance(20)
    peer.data(stream, b"more")
    engine.clock.advance(20)
    peer.turn()
    assert peer.answers[stream].headers == []
    engine.clock.advance(11)
    peer.turn()
    assert peer.answers[stream].status == 408
    assert bodies.bodies[0].lost is not None


def test_a_body_that_nobody_wants_yet_may_wait() -> None:
    later = Later()
    engine = Engine(later, Limits(stalled=30, headers=1000))
    peer = client(engine)
    stream = peer.request(posting(), b"half", end=False)
    engine.clock.advance(100)
    peer.turn()
    assert peer.answers[stream].headers == []


def test_a_body_that_is_paused_may_wait() -> None:
    bodies = Bodies()
    engine = Engine(bodies, Limits(stalled=30, headers=1000))
    peer = client(engine)
    stream = peer.request(posting(), end=False)
    bodies.requests[0].body.pause()
    peer.data(stream, b"half")
    engine.clock.advance(100)
    peer.turn()
    assert peer.answers[stream].headers == []
    assert bodies.bodies[0].lost is None
