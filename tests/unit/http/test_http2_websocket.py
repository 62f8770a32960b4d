"""WebSocket over HTTP/2 (RFC 8441), to a target that speaks HTTP/1.1."""

from __future__ import annotations

from typing import Any

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from kproxy.config.model import Target
from kproxy.http.http2_machine import CONNECTION_WINDOW, STREAM_WINDOW
from tests.unit.upstream.support import Proxy, answer, one_message

from .http2_client import Client, Pairs, RawClient, client, connect, fields
from .memory import Echo, Engine, Later, Wire

OPEN = fields(
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-protocol", b"chat"),
    (b"origin", b"https://example.com"),
    method=b"CONNECT",
    protocol=b"websocket",
    path=b"/ws?room=1",
)
# For a key of sixteen bytes 1, which is what `connect` has for randomness.
KEY = b"AQEBAQEBAQEBAQEBAQEBAQ=="
ACCEPT = b"5tWd1XMQfqfRMZqGrwjPEgEvyeE="


def agreement(accept: bytes = ACCEPT) -> bytes:
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )


def opened(**options: Any) -> tuple[Proxy, Client, int, Wire]:
    """A tunnel that stands: proxy, client, stream, target."""
    proxy = Proxy(**options)
    peer = client(proxy)
    stream = peer.request(OPEN, end=False)
    proxy.target.take()
    proxy.target.send(agreement())
    peer.turn()
    return proxy, peer, stream, proxy.target


@pytest.mark.parametrize("buffered", [False, True])
def test_the_target_is_asked_for_an_ordinary_upgrade(buffered: bool) -> None:
    proxy = Proxy(buffer_requests=buffered, buffer_responses=buffered)
    peer = client(proxy)
    stream = peer.request(OPEN, end=False)
    message = one_message(proxy.target)
    assert message.start == b"GET /ws?room=1 HTTP/1.1"
    assert message.get(b"connection") == [b"Upgrade"]
    assert message.get(b"upgrade") == [b"websocket"]
    assert message.get(b"sec-websocket-key") == [KEY]
    assert message.get(b"sec-websocket-version") == [b"13"]
    assert message.get(b"sec-websocket-protocol") == [b"chat"]
    assert message.get(b"host") == [b"example.com"]
    assert message.get(b"content-length") == []
    proxy.target.send(agreement())
    peer.turn()
    got = peer.answers[stream]
    assert got.status == 200
    assert got.get(b"sec-websocket-protocol") == [b"chat"]
    assert got.get(b"sec-websocket-accept") == []
    assert got.get(b"upgrade") == []
    assert not got.ended


def test_data_go_both_ways() -> None:
    _, peer, stream, target = opened()
    peer.data(stream, b"hello")
    assert target.take() == b"hello"
    target.send(b"hi", b"there")
    peer.turn()
    assert peer.answers[stream].body == b"hithere"


def test_what_the_target_sends_with_its_agreement_is_not_lost() -> None:
    proxy = Proxy()
    peer = client(proxy)
    stream = peer.request(OPEN, end=False)
    proxy.target.send(agreement() + b"early")
    peer.turn()
    assert peer.answers[stream].body == b"early"


def test_what_the_client_sends_before_the_answer_is_not_lost() -> None:
    proxy = Proxy()
    peer = client(proxy)
    stream = peer.request(OPEN, end=False)
    peer.data(stream, b"early")
    proxy.target.take()
    proxy.target.send(agreement())
    assert proxy.target.take() == b"early"


def test_a_key_and_a_length_of_the_client_are_not_passed_on() -> None:
    proxy = Proxy()
    peer = client(proxy)
    peer.request([*OPEN, (b"sec-websocket-key", b"mine"), (b"content-length", b"7")], end=False)
    message = one_message(proxy.target)
    assert message.get(b"sec-websocket-key") == [KEY]
    assert message.get(b"content-length") == []


def test_a_target_that_did_not_read_the_key_is_not_trusted() -> None:
    proxy = Proxy()
    peer = client(proxy)
    stream = peer.request(OPEN, end=False)
    target = proxy.target
    target.send(agreement(b"wrong"))
    peer.turn()
    assert peer.answers[stream].status == 502
    assert target.aborted
    assert proxy.active == 0


def test_a_target_that_does_not_agree_answers_as_ever() -> None:
    proxy = Proxy()
    peer = client(proxy)
    stream = peer.request(OPEN, end=False)
    proxy.target.send(answer(b"log in first", code=403))
    peer.turn()
    got = peer.answers[stream]
    assert got.status == 403
    assert got.body == b"log in first"
    assert got.ended
    assert proxy.active == 0


def test_an_ordinary_success_is_not_taken_for_an_open_websocket() -> None:
    proxy = Proxy()
    peer = client(proxy)
    stream = peer.request(OPEN, end=False)
    proxy.target.send(answer(b"<html>"))
    peer.turn()
    got = peer.answers[stream]
    assert got.status == 502
    assert got.body == b""
    assert got.ended


def test_a_client_that_ends_its_side_with_its_request_gets_the_answer() -> None:
    later = Later()
    peer = client(Engine(later))
    stream = peer.request(OPEN)
    later.requests[0].setResponseCode(403)
    later.answer(0, b"no")
    peer.turn()
    assert peer.answers[stream].body == b"no"
    assert peer.answers[stream].ended
    at_once = client(Engine(Echo()))
    with capturedLogs() as logs:
        assert at_once.ask(OPEN).status == 502
    assert [event for event in logs if "log_failure" in event] == []
    assert at_once.ask().status == 200


@pytest.mark.parametrize("protocol", [b"connect-udp", b"webtransport", b""])
def test_another_protocol_is_not_implemented(protocol: bytes) -> None:
    headers: Pairs = fields(method=b"CONNECT", protocol=protocol)
    assert client(Proxy()).ask(headers).status == 501


def test_the_end_of_one_side_leaves_the_other_its_last_words() -> None:
    proxy, peer, stream, target = opened()
    peer.data(stream, b"bye", end=True)
    assert target.take() == b"bye"
    assert target.half_closed
    target.send(b"last words")
    peer.turn()
    assert peer.answers[stream].body == b"last words"
    assert proxy.active == 1
    target.send_eof()
    peer.turn()
    assert peer.answers[stream].ended
    assert peer.answers[stream].reset is None
    assert target.closed
    assert proxy.active == 0


def test_the_targets_end_is_the_streams_and_the_client_may_go_on() -> None:
    proxy, peer, stream, target = opened()
    target.send(b"bye")
    target.send_eof()
    peer.turn()
    assert peer.answers[stream].body == b"bye"
    assert peer.answers[stream].ended
    peer.data(stream, b"last words")
    assert target.take() == b"last words"
    peer.data(stream, b"", end=True)
    assert target.closed
    assert proxy.active == 0


def test_a_client_that_resets_the_stream_cuts_the_target_off() -> None:
    proxy, peer, stream, target = opened()
    peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
    peer.turn()
    assert target.aborted
    assert proxy.active == 0


def test_a_client_whose_connection_breaks_cuts_the_target_off() -> None:
    proxy, peer, _, target = opened()
    peer.wire.reset()
    proxy.clock.advance(0)
    assert target.aborted
    assert proxy.active == 0


def test_a_target_whose_connection_breaks_resets_the_stream() -> None:
    proxy, peer, stream, target = opened()
    target.reset()
    peer.turn()
    assert peer.answers[stream].reset == ErrorCodes.CANCEL
    assert proxy.active == 0
    again = peer.request()
    proxy.target.send(answer(b"fine"))
    peer.turn()
    assert peer.answers[again].body == b"fine"


def test_a_slow_client_slows_the_target() -> None:
    proxy = Proxy()
    peer = client(proxy, window=10)
    stream = peer.request(OPEN, end=False)
    target = proxy.target
    target.send(agreement(), b"x" * 20)
    peer.turn()
    assert not target.reading
    assert len(peer.answers[stream].body) == 10
    peer.take(10, stream)
    assert target.reading
    assert len(peer.answers[stream].body) == 20


def test_a_slow_target_slows_the_client() -> None:
    _, peer, stream, target = opened()
    target.stop_reading()
    peer.data(stream, b"x" * STREAM_WINDOW)
    window = peer.h2.local_flow_control_window(stream)
    if window:
        peer.data(stream, b"x" * window)
    assert peer.h2.local_flow_control_window(stream) < STREAM_WINDOW // 2
    target.read_on()
    peer.turn()
    assert peer.h2.local_flow_control_window(stream) >= STREAM_WINDOW // 2
    assert len(target.take()) == STREAM_WINDOW + window


def test_a_tunnel_that_stands_while_the_connection_has_no_window_waits_for_it() -> None:
    proxy = Proxy()
    peer = client(proxy, window=2**20)
    peer.request()
    proxy.target.send(answer(b"x" * 70_000))
    stream = peer.request(OPEN, end=False)
    target = proxy.target
    target.send(agreement(), b"hello")
    peer.turn()
    assert peer.answers[stream].status == 200
    assert not target.reading
    peer.take(2**20)
    assert target.reading
    assert peer.answers[stream].body == b"hello"


def test_what_a_tunnel_held_that_was_cut_is_given_back_to_the_connection() -> None:
    proxy = Proxy()
    peer = client(proxy)
    for _ in range(20):
        stream = peer.request(OPEN, end=False)
        proxy.target.send(agreement())
        proxy.target.stop_reading()
        peer.data(stream, b"x" * STREAM_WINDOW)
        window = peer.h2.local_flow_control_window(stream)
        if window:
            peer.data(stream, b"x" * window)
        peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
        peer.turn()
    assert peer.h2.outbound_flow_control_window >= CONNECTION_WINDOW // 2


def test_a_quiet_tunnel_lasts() -> None:
    proxy, peer, stream, target = opened()
    proxy.clock.advance(10_000)
    peer.data(stream, b"still here")
    assert target.take() == b"still here"


def test_many_tunnels_and_requests_share_a_connection() -> None:
    proxy = Proxy()
    peer = client(proxy)
    streams = [peer.request(OPEN, end=False) for _ in range(5)]
    targets = list(proxy.network.wires)
    for target in targets:
        target.take()
        target.send(agreement())
    peer.turn()
    for index, stream in enumerate(streams):
        peer.data(stream, b"%d" % index)
    assert [target.take() for target in targets] == [b"0", b"1", b"2", b"3", b"4"]
    request = peer.request()
    proxy.target.send(answer(b"fine"))
    peer.turn()
    assert peer.answers[request].body == b"fine"


def test_draining_ends_tunnels_at_once() -> None:
    # Not by h2's client, which takes nothing after a GOAWAY.
    proxy = Proxy()
    peer = RawClient(connect(proxy))
    peer.send(peer.headers(1, OPEN))
    proxy.target.take()
    proxy.target.send(agreement())
    proxy.site.drain()
    proxy.clock.advance(0)
    ends = [f for f in peer.read() if isinstance(f, DataFrame) and "END_STREAM" in f.flags]
    assert [f.stream_id for f in ends] == [1]
    assert proxy.target.closed
    assert proxy.active == 0


def test_a_deployment_that_cuts_a_tunnel_resets_its_stream() -> None:
    proxy, peer, stream, target = opened()
    (exchange,) = proxy.pools[0].active
    assert exchange.upgraded_away
    exchange.cancel()
    peer.turn()
    assert peer.answers[stream].reset == ErrorCodes.CANCEL
    assert target.aborted


def test_the_log_sees_the_upgrade_and_its_bytes() -> None:
    seen: list[Any] = []

    def around(resource: Any) -> Any:
        render = resource.render

        def watching(request: Any) -> Any:
            request.on_finish(lambda r, failure: seen.append((r.code, r.sentLength, failure)))
            return render(request)

        resource.render = watching
        return resource

    _, peer, stream, target = opened(around=around)
    target.send(b"12345")
    peer.data(stream, b"", end=True)
    target.send_eof()
    assert seen == [(101, 5, None)]


def test_requests_go_to_targets_in_http1() -> None:
    proxy = Proxy(Target("app", 3000))
    peer = client(proxy)
    stream = peer.request(fields((b"x", b"y"), method=b"PUT", path=b"/a?b"), b"hello", end=False)
    message_so_far = proxy.target.take()
    assert message_so_far.startswith(b"PUT /a?b HTTP/1.1\r\nHost: example.com\r\nx: y\r\n")
    assert b"Transfer-Encoding: chunked" in message_so_far
    peer.data(stream, b"", end=True)
    assert proxy.target.take().endswith(b"0\r\n\r\n")
    proxy.target.send(answer(b"hi", b"Keep-Alive: 5", b"ETag: 1"))
    peer.turn()
    got = peer.answers[stream]
    assert got.body == b"hi"
    assert got.get(b"etag") == [b"1"]
    assert got.get(b"keep-alive") == []


def test_a_request_taken_back_is_taken_back_at_the_target() -> None:
    proxy = Proxy()
    peer = client(proxy)
    stream = peer.request()
    target = proxy.target
    peer.h2.reset_stream(stream)
    peer.turn()
    assert target.aborted
    assert proxy.active == 0


def test_a_target_that_dies_within_its_answer_resets_the_stream() -> None:
    proxy = Proxy()
    peer = client(proxy)
    stream = peer.request()
    proxy.target.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    proxy.target.reset()
    peer.turn()
    got = peer.answers[stream]
    assert got.body == b"half"
    assert not got.ended
    assert got.reset == ErrorCodes.INTERNAL_ERROR


def test_a_slow_client_slows_the_target_of_its_request_only() -> None:
    proxy = Proxy()
    peer = client(proxy, window=1000)
    slow = peer.request()
    target = proxy.target
    target.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 2000)
    peer.turn()
    assert not target.reading
    quick = peer.request()
    proxy.target.send(answer(b"fine"))
    peer.turn()
    assert peer.answers[quick].body == b"fine"
    peer.take(1000, slow)
    assert target.reading


def test_trailers_of_a_target_reach_the_client() -> None:
    proxy = Proxy()
    peer = client(proxy)
    stream = peer.request()
    proxy.target.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    peer.turn()
    got = peer.answers[stream]
    assert got.body == b"hello"
    assert got.trailers == [(b"x-sum", b"1")]


def test_early_hints_of_a_target_reach_the_client() -> None:
    proxy = Proxy()
    peer = client(proxy)
    stream = peer.request()
    proxy.target.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", answer(b"x"))
    peer.turn()
    assert peer.answers[stream].interim == [[(b":status", b"103"), (b"link", b"</a>")]]
    assert peer.answers[stream].body == b"x"


def test_a_buffered_response_that_went_to_a_file_arrives() -> None:
    proxy = Proxy(buffer_responses=True)
    peer = client(proxy)
    stream = peer.request()
    proxy.target.send(answer(bytes(range(250)) * 2000))
    for _ in range(200):
        peer.turn()
    assert peer.answers[stream].body == bytes(range(250)) * 2000
    assert peer.answers[stream].ended


def test_the_clock_has_nothing_left_to_do() -> None:
    proxy, peer, stream, target = opened()
    peer.data(stream, b"", end=True)
    target.send_eof()
    peer.wire.send_eof()
    proxy.clock.advance(1000)
    assert isinstance(proxy.clock, Clock)
    assert not proxy.site.connections
