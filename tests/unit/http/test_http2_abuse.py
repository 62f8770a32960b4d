"""RFC 9113 section 10.5: clients that mean harm. Each costs them more than us, or is stopped."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from twisted.logger import capturedLogs
from twisted.web.server import NOT_DONE_YET

from kproxy.http.http2_frames import MAX_BLOCK
from kproxy.http.http2_limits import MOST_IDLE_FRAMES, MOST_RESETS, PER_SECONDS
from kproxy.http.site import Limits

from .http2_client import GET, RawClient, client, connect, fields, posting
from .memory import Echo, Engine, Later, Receiver, Streaming

CALM = ErrorCodes.ENHANCE_YOUR_CALM


def raw(resource: Any) -> RawClient:
    return RawClient(connect(Engine(resource)))


class Counting(Streaming):
    """Keeps requests, and counts those that are under way."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self.now = self.all = 0

    def render(self, request: Any) -> int:
        self.all += 1
        self.now += 1
        self.most = max(self.most, self.now)
        request.on_finish(lambda request, failure: self._less())
        return NOT_DONE_YET

    def _less(self) -> None:
        self.now -= 1


def test_requests_that_are_taken_back_at_once_are_stopped() -> None:
    counting = Counting()
    peer = raw(counting)
    for index in range(MOST_RESETS + 100):
        peer.get(2 * index + 1)
        peer.send(RstStreamFrame(2 * index + 1, error_code=8))
    assert peer.goaway == CALM
    assert counting.all <= MOST_RESETS + 1
    assert counting.now == 0


def test_requests_that_are_taken_back_now_and_then_are_not() -> None:
    counting = Counting()
    engine = Engine(counting)
    peer = RawClient(connect(engine))
    for index in range(MOST_RESETS * 3):
        peer.get(2 * index + 1)
        peer.send(RstStreamFrame(2 * index + 1, error_code=8))
        engine.clock.advance(PER_SECONDS / MOST_RESETS * 1.1)
    assert peer.goaway is None


def test_requests_that_the_proxy_is_made_to_reset_are_stopped() -> None:
    counting = Counting()
    peer = raw(counting)
    for index in range(MOST_RESETS + 100):
        peer.get(2 * index + 1)
        peer.send(WindowUpdateFrame(2 * index + 1, 2**31 - 1))
    assert peer.goaway == CALM
    assert counting.now == 0


def test_malformed_requests_without_end_are_stopped() -> None:
    peer = raw(Echo())
    for index in range(MOST_RESETS + 100):
        peer.get(2 * index + 1, fields((b"connection", b"close")))
    assert peer.goaway == CALM


def test_requests_over_the_limit_without_end_are_stopped() -> None:
    counting = Counting()
    peer = raw(counting)
    for index in range(100 + MOST_RESETS + 100):
        peer.get(2 * index + 1)
    assert peer.goaway == CALM
    assert counting.most == 100


@pytest.mark.parametrize(
    "one",
    [
        PingFrame(0),
        PingFrame(0, flags=["ACK"]),
        SettingsFrame(0),
        SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 10}),
        PriorityFrame(1),
        WindowUpdateFrame(0, 1),
        WindowUpdateFrame(1, 1),
        ExtensionFrame(0x42, 0, flag_byte=0, body=b""),
    ],
    ids=lambda f: type(f).__name__,
)
def test_a_flood_of_frames_that_mean_nothing_is_stopped(one: Frame) -> None:
    peer = raw(Later())
    peer.get()
    peer.wire.stop_reading()
    for _ in range(10):
        peer.send_bytes(one.serialize() * (MOST_IDLE_FRAMES // 5))
    assert len(peer.wire.dataBuffer) < 50_000
    peer.wire.read_on()
    assert peer.goaway == CALM


def test_a_flood_of_empty_data_is_stopped() -> None:
    peer = raw(Later())
    peer.send(peer.headers(1, posting()))
    peer.send_bytes(DataFrame(1).serialize() * (MOST_IDLE_FRAMES * 2))
    assert peer.goaway == CALM


def test_a_flood_of_data_that_is_all_padding_is_stopped() -> None:
    peer = raw(Later())
    peer.send(peer.headers(1, posting()))
    padding = DataFrame(1, b"", pad_length=255, flags=["PADDED"])
    peer.send_bytes(padding.serialize() * 5000)
    assert peer.goaway == CALM


def test_a_flood_of_resets_of_streams_that_have_ended_is_stopped() -> None:
    peer = raw(Echo())
    peer.get()
    assert peer.answered()
    peer.send_bytes(RstStreamFrame(1).serialize() * (MOST_IDLE_FRAMES * 2))
    assert peer.goaway == CALM


def test_a_window_that_is_opened_byte_by_byte_costs_little() -> None:
    later = Later()
    peer = raw(later)
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
    peer.get()
    later.answer(0, b"x" * 100_000)
    for _ in range(10):
        peer.send_bytes(WindowUpdateFrame(1, 1).serialize() * 50)
    sent = [len(f.data) for f in peer.read() if isinstance(f, DataFrame)]
    assert sent == [50] * 10
    peer.send_bytes(WindowUpdateFrame(1, 1).serialize() * (MOST_IDLE_FRAMES * 2))
    assert peer.goaway == CALM


def test_a_client_may_open_its_windows_for_each_piece_of_a_frame_that_it_reads() -> None:
    later = Later()
    peer = client(Engine(later), window=16384)
    stream = peer.request()
    size = 16384 * MOST_IDLE_FRAMES // 4
    later.answer(0, b"x" * size)
    while not peer.answers[stream].ended:
        for _ in range(8):
            peer.h2.increment_flow_control_window(2048)
            peer.h2.increment_flow_control_window(2048, stream)
        peer.turn()
    assert len(peer.answers[stream].body) == size


def test_pings_now_and_then_are_answered_for_ever() -> None:
    engine = Engine(Later())
    peer = RawClient(connect(engine))
    peer.get()
    for _ in range(MOST_IDLE_FRAMES * 3):
        peer.send(PingFrame(0))
        engine.clock.advance(PER_SECONDS / MOST_IDLE_FRAMES * 1.1)
    assert peer.goaway is None


def test_a_field_block_without_end_is_stopped() -> None:
    peer = raw(Echo())
    peer.send(HeadersFrame(1, peer.encoder.encode(GET)))
    for _ in range(MAX_BLOCK // 10_000 + 1):
        peer.send(peer.continuation(1, b"\0\1a\1" * 2500))
    assert peer.goaway == CALM


def test_a_field_block_of_empty_frames_is_stopped() -> None:
    peer = raw(Echo())
    peer.send(HeadersFrame(1, peer.encoder.encode(GET)))
    for _ in range(1000):
        peer.send(peer.continuation(1, b""))
    assert peer.goaway is not None


def test_a_field_block_that_would_unpack_to_very_much_is_stopped() -> None:
    peer = raw(Echo())
    # One entry of 4,000 bytes in the table, and a thousand references to it.
    first = peer.headers(1, fields((b"x-bomb", b"y" * 3900)), "END_STREAM")
    peer.send(first)
    assert peer.answered(1)
    bomb = peer.headers(3, GET, "END_STREAM")
    bomb.data += b"\xbe" * 1000
    peer.send(bomb)
    assert peer.goaway == CALM


def test_many_streams_that_a_client_leaves_no_window_hold_nothing() -> None:
    later = Later()
    peer = raw(later)
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
    producers: list[Any] = []

    class Endless:
        def __init__(self, request: Any) -> None:
            self.request = request
            self.going = True
            self.made = 0

        def pauseProducing(self) -> None:
            self.going = False

        def resumeProducing(self) -> None:
            self.going = True

        def stopProducing(self) -> None:
            self.going = False

        def make(self) -> None:
            if self.going:
                self.made += 1000
                self.request.write(b"x" * 1000)

    for index in range(100):
        peer.get(2 * index + 1)
        producers.append(Endless(later.requests[index]))
        later.requests[index].registerProducer(producers[index], True)
    for _ in range(100):
        for producer in producers:
            producer.make()
    assert sum(producer.made for producer in producers) == 0
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 10}))
    for _ in range(100):
        for producer in producers:
            producer.make()
    assert sum(producer.made for producer in producers) == 100 * 1000


def test_a_client_that_asks_and_never_reads_is_not_listened_to() -> None:
    class Redirect(Streaming):
        def render(self, request: Any) -> bytes:
            request.setResponseCode(302)
            request.setHeader(b"location", b"/" + b"x" * 1000)
            return b""

    peer = raw(Redirect())
    peer.wire.stop_reading()
    for index in range(2000):
        peer.get(2 * index + 1)
    assert len(peer.wire.dataBuffer) < 500_000
    assert peer.wire.unread > 0
    peer.wire.read_on()
    peer.wire.turn()
    answers = {f.stream_id for f in peer.read() if isinstance(f, HeadersFrame)}
    assert len(answers) == 2000


def test_dependencies_of_streams_cost_nothing() -> None:
    peer = raw(Echo())
    for index in range(500):
        peer.send(PriorityFrame(2 * index + 1, depends_on=2 * index + 3, stream_weight=1))
    peer.get(1)
    assert peer.answered(1)


class Moody(Streaming):
    """Answers at once, later, in part or never, by chance."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self.requests: list[Any] = []

    def render(self, request: Any) -> Any:
        if self._random.random() < 0.3:
            return b"x" * self._random.choice([0, 5, 20_000])
        self.requests.append(request)
        if self._random.random() < 0.5 and request.body.length != 0:
            request.body.start(Receiver())
        return NOT_DONE_YET

    def act(self) -> None:
        for request in [r for r in self.requests if not r.finished and not r._disconnected]:
            mood = self._random.random()
            if mood < 0.2:
                request.write(b"y" * self._random.choice([0, 1, 100, 30_000]))
            elif mood < 0.3:
                request.finish()
            elif mood < 0.35:
                request.abort()
            elif mood < 0.4:
                request.inform(103, [(b"link", b"</a>")])
            elif mood < 0.5 and request.body.length != 0:
                self._random.choice([request.body.pause, request.body.resume])()


def _any_frame(random: Random, peer: RawClient, last: int) -> Frame:
    stream = random.randrange(1, last + 4, 2)
    heads = [
        GET,
        posting(),
        posting((b"content-length", b"5")),
        fields(method=b"CONNECT", protocol=b"websocket"),
        fields((b"X", b"1")),
    ]
    end = ["END_STREAM"] if random.random() < 0.4 else []
    return random.choices(
        [
            peer.headers(last + 2, random.choice(heads), *end),
            DataFrame(stream, b"z" * random.choice([0, 1, 5, 16384]), flags=end),
            RstStreamFrame(stream, error_code=8),
            WindowUpdateFrame(random.choice([0, stream]), random.choice([1, 1000, 65535])),
            SettingsFrame(0, settings={random.choice([1, 3, 4]): random.choice([0, 100, 65535])}),
            PingFrame(0),
            PriorityFrame(stream),
            peer.headers(stream, [(b"trailer", b"x")], "END_STREAM"),
            GoAwayFrame(0),
        ],
        [30, 20, 8, 10, 5, 5, 5, 2, 0.3],
    )[0]


def _hostile(random: Random, peer: RawClient, last: int) -> bytes:
    """What no orderly client sends."""
    stream = random.randrange(1, last + 4, 2)
    unfinished = peer.headers(last + 2)
    unfinished.flags.discard("END_HEADERS")
    block = random.randbytes(random.randrange(40))
    garbage = HeadersFrame(last + 2, block, flags=["END_HEADERS", "END_STREAM"])
    wide = SettingsFrame(0, settings={index: random.getrandbits(32) for index in range(2000)})
    return random.choice(
        [
            garbage.serialize(),
            unfinished.serialize() + ContinuationFrame(last + 2, b"").serialize() * 50,
            unfinished.serialize() + ContinuationFrame(last + 2, bytes(16384)).serialize() * 9,
            WindowUpdateFrame(stream, 1).serialize()[:-4] + bytes(4),
            WindowUpdateFrame(0, 2**31 - 1).serialize(),
            PriorityFrame(stream, depends_on=stream, stream_weight=1).serialize(),
            HeadersFrame(
                last + 2,
                peer.encoder.encode(GET),
                depends_on=last + 2,
                flags=["END_HEADERS", "PRIORITY"],
            ).serialize(),
            wide.serialize(),
            SettingsFrame(0, settings={4: 2**31 - 1}).serialize(),
            SettingsFrame(0, settings={5: 16384, 6: 0, 1: 0}).serialize() * 50,
            GoAwayFrame(0, last_stream_id=2**31 - 1, additional_data=bytes(10_000)).serialize(),
            RstStreamFrame(last + 100).serialize(),
            ExtensionFrame(
                random.randrange(10, 256), stream_id=stream, body=bytes(100)
            ).serialize(),
            DataFrame(stream, b"", pad_length=255, flags=["PADDED"]).serialize() * 20,
            random.randbytes(random.randrange(200)),
        ]
    )


@pytest.mark.parametrize("seed", range(60))
def test_whatever_a_client_sends_every_request_ends_and_nothing_fails(seed: int) -> None:
    random = Random(seed)
    hostility = random.choice([0, 0.02, 0.2])
    moody = Moody(random)
    engine = Engine(moody, Limits())
    peer = RawClient(connect(engine))
    outbox = next(iter(engine.site.connections)).outbox  # type: ignore[attr-defined]
    last = -1
    with capturedLogs() as logs:
        for _ in range(random.randrange(20, 150)):
            frame = _any_frame(random, peer, last)
            if isinstance(frame, HeadersFrame):
                last = max(last, frame.stream_id)
            data = bytearray(frame.serialize())
            if random.random() < hostility:
                data = bytearray(_hostile(random, peer, last))
            if random.random() < 0.01:
                data[random.randrange(len(data))] = random.randrange(256)
            if random.random() < 0.05:
                random.choice([peer.wire.stop_reading, peer.wire.read_on])()
            peer.send_bytes(bytes(data))
            moody.act()
            engine.clock.advance(random.choice([0, 0, 0, 0, 1]))
        peer.wire.reset()
        engine.clock.advance(1000)
    assert [event for event in logs if "log_failure" in event] == []
    assert [r for r in moody.requests if not r.finished and not r._disconnected] == []
    assert not engine.site.connections
    assert not engine.clock.getDelayedCalls()
    assert (outbox.held, outbox.flowing) == (0, set())
