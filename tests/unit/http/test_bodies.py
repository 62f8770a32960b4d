"""The body of a request while it arrives: at the receiver's pace."""

from __future__ import annotations

import pytest

from kproxy.http.bodies import NO_BODY, BodyLost, ReceivedBody
from kproxy.http.chunked import BadChunk
from kproxy.http.heads import CHUNKED
from tests.unit.http.memory import Receiver


class Source:
    """The connection: what a body asks of it."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.gone = 0

    def want_body(self, wanted: bool) -> None:
        self.asked.append(wanted)

    def send_continue(self) -> None:
        self.asked.append("continue")

    def consumed(self, size: int) -> None:
        self.gone += size


def body(length: int, *, expects: bool = False) -> tuple[ReceivedBody, Source, Receiver]:
    source = Source()
    return ReceivedBody(source, length, expects), source, Receiver()


def test_no_body_ends_at_once_as_often_as_it_is_asked() -> None:
    for _ in range(2):
        receiver = Receiver()
        NO_BODY.start(receiver)
        assert receiver.ended == []
        assert receiver.data == b""
    assert (NO_BODY.length, NO_BODY.replayable) == (0, True)
    NO_BODY.pause()
    NO_BODY.resume()
    NO_BODY.stop()


def test_a_body_of_known_length_ends_where_it_should() -> None:
    received, _, receiver = body(5)
    received.start(receiver)
    assert received.feed(b"he") == b""
    assert receiver.ended is None
    assert received.feed(b"lloGET /") == b"GET /"
    assert receiver.pieces == [b"he", b"llo"]
    assert receiver.ended == []
    assert received.complete
    assert received.length == 5


def test_a_chunked_body_ends_with_its_trailers() -> None:
    received, _, receiver = body(CHUNKED)
    received.start(receiver)
    assert received.length is None
    assert received.feed(b"1\r\na\r\n2\r\nbc\r\n0\r\nX: y\r\n\r\nGET") == b"GET"
    assert receiver.pieces == [b"a", b"bc"]
    assert receiver.ended == [(b"X", b"y")]


def test_a_broken_chunked_body_is_an_error() -> None:
    received, _, receiver = body(CHUNKED)
    received.start(receiver)
    with pytest.raises(BadChunk):
        received.feed(b"1\r\nabc")


def test_what_comes_before_it_is_wanted_waits_and_the_source_is_told_to() -> None:
    received, source, receiver = body(5)
    received.feed(b"he")
    assert source.asked == [False]
    received.start(receiver)
    assert receiver.pieces == [b"he"]
    assert source.asked == [False, True]
    received.feed(b"llo")
    assert receiver.ended == []
    assert source.asked == [False, True]


def test_a_body_that_is_all_there_is_given_at_once_without_asking_for_more() -> None:
    received, source, receiver = body(5)
    received.feed(b"hello")
    received.start(receiver)
    assert receiver.data == b"hello"
    assert receiver.ended == []
    assert source.asked == []


def test_pausing_stops_the_source_with_the_next_piece_and_resuming_goes_on_in_order() -> None:
    received, source, receiver = body(6)
    received.start(receiver)
    source.asked.clear()
    received.pause()
    received.feed(b"ab")
    received.feed(b"cd")
    assert receiver.pieces == []
    assert source.asked == [False, False]
    received.resume()
    assert receiver.pieces == [b"ab", b"cd"]
    assert source.asked[-1] is True
    received.pause()
    received.feed(b"ef")
    assert receiver.ended is None
    received.resume()
    assert receiver.pieces == [b"ab", b"cd", b"ef"]
    assert receiver.ended == []


def test_a_receiver_that_pauses_at_each_piece_gets_one_for_each_resume() -> None:
    received, _, receiver = body(CHUNKED)
    receiver.on_data = lambda data: received.pause()
    received.start(receiver)
    received.feed(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")
    assert receiver.pieces == [b"a"]
    received.resume()
    assert receiver.pieces == [b"a", b"b"]
    received.resume()
    assert receiver.pieces == [b"a", b"b", b"c"]
    assert receiver.ended is None
    received.resume()
    assert receiver.ended == []


def test_a_receiver_may_pause_and_resume_while_it_is_given_a_piece() -> None:
    received, _, receiver = body(CHUNKED)

    def blink(data: bytes) -> None:
        received.pause()
        received.resume()

    receiver.on_data = blink
    received.start(receiver)
    received.feed(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")
    assert receiver.pieces == [b"a", b"b", b"c"]
    assert receiver.ended == []


def test_a_stopped_receiver_hears_nothing_more() -> None:
    received, _, receiver = body(CHUNKED)
    receiver.on_data = lambda data: received.stop()
    received.start(receiver)
    received.feed(b"1\r\na\r\n1\r\nb\r\n")
    received.feed(b"1\r\nc\r\n0\r\n\r\n")
    received.lose(BodyLost())
    assert receiver.pieces == [b"a"]
    assert receiver.ended is None
    assert receiver.lost is None


def test_a_stopped_body_may_be_resumed_by_somebody_who_does_not_know() -> None:
    received, _, receiver = body(10)
    received.start(receiver)
    received.stop()
    received.resume()
    received.feed(b"hello")
    assert receiver.pieces == []


def test_a_lost_body_says_why_once_and_gives_nothing_of_what_waited() -> None:
    received, _, receiver = body(5)
    received.start(receiver)
    received.pause()
    received.feed(b"he")
    reason = BodyLost("gone")
    received.lose(reason)
    received.lose(BodyLost("again"))
    received.resume()
    assert receiver.lost is reason
    assert receiver.pieces == []


def test_what_still_comes_of_a_lost_body_goes_nowhere() -> None:
    received, source, receiver = body(10)
    received.start(receiver)
    received.feed(b"he")
    received.lose(BodyLost())
    received.feed(b"llo")
    assert receiver.pieces == [b"he"]
    assert source.asked[-1] is False


def test_the_source_hears_of_what_is_held_no_longer() -> None:
    received, source, receiver = body(10)
    received.feed(b"he")
    assert source.gone == 0
    received.start(receiver)
    assert source.gone == 2
    received.pause()
    received.feed(b"llo")
    assert source.gone == 2
    received.stop()
    assert source.gone == 5


def test_a_body_is_taken_once() -> None:
    received, _, receiver = body(5)
    assert not received.replayable
    received.start(receiver)
    with pytest.raises(RuntimeError):
        received.start(Receiver())


def test_a_client_that_waits_hears_100_continue_when_the_body_is_wanted() -> None:
    received, source, receiver = body(5, expects=True)
    assert source.asked == []
    received.start(receiver)
    assert source.asked == ["continue", True]


def test_a_client_that_did_not_wait_hears_no_100_continue() -> None:
    received, source, receiver = body(5, expects=True)
    received.feed(b"h")
    received.start(receiver)
    assert "continue" not in source.asked
