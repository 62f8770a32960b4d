"""RFC 9113 sections 3.4 to 6: the connection, its frames, and the states of its streams."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from .http2_client import GET, PREFACE, RawClient, client, connect, fields, posting
from .memory import Echo, Engine, Later, Upload

PROTOCOL_ERROR = ErrorCodes.PROTOCOL_ERROR
FRAME_SIZE_ERROR = ErrorCodes.FRAME_SIZE_ERROR
STREAM_CLOSED = ErrorCodes.STREAM_CLOSED


def raw(resource: Any = None) -> RawClient:
    return RawClient(connect(Engine(resource or Echo())))


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """A frame as it is said to be, right or wrong."""
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes([kind, flags])
        + struct.pack(">I", stream_id)
        + payload
    )


# Section 3.4: the preface.


def test_the_server_begins_with_its_settings() -> None:
    peer = RawClient(connect(Engine(Echo())), greet=False)
    settings = peer.read()[0]
    assert isinstance(settings, SettingsFrame)
    assert settings.settings[SettingsFrame.MAX_CONCURRENT_STREAMS] == 100
    assert settings.settings[SettingsFrame.MAX_HEADER_LIST_SIZE] == 64 * 1024
    assert settings.settings[SettingsFrame.ENABLE_CONNECT_PROTOCOL] == 1


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"]
)
def test_what_does_not_begin_with_the_preface_is_a_connection_error(data: bytes) -> None:
    peer = RawClient(connect(Engine(Echo())), greet=False)
    peer.send_bytes(data)
    assert peer.goaway == PROTOCOL_ERROR


def test_a_wrong_preface_is_refused_at_its_first_wrong_byte() -> None:
    peer = RawClient(connect(Engine(Echo())), greet=False)
    peer.send_bytes(b"PRI *")
    assert peer.goaway is None
    peer.send_bytes(b"X")
    assert peer.goaway == PROTOCOL_ERROR


def test_a_preface_may_come_in_any_pieces() -> None:
    peer = RawClient(connect(Engine(Echo())), greet=False)
    greeting = PREFACE + SettingsFrame(0).serialize()
    peer.wire.send_bytewise(greeting + peer.headers(1, GET, "END_STREAM").serialize())
    assert peer.answered()


def test_a_first_frame_other_than_settings_is_a_connection_error() -> None:
    peer = RawClient(connect(Engine(Echo())), greet=False)
    peer.send_bytes(PREFACE)
    peer.send(PingFrame(0))
    assert peer.goaway == PROTOCOL_ERROR


def test_an_acknowledgement_is_not_the_settings_to_begin_with() -> None:
    peer = RawClient(connect(Engine(Echo())), greet=False)
    peer.send_bytes(PREFACE)
    peer.send(SettingsFrame(0, flags=["ACK"]))
    assert peer.goaway == PROTOCOL_ERROR


# Sections 4.1 and 4.2: the format and the size of frames.


def test_a_frame_of_an_unknown_type_is_ignored() -> None:
    peer = raw()
    peer.send_bytes(frame(0x42, 0xFF, 0, b"hello"))
    peer.get()
    assert peer.answered()


def test_alt_svc_from_a_client_is_ignored() -> None:
    peer = raw()
    peer.send_bytes(frame(10, 0, 0, b"\0\3a.bh2"))
    peer.get()
    assert peer.answered()


def test_flags_that_mean_nothing_are_ignored() -> None:
    peer = raw()
    peer.send_bytes(frame(6, 0xFE, 0, b"12345678"))
    assert [f for f in peer.read() if isinstance(f, PingFrame)]


def test_the_reserved_bit_of_a_stream_identifier_is_ignored() -> None:
    peer = raw()
    head = peer.headers(1, GET, "END_STREAM").serialize()
    peer.send_bytes(head[:5] + bytes([head[5] | 0x80]) + head[6:])
    assert peer.answered()


def test_a_frame_of_the_largest_size_is_taken() -> None:
    upload = Upload()
    peer = raw(upload)
    peer.send(peer.headers(1, posting()), peer.data(1, b"x" * 16384, "END_STREAM"))
    assert len(upload.bodies[0].data) == 16384


def test_a_frame_over_the_largest_size_is_refused_before_it_has_come() -> None:
    peer = raw()
    peer.send(peer.headers(1, posting()))
    peer.send_bytes(struct.pack(">I", 16385)[1:] + b"\0\0\0\0\0\1")
    assert peer.goaway == FRAME_SIZE_ERROR


def test_a_head_over_the_largest_frame_size_is_a_connection_error() -> None:
    peer = raw()
    peer.send_bytes(struct.pack(">I", 16385)[1:] + b"\1\4\0\0\0\1")
    assert peer.goaway == FRAME_SIZE_ERROR


# Section 4.3: field blocks.


def test_a_field_block_that_can_not_be_decompressed_is_a_connection_error() -> None:
    peer = raw()
    peer.send(HeadersFrame(1, b"\xff\xff\xff\xff\xff", flags=["END_HEADERS", "END_STREAM"]))
    assert peer.goaway in (ErrorCodes.COMPRESSION_ERROR, PROTOCOL_ERROR)


def test_a_table_size_over_the_limit_is_a_connection_error() -> None:
    peer = raw()
    block = b"\x3f\xe1\xff\x03" + peer.encoder.encode(GET)
    peer.send(HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]))
    assert peer.goaway in (ErrorCodes.COMPRESSION_ERROR, PROTOCOL_ERROR)


def test_a_field_block_in_several_frames_is_one() -> None:
    echo = Echo()
    peer = raw(echo)
    block = peer.encoder.encode(fields((b"x-a", b"b" * 100)))
    peer.send(
        HeadersFrame(1, block[:5], flags=["END_STREAM"]),
        peer.continuation(1, block[5:20]),
        peer.continuation(1, b""),
        peer.continuation(1, block[20:], "END_HEADERS"),
    )
    assert peer.answered()
    assert echo.seen[0].getHeader(b"x-a") == b"b" * 100


@pytest.mark.parametrize(
    "between",
    [
        DataFrame(1, b"x"),
        PingFrame(0),
        PriorityFrame(1),
        SettingsFrame(0),
        RstStreamFrame(1),
        ExtensionFrame(0x42, 1, flag_byte=0, body=b"x"),
        GoAwayFrame(0),
        HeadersFrame(3, b"", flags=["END_HEADERS"]),
    ],
    ids=lambda f: type(f).__name__,
)
def test_a_frame_within_a_field_block_is_a_connection_error(between: Frame) -> None:
    peer = raw()
    peer.send(HeadersFrame(1, peer.encoder.encode(GET)), between)
    assert peer.goaway == PROTOCOL_ERROR


def test_a_continuation_of_another_stream_is_a_connection_error() -> None:
    peer = raw()
    block = peer.encoder.encode(GET)
    peer.send(HeadersFrame(1, block[:3]), peer.continuation(3, block[3:], "END_HEADERS"))
    assert peer.goaway == PROTOCOL_ERROR


def test_a_malformed_request_leaves_the_compression_of_the_others_right() -> None:
    echo = Echo()
    peer = raw(echo)
    peer.get(1, fields((b"X-Upper", b"1"), (b"x-later", b"2")))
    peer.get(3, fields((b"x-later", b"2")))
    assert peer.resets(1) == [PROTOCOL_ERROR]
    assert echo.seen[0].getHeader(b"x-later") == b"2"


# Section 5.1: the states of streams.


def _data(peer: RawClient) -> Frame:
    return peer.data(1, b"x")


def _reset(peer: RawClient) -> Frame:
    return RstStreamFrame(1)


def _window(peer: RawClient) -> Frame:
    return WindowUpdateFrame(1, 10)


def _continuation(peer: RawClient) -> Frame:
    return peer.continuation(1, b"", "END_HEADERS")


@pytest.mark.parametrize("make", [_data, _reset, _window, _continuation])
def test_a_frame_on_an_idle_stream_is_a_connection_error(
    make: Callable[[RawClient], Frame],
) -> None:
    peer = raw()
    peer.send(make(peer))
    assert peer.goaway == PROTOCOL_ERROR


def test_priority_on_an_idle_stream_is_ignored() -> None:
    peer = raw()
    peer.send(PriorityFrame(1, depends_on=0, stream_weight=3))
    peer.get()
    assert peer.answered()


def test_data_on_a_stream_that_the_client_has_ended_is_a_stream_error() -> None:
    peer = raw(Later())
    peer.get()
    peer.send(_data(peer))
    assert peer.resets() == [STREAM_CLOSED]
    assert peer.goaway is None


def test_headers_on_a_stream_that_the_client_has_ended_are_an_error() -> None:
    peer = raw(Later())
    peer.get()
    peer.send(peer.headers(1, [(b"a", b"b")], "END_STREAM"))
    assert peer.resets() == [STREAM_CLOSED] or peer.goaway == STREAM_CLOSED


def test_a_request_that_goes_wrong_so_is_taken_back() -> None:
    later = Later()
    peer = raw(later)
    peer.get()
    peer.send(_data(peer))
    assert later.ends[0] is not None


def test_windows_and_resets_may_still_come_for_a_stream_that_has_ended() -> None:
    peer = raw()
    peer.get()
    peer.send(WindowUpdateFrame(1, 10), RstStreamFrame(1), PriorityFrame(1))
    peer.get(3)
    assert peer.answered(3)


def test_data_on_a_closed_stream_is_an_error() -> None:
    peer = raw()
    peer.get()
    peer.send(_data(peer))
    assert STREAM_CLOSED in (*peer.resets(), peer.goaway)


def test_headers_on_a_closed_stream_are_a_connection_error() -> None:
    peer = raw()
    peer.get()
    peer.get()
    assert peer.goaway == STREAM_CLOSED


def test_a_continuation_on_a_closed_stream_is_a_connection_error() -> None:
    peer = raw()
    peer.get()
    peer.send(_continuation(peer))
    assert peer.goaway in (STREAM_CLOSED, PROTOCOL_ERROR)


def test_data_on_a_stream_that_the_client_has_reset_is_an_error() -> None:
    peer = raw(Later())
    peer.send(peer.headers(1, posting()), RstStreamFrame(1), _data(peer))
    assert STREAM_CLOSED in (*peer.resets(), peer.goaway)


def test_data_that_were_on_their_way_when_the_proxy_reset_their_stream_end_nothing_else() -> None:
    echo = Echo()
    peer = raw(echo)
    peer.send(peer.headers(1, posting((b"connection", b"close"))))
    assert peer.resets() == [PROTOCOL_ERROR]
    for _ in range(10):
        peer.send(peer.data(1, b"x" * 16000))
    peer.get(3)
    assert peer.goaway is None
    assert peer.answered(3)


# Section 5.1.1: identifiers.


def test_an_even_stream_of_a_client_is_a_connection_error() -> None:
    peer = raw()
    peer.get(2)
    assert peer.goaway == PROTOCOL_ERROR


def test_a_new_stream_with_a_lower_identifier_is_a_connection_error() -> None:
    peer = raw()
    peer.get(5)
    peer.get(3)
    assert peer.goaway in (PROTOCOL_ERROR, STREAM_CLOSED)


def test_identifiers_may_be_left_out() -> None:
    peer = raw()
    peer.get(1)
    peer.get(2**31 - 1)
    assert peer.answered(2**31 - 1)


# Section 5.1.2: concurrency.


def test_streams_over_the_limit_are_refused_and_the_others_work() -> None:
    later = Later()
    peer = raw(later)
    for index in range(101):
        peer.get(2 * index + 1)
    assert peer.resets(201) == [ErrorCodes.REFUSED_STREAM]
    assert len(later.requests) == 100
    later.answer(0, b"done")
    peer.get(203)
    assert peer.goaway is None
    assert len(later.requests) == 101


def test_a_stream_that_only_the_response_is_missing_of_counts() -> None:
    later = Later()
    peer = raw(later)
    for index in range(100):
        peer.get(2 * index + 1)
    peer.send(RstStreamFrame(1))
    peer.get(201)
    peer.get(203)
    assert peer.resets(201) == []
    assert peer.resets(203) == [ErrorCodes.REFUSED_STREAM]


# Section 5.4: errors.


def test_a_connection_error_names_the_last_stream_that_was_looked_at() -> None:
    peer = raw()
    peer.get(1)
    peer.get(7)
    peer.get(2)
    goaway = [f for f in peer.read() if isinstance(f, GoAwayFrame)]
    assert [f.last_stream_id for f in goaway] == [7]


def test_a_connection_error_takes_all_requests_back() -> None:
    later = Later()
    peer = raw(later)
    ends: list[Any] = []
    peer.get(1)
    peer.get(3)
    for request in later.requests:
        request.on_finish(lambda request, failure: ends.append(failure))
    peer.send_bytes(frame(6, 0, 0, b"short"))
    assert peer.goaway == FRAME_SIZE_ERROR
    assert len(ends) == 2
    assert None not in ends


def test_after_a_connection_error_nothing_is_looked_at_and_the_connection_closes() -> None:
    echo = Echo()
    engine = Engine(echo)
    peer = RawClient(connect(engine))
    peer.send_bytes(frame(6, 0, 0, b"short"))
    peer.get(1)
    assert not echo.seen
    assert peer.wire.lost is None
    engine.clock.advance(2)
    engine.clock.advance(0)
    assert peer.wire.lost is not None
    assert not engine.site.connections


def test_what_came_before_an_error_was_done() -> None:
    echo = Echo()
    peer = raw(echo)
    head = peer.headers(1, GET, "END_STREAM").serialize()
    peer.send_bytes(head + frame(6, 0, 0, b"short"))
    assert peer.answered()
    assert peer.goaway == FRAME_SIZE_ERROR


# Section 6.1: DATA.


def test_data_on_the_connection_are_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(0, 0, 0, b"x"))
    assert peer.goaway == PROTOCOL_ERROR


def test_padding_that_is_longer_than_its_frame_is_an_error() -> None:
    peer = raw(Upload())
    peer.send(peer.headers(1, posting()))
    peer.send_bytes(frame(0, 0x8, 1, b"\x06abcde"))
    assert peer.goaway == PROTOCOL_ERROR


def test_padding_is_not_body() -> None:
    upload = Upload()
    peer = raw(upload)
    padded = DataFrame(1, b"hello", pad_length=100, flags=["PADDED", "END_STREAM"])
    peer.send(peer.headers(1, posting((b"content-length", b"5"))), padded)
    assert upload.bodies[0].data == b"hello"
    assert upload.bodies[0].ended == []


def test_padding_is_given_back_to_the_windows() -> None:
    upload = Upload()
    peer = raw(upload)
    peer.send(peer.headers(1, posting()))
    for _ in range(1024 * 1024 // 257 + 10):
        peer.send(DataFrame(1, b"x", pad_length=255, flags=["PADDED"]))
    assert peer.goaway is None
    assert peer.resets() == []


# Section 6.2: HEADERS.


def test_headers_on_the_connection_are_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(1, 4, 0, peer.encoder.encode(GET)))
    assert peer.goaway == PROTOCOL_ERROR


def test_headers_with_too_much_padding_are_an_error() -> None:
    peer = raw()
    block = peer.encoder.encode(GET)
    peer.send_bytes(frame(1, 0x4 | 0x8, 1, bytes([len(block) + 1]) + block))
    assert peer.goaway == PROTOCOL_ERROR


def test_headers_with_padding_and_priority_are_read() -> None:
    peer = raw()
    head = peer.headers(1, GET, "END_STREAM", "PADDED", "PRIORITY")
    head.pad_length, head.depends_on, head.stream_weight = 10, 0, 200
    peer.send(head)
    assert peer.answered()


# Section 6.3: PRIORITY.


def test_priority_on_the_connection_is_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(2, 0, 0, b"\0\0\0\0\0"))
    assert peer.goaway == PROTOCOL_ERROR


def test_priority_of_a_wrong_size_is_an_error() -> None:
    peer = raw(Later())
    peer.get()
    peer.send_bytes(frame(2, 0, 1, b"\0\0\0\0"))
    assert FRAME_SIZE_ERROR in (*peer.resets(), peer.goaway)


def test_a_stream_that_depends_on_itself_is_an_error() -> None:
    """So RFC 7540 section 5.3.1 has it; RFC 9113 has no use for priorities any more."""
    for depends_on in (1, 2**31 + 1):
        peer = raw()
        peer.send_bytes(frame(2, 0, 1, depends_on.to_bytes(4, "big") + b"\0"))
        assert PROTOCOL_ERROR in (*peer.resets(), peer.goaway)


# Section 6.4: RST_STREAM.


def test_a_reset_of_the_connection_is_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(3, 0, 0, b"\0\0\0\0"))
    assert peer.goaway == PROTOCOL_ERROR


def test_a_reset_of_a_wrong_size_is_an_error() -> None:
    peer = raw(Later())
    peer.get()
    peer.send_bytes(frame(3, 0, 1, b"\0\0\0"))
    assert peer.goaway == FRAME_SIZE_ERROR


# Section 6.5: SETTINGS.


def test_settings_are_acknowledged() -> None:
    peer = raw()
    peer.send(SettingsFrame(0, settings={SettingsFrame.MAX_FRAME_SIZE: 20000}))
    acknowledged = [f for f in peer.read() if isinstance(f, SettingsFrame) and "ACK" in f.flags]
    assert len(acknowledged) == 1


def test_settings_on_a_stream_are_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(4, 0, 1, b""))
    assert peer.goaway == PROTOCOL_ERROR


def test_settings_of_a_wrong_size_are_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(4, 0, 0, b"\0\3\0"))
    assert peer.goaway == FRAME_SIZE_ERROR


def test_an_acknowledgement_with_settings_is_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(4, 1, 0, b"\0\3\0\0\0\1"))
    assert peer.goaway == FRAME_SIZE_ERROR


@pytest.mark.parametrize(
    ("setting", "value", "code"),
    [
        (SettingsFrame.ENABLE_PUSH, 2, PROTOCOL_ERROR),
        (SettingsFrame.INITIAL_WINDOW_SIZE, 2**31, ErrorCodes.FLOW_CONTROL_ERROR),
        (SettingsFrame.MAX_FRAME_SIZE, 16383, PROTOCOL_ERROR),
        (SettingsFrame.MAX_FRAME_SIZE, 2**24, PROTOCOL_ERROR),
    ],
)
def test_a_setting_with_a_value_that_it_can_not_have_is_an_error(
    setting: int, value: int, code: ErrorCodes
) -> None:
    peer = raw()
    peer.send_bytes(frame(4, 0, 0, struct.pack(">HL", setting, value)))
    assert peer.goaway == code


def test_an_unknown_setting_is_ignored() -> None:
    peer = raw()
    peer.send_bytes(frame(4, 0, 0, struct.pack(">HL", 0xFF, 1)))
    peer.get()
    assert peer.answered()


def test_a_client_may_forbid_a_table_and_learns_that_there_is_none() -> None:
    peer = raw()
    peer.send(SettingsFrame(0, settings={SettingsFrame.HEADER_TABLE_SIZE: 0}))
    peer.get(1)
    peer.get(3)
    first, second = [f for f in peer.read() if isinstance(f, HeadersFrame)]
    assert first.data[0] == 0x20
    assert second.data[0] != 0x20


# Section 6.6: PUSH_PROMISE.


def test_a_push_of_a_client_is_an_error() -> None:
    peer = raw(Later())
    peer.get()
    push = PushPromiseFrame(1, 2, peer.encoder.encode(GET), flags=["END_HEADERS"])
    peer.send(push)
    assert peer.goaway == PROTOCOL_ERROR


# Section 6.7: PING.


def test_a_ping_is_answered_with_the_same_data() -> None:
    peer = raw()
    peer.send(PingFrame(0, b"12345678"))
    (answer,) = [f for f in peer.read() if isinstance(f, PingFrame)]
    assert answer.opaque_data == b"12345678"
    assert "ACK" in answer.flags


def test_an_answer_to_no_ping_is_ignored() -> None:
    peer = raw()
    peer.send(PingFrame(0, b"12345678", flags=["ACK"]))
    assert peer.read() == []


def test_a_ping_on_a_stream_is_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(6, 0, 1, b"12345678"))
    assert peer.goaway == PROTOCOL_ERROR


def test_a_ping_of_a_wrong_size_is_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(6, 0, 0, b"1234567"))
    assert peer.goaway == FRAME_SIZE_ERROR


# Section 6.8: GOAWAY.


def test_a_client_that_leaves_gets_the_answers_it_waits_for() -> None:
    later = Later()
    engine = Engine(later)
    peer = RawClient(connect(engine))
    peer.get()
    peer.send(GoAwayFrame(0))
    assert peer.wire.lost is None
    later.answer(0, b"done")
    assert peer.answered()
    engine.clock.advance(2)
    engine.clock.advance(0)
    assert peer.wire.closed


def test_a_stream_that_a_client_opens_after_it_has_left_is_refused() -> None:
    peer = raw(Later())
    peer.get()
    peer.send(GoAwayFrame(0))
    peer.get(3)
    assert peer.resets(3) == [ErrorCodes.REFUSED_STREAM]


def test_goaway_on_a_stream_is_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(7, 0, 1, bytes(8)))
    assert peer.goaway == PROTOCOL_ERROR


def test_a_goaway_that_is_too_short_is_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(7, 0, 0, bytes(7)))
    assert peer.goaway == FRAME_SIZE_ERROR


# Section 6.9: WINDOW_UPDATE.


def test_a_window_update_of_nothing_is_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(8, 0, 0, bytes(4)))
    assert peer.goaway == PROTOCOL_ERROR


def test_a_window_update_of_nothing_on_a_stream_is_an_error() -> None:
    peer = raw(Later())
    peer.get()
    peer.send_bytes(frame(8, 0, 1, bytes(4)))
    assert PROTOCOL_ERROR in (*peer.resets(), peer.goaway)


def test_a_window_update_of_a_wrong_size_is_an_error() -> None:
    peer = raw()
    peer.send_bytes(frame(8, 0, 0, b"\0\0\1"))
    assert peer.goaway == FRAME_SIZE_ERROR


def test_a_connection_window_over_the_limit_is_a_connection_error() -> None:
    peer = raw()
    peer.send(WindowUpdateFrame(0, 2**31 - 1), WindowUpdateFrame(0, 2**31 - 1))
    assert peer.goaway == ErrorCodes.FLOW_CONTROL_ERROR


def test_a_stream_window_over_the_limit_is_a_stream_error() -> None:
    later = Later()
    peer = raw(later)
    peer.get()
    peer.send(WindowUpdateFrame(1, 2**31 - 1), WindowUpdateFrame(1, 2**31 - 1))
    assert peer.resets() == [ErrorCodes.FLOW_CONTROL_ERROR]
    assert peer.goaway is None
    assert later.ends[0] is not None


def test_a_body_over_the_window_is_an_error() -> None:
    peer = raw(Later())
    peer.send(peer.headers(1, posting()))
    for _ in range(17):
        peer.send(peer.data(1, b"x" * 16384))
    assert ErrorCodes.FLOW_CONTROL_ERROR in (*peer.resets(), peer.goaway)


# Section 6.10: CONTINUATION.


def test_a_continuation_of_nothing_is_an_error() -> None:
    peer = raw(Later())
    peer.send(peer.headers(1, posting()), peer.continuation(1, b"", "END_HEADERS"))
    assert peer.goaway == PROTOCOL_ERROR


def test_a_continuation_on_the_connection_is_an_error() -> None:
    peer = raw()
    peer.send(HeadersFrame(1, peer.encoder.encode(GET)))
    peer.send_bytes(frame(9, 4, 0, b""))
    assert peer.goaway == PROTOCOL_ERROR


def test_an_orderly_client_gets_its_answer() -> None:
    answer = client(Engine(Echo())).ask()
    assert answer.status == 200
    assert answer.body == b"GET /"
    assert answer.ended
