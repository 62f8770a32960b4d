"""What the control process and a worker say to each other.

The rules that both sides rely on:

1. What one side says comes to the other in this order. So a worker that is told to drain a target has
   heard of the snapshot without it before, and an answer that a worker waits for comes after the
   snapshots that were sent before the answer.
2. Every question is answered once, or fails with `ChannelLost` when the other side is gone.
3. A channel that is lost is lost: nobody connects again. But a control process that is replaced hands
   its ends on, with what it had not read, and not answered, yet (`Memory`); what it had asked is
   answered to nobody.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from kproxy.workers.frames import Decoder, Message, encode

Handler = Callable[[Message, bytes], Any]
"""Takes a message and its load; gives the answer, or a Deferred of it: what JSON can carry."""
_log = Logger()


class ChannelLost(Exception):
    """The other side is gone."""


class AnswerFailed(Exception):
    """The other side could not do what it was asked for; the text says why."""


class Memory(TypedDict):
    """What the next owner of an end has to know; JSON."""

    unread: str
    """The bytes of a message of which the rest is to come, in base 64."""
    said: int
    """How many messages have been sent."""
    unanswered: list[Message]
    """Questions, which have no load."""


class Channel(Protocol):
    """One end.

    @ivar handlers: what is done with messages, by their kind.
    @ivar lost: called once, when the other side is gone.
    @ivar said: how many messages have been sent.
    """

    transport: Any

    def __init__(self) -> None:
        self.handlers: Mapping[str, Handler] = {}
        self.lost: Callable[[], object] = lambda: None
        self.is_lost = False
        self.said = 0
        self._decoder = Decoder()
        self._asked: dict[int, Deferred[Any]] = {}
        self._unanswered: dict[int, Message] = {}

    def tell(self, kind: str, load: bytes = b"", **fields: Any) -> None:
        """Say something that needs no answer; after the end of the channel nobody hears it."""
        if not self.is_lost:
            self._say({"do": kind, **fields}, load)

    def ask(self, kind: str, load: bytes = b"", **fields: Any) -> Deferred[Any]:
        """Say something that is answered.

        @return: fires with the answer; fails with `AnswerFailed` or `ChannelLost`.
        """
        if self.is_lost:
            return fail(ChannelLost())
        answer: Deferred[Any] = Deferred()
        number = self.said + 1
        self._asked[number] = answer
        self._say({"do": kind, "id": number, **fields}, load)
        return answer

    def _say(self, message: Message, load: bytes = b"") -> None:
        self.said += 1
        self.transport.write(encode(message, load))

    def memory(self) -> Memory:
        """What whoever goes on with this end has to know."""
        unread = base64.b64encode(self._decoder.unread()).decode("ascii")
        return Memory(unread=unread, said=self.said, unanswered=list(self._unanswered.values()))

    def resume(self, memory: Memory) -> None:
        """Go on where another process was, which had this end. There are handlers already."""
        self.said = memory["said"]
        self.dataReceived(base64.b64decode(memory["unread"]))
        for message in memory["unanswered"]:
            self._take(message, b"")

    def close(self) -> None:
        """Say no more; what has been said still arrives."""
        if not self.is_lost:
            self.transport.loseConnection()

    def abort(self) -> None:
        """Be lost, whatever the other side does."""
        if not self.is_lost:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        for message, load in self._decoder.feed(data):
            if self.is_lost:  # what came before has ended it
                return
            if "re" in message:
                self._answered(message)
            else:
                self._take(message, load)

    def _answered(self, message: Message) -> None:
        answer = self._asked.pop(message["re"], None)
        if answer is None:
            return  # whoever asked has been replaced
        if "error" in message:
            answer.errback(AnswerFailed(message["error"]))
        else:
            answer.callback(message["value"])

    def _take(self, message: Message, load: bytes) -> None:
        number = message.get("id")
        done = maybeDeferred(lambda: self.handlers[message["do"]](message, load))
        if number is None:
            done.addErrback(lambda failure: _log.failure("a message broke", failure))
        else:
            self._unanswered[number] = message
            done.addCallbacks(self._answer, self._cannot, (number,), {}, (number,))

    def _answer(self, value: Any, number: int) -> None:
        self._end(number, {"re": number, "value": value})

    def _cannot(self, failure: Failure, number: int) -> None:
        error = failure.getErrorMessage() or type(failure.value).__name__
        self._end(number, {"re": number, "error": error})

    def _end(self, number: int, answer: Message) -> None:
        del self._unanswered[number]
        if not self.is_lost:
            self._say(answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_lost = True
        asked, self._asked = self._asked, {}
        # First, so that whoever has waited in vain does not count on the other side any more.
        self.lost()
        for answer in asked.values():
            answer.errback(ChannelLost())
