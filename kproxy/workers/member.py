"""One worker, as the control process knows it."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from kproxy.workers.channel import AnswerFailed, Channel, ChannelLost

START_LIMIT = 30.0
"""Seconds that a worker may take to come up."""
ANSWER_LIMIT = 10.0
"""Seconds that a worker may take to answer."""
LAST_CHANCE = 0.2
"""More seconds, in which this process reads what has come."""
CUT_AFTER = 1.0
"""Seconds for the channel of a process that is killed to end by itself, with what has been said."""


class Process(Protocol):
    """See `kproxy.workers.spawning.Process`."""

    pid: int

    def kill(self) -> None: ...
    def end(self) -> str | None: ...


class Member:
    """One worker.

    @param started: by the clock.
    @ivar ready: fires when it has understood what is to be served; fails if it never will.
    @ivar accepts: whether it has been told to accept connections.
    @ivar serves: whether it does accept.
    @ivar leaves: whether it has been told to end.
    @ivar stands_in: whether another one has to take its place when it ends.
    @ivar reports: what its targets were doing when it was last asked.
    @ivar why: what it was killed for; empty: it was not.
    @ivar guest: whether it was started by the program which this process ran before (see
        `kproxy.succession`), and may be of another version.
    """

    def __init__(
        self, process: Process, channel: Channel, slot: int, clock: IReactorTime, started: float
    ) -> None:
        self.process = process
        self.channel = channel
        self.slot = slot
        self.started = started
        self.ready: Deferred[None] = Deferred()
        self.accepts = False
        self.serves = False
        self.leaves = False
        self.stands_in = False
        self.reports: dict[str, list[Any]] = {}
        self.why = ""
        self.guest = False
        self._clock = clock
        self._overdue: IDelayedCall | None = None
        self._cut: IDelayedCall | None = None

    def in_use(self) -> bool:
        """Whether clients have connections to it."""
        return self.accepts or self.leaves

    def state(self) -> str:
        """``starting``, ``serving`` or ``leaving``, for people."""
        if self.leaves:
            return "leaving"
        return "serving" if self.serves else "starting"

    def describe(self, now: float) -> dict[str, Any]:
        """The worker as plain data."""
        seconds = int(now - self.started)
        return {"pid": self.process.pid, "state": self.state(), "seconds": seconds}

    def failed(self, why: str) -> None:
        """It is of no use. Nobody waits for it any longer, even if its end is not noticed."""
        self.why = self.why or why
        if self._cut is None and not self.channel.is_lost:
            self._cut = self._clock.callLater(CUT_AFTER, self.channel.abort)
        self.process.kill()

    def leave(self, timeout: float, grace: float) -> None:
        """Tell it to end.

        @param timeout: seconds that its requests have.
        @param grace: see `kproxy.front.Front.stop`.
        """
        if not self.leaves:
            self.leaves = True
            self.channel.tell("leave", timeout=timeout, grace=grace)
            limit = max(timeout, grace) + ANSWER_LIMIT
            self._overdue = self._clock.callLater(limit, self.failed, "it did not end")

    def be_a_guest(self, *, leaves: bool, limit: float) -> None:
        """It was here before, and serves what it was told then.

        @param leaves: whether it has been told to end.
        @param limit: seconds that it may take for that.
        """
        self.guest = self.accepts = self.serves = True
        self.leaves = leaves
        self.stands_in = not leaves
        self.ready.callback(None)
        if leaves:
            self._overdue = self._clock.callLater(limit, self.failed, "it did not end")

    def lost(self) -> None:
        """It is gone, or as good as gone."""
        for timer in (self._overdue, self._cut):
            if timer is not None and timer.active():
                timer.cancel()

    def ask(self, limit: float, kind: str, load: bytes = b"", **fields: Any) -> Deferred[Any]:
        """Ask it something; it is killed if it does not answer.

        @param limit: seconds that it may take, once it is up.
        @return: fires with the answer; fails with `AnswerFailed` or `ChannelLost`.
        """
        if not self.ready.called:
            limit = max(limit, START_LIMIT)
        timer = self._clock.callLater(limit, lambda: overdue())

        def overdue() -> None:
            # It may be this process that was stopped: then the answer is there, and not read yet.
            nonlocal timer
            timer = self._clock.callLater(LAST_CHANCE, give_up)

        def give_up() -> None:
            self.failed(f"it has not answered for {limit:g} s")

        def answered(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            return result

        return self.channel.ask(kind, load, **fields).addBoth(answered)

    def asked(self, limit: float, kind: str, load: bytes = b"", **fields: Any) -> Deferred[Any]:
        """The same; but whatever goes wrong costs it its life, and nobody else hears of it."""
        return self.ask(limit, kind, load, **fields).addErrback(self.unanswered)

    def unanswered(self, failure: Failure) -> None:
        """It could not do what it was asked for."""
        if failure.check(AnswerFailed):
            if self.guest:  # what has been said is not what its version understands: it leaves soon
                return
            self.failed(failure.getErrorMessage())
        else:
            failure.trap(ChannelLost)
