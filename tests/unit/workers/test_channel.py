"""What the control process and a worker say to each other."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel

from kproxy.workers.channel import AnswerFailed, Channel, ChannelLost
from kproxy.workers.frames import Decoder, encode
from tests.unit.control.support import Log
from tests.unit.workers.support import Pipe


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_messages_come_whole_in_whichever_pieces(size: int) -> None:
    messages = [({"do": "one", "text": "ü"}, b""), ({"do": "two"}, b"\0load" * 1000)]
    data = b"".join(encode(message, load) for message, load in messages)
    decoder = Decoder()
    pieces = [data[n : n + size] for n in range(0, len(data), size)]
    assert [found for piece in pieces for found in decoder.feed(piece)] == messages


def connected(**handlers: Any) -> tuple[Channel, Pipe]:
    """A channel to somebody who does this."""
    ours, theirs = Channel(), Channel()
    theirs.handlers = handlers
    return ours, Pipe(ours, theirs)


def outcome(waiting: Deferred[Any]) -> list[Any]:
    results: list[Any] = []
    waiting.addBoth(results.append)
    return results


def test_what_is_told_comes_with_its_load_in_its_order() -> None:
    heard: list[Any] = []
    channel, pipe = connected(
        one=lambda message, load: heard.append((message["x"], load)),
        two=lambda message, load: heard.append("two"),
    )
    channel.tell("one", b"bytes", x=1)
    channel.tell("two")
    pipe.flow()
    assert heard == [(1, b"bytes"), "two"]


def test_questions_are_answered_even_if_later_ones_are_answered_first() -> None:
    slow: Deferred[str] = Deferred()
    channel, pipe = connected(slow=lambda message, load: slow, quick=lambda message, load: {"n": 2})
    first, second = outcome(channel.ask("slow")), outcome(channel.ask("quick"))
    pipe.flow()
    pipe.flow()
    assert (first, second) == ([], [{"n": 2}])
    slow.callback("at last")
    pipe.flow()
    assert first == ["at last"]


def test_a_question_that_breaks_is_answered_with_the_reason() -> None:
    def breaks(message: Any, load: bytes) -> None:
        raise ValueError("it is too large")

    channel, pipe = connected(breaks=breaks)
    answer = outcome(channel.ask("breaks"))
    pipe.flow()
    pipe.flow()
    (failure,) = answer
    assert failure.check(AnswerFailed)
    assert failure.getErrorMessage() == "it is too large"


def test_what_a_later_version_says_and_this_one_does_not_know_costs_nothing() -> None:
    channel, pipe = connected(known=lambda message, load: "still here")
    with Log(LogLevel.critical) as log:
        channel.tell("news", b"of a kind")
        unknown, known = outcome(channel.ask("news")), outcome(channel.ask("known"))
        pipe.flow()
    assert unknown[0].check(AnswerFailed)
    assert known == ["still here"]
    assert [event["log_format"] for event in log.events] == ["a message broke"]


def test_when_the_other_side_is_gone_nobody_waits() -> None:
    never: Deferred[None] = Deferred()
    channel, pipe = connected(never=lambda message, load: never)
    lost: list[bool] = []
    channel.lost = lambda: lost.append(True)
    answer = outcome(channel.ask("never"))
    pipe.flow()
    pipe.cut()
    assert answer[0].check(ChannelLost)
    assert lost == [True]
    assert outcome(channel.ask("never"))[0].check(ChannelLost)
    channel.tell("never")
    channel.close()
    never.callback(None)
