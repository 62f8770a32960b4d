"""The life of workers: so many there should be, and whichever ends is replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, FirstError, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from kproxy.control.deployment import OperationFailed
from kproxy.control.drains import shielded
from kproxy.workers.channel import Channel
from kproxy.workers.guests import Adopt, Guest
from kproxy.workers.member import ANSWER_LIMIT, Member, Process
from kproxy.workers.pace import Pace
from kproxy.workers.shares import Shares

END_LIMIT = 1.0
"""Seconds that a process may outlive its channel."""
PING_EVERY = 5.0
"""Seconds from one look whether the workers still answer to the next."""
RENEW_AFTER = 10.0
"""Seconds until workers that could not be replaced are tried to be again."""
GRACE = 5.0
"""Seconds that the clients of a worker that is replaced have to use an idle connection once more."""
A_MOMENT = 0.02
"""Seconds from one look whether all is quiet to the next."""
SLOTS = 4
"""How many processes there may be for each worker: those that are replaced may linger."""
NO_SLOT = -1
"""Of a guest for which there is none."""

_log = Logger()

Spawn = Callable[[int, Channel], Process]
"""(slot, channel): start a worker and connect the channel to it; may raise `OSError`."""


class NotRestarted(OperationFailed):
    """The old workers go on; the text says why."""


class Crew:
    """A number of workers, replaced when they end.

    @param listen: lets one be heard.
    @param greet: tells a new one what there is; gives a Deferred that fires when it has understood.
    @param lost: called when one is gone.
    @param drain_timeout: gives the seconds that requests have when workers are replaced.
    @ivar members: all there are.
    @ivar replaced: how many have been started in the place of one that had ended.
    @ivar restarted: how many have taken over from others.
    """

    def __init__(
        self,
        count: int,
        spawn: Spawn,
        shares: Shares,
        clock: IReactorTime,
        listen: Callable[[Member], object],
        greet: Callable[[Member], Deferred[Any]],
        lost: Callable[[Member], object],
        drain_timeout: Callable[[], float],
    ) -> None:
        """@param shares: with `SLOTS` for each worker."""
        self.members: list[Member] = []
        self.replaced = self.restarted = 0
        self._count = count
        self._spawn = spawn
        self._shares = shares
        self._clock = clock
        self._listen = listen
        self._greet = greet
        self._lost_one = lost
        self._drain_timeout = drain_timeout
        self._ending: set[Member] = set()
        self._free = list(range(SLOTS * count))
        self._missing: list[IDelayedCall] = []
        self._ping: IDelayedCall | None = None
        self._renewal: IDelayedCall | None = None
        self._pace = Pace()
        self._restarting = False
        self._waiting: list[Deferred[None]] = []
        self._ended: Deferred[None] | None = None

    def in_use(self) -> list[Member]:
        """Those that clients have connections to."""
        return [member for member in self.members if member.in_use()]

    def describe(self) -> list[dict[str, Any]]:
        """Each worker, as plain data."""
        now = self._clock.seconds()
        return [member.describe(now) for member in self.members]

    def trouble(self) -> str:
        """What keeps workers from coming up, in words; empty: nothing."""
        if not (self._missing and self._pace.is_slow()):
            return ""
        return f"{len(self._missing)} of {self._count} workers are missing: they do not stay up"

    # The beginning.

    def start(self, guests: Sequence[Guest] = (), adopt: Adopt | None = None) -> None:
        """Start them; they accept connections as soon as they are up.

        @param guests: serve until then.
        """
        if adopt is None or not guests:
            for _ in range(self._count):
                self._replace()
        else:
            for guest in guests:
                self._welcome(guest, adopt)
            self._renewal = self._clock.callLater(0, self._renew)
        self._ping = self._clock.callLater(PING_EVERY, self._look)

    def _welcome(self, guest: Guest, adopt: Adopt) -> None:
        channel = Channel()
        process = adopt(guest, channel)
        # Some are left for those that take over, however many guests there are.
        has_place = guest.slot in self._free and len(self._free) > self._count
        slot = guest.slot if has_place else NO_SLOT
        if has_place:
            self._free.remove(slot)
        started = self._clock.seconds() - guest.seconds
        member = Member(process, channel, slot, self._clock, started)
        limit = self._drain_timeout() + ANSWER_LIMIT
        member.be_a_guest(leaves=guest.state != "serving", limit=limit)
        self._join(member)
        channel.resume(guest.memory)
        if guest.state == "starting":
            member.failed("")  # whoever waited for it has been replaced

    def rehearse(self) -> Deferred[None]:
        """Start one that is told all there is, and never accepts a connection.

        @return: fires when it has understood; fails with `NotRestarted` if it never will.
        """
        try:
            member = self._member()
        except OSError as error:
            return fail(NotRestarted(f"no worker can be started: {error}"))
        member.leaves = True  # nobody is to be told of its end
        return member.ready.addBoth(_killed, member)

    def _join(self, member: Member) -> None:
        member.channel.lost = lambda: self._lost(member)
        self.members.append(member)
        self._listen(member)

    def guests(self) -> list[Guest]:
        """The workers, for another program in this process; see `quiet`."""
        now = self._clock.seconds()
        return [
            Guest(
                member.process.pid,
                member.channel.transport.fileno(),
                member.slot,
                now - member.started,
                member.state(),
                member.channel.memory(),
            )
            for member in self.members
        ]

    async def quiet(self) -> None:
        """Wait until the workers have heard all that was said to them, and none is taking over or
        ending. That holds until the reactor goes on.

        @raise NotRestarted: all are to end, and no other program is to have them.
        """
        while True:
            members = list(self.members)
            answers = [member.asked(ANSWER_LIMIT, "ping") for member in members]
            said = [member.channel.said for member in members]
            await all_of(answers)
            if self._ended is not None:
                raise NotRestarted("the workers are being stopped")
            now = [member.channel.said for member in self.members]
            if members == self.members and said == now and not (self._ending or self._restarting):
                return
            await deferLater(self._clock, A_MOMENT)

    def _replace(self) -> None:
        """Start one more, which accepts as soon as it can."""
        try:
            member = self._member()
        except OSError as error:
            _log.error("no worker can be started: {error}", error=error)
            self._replace_later(0.0)
            return
        member.stands_in = True
        member.ready.addCallbacks(lambda _: self._open(member), lambda _: None)

    def _member(self) -> Member:
        """A new worker, which is told all there is.

        @raise OSError: it can't be started.
        """
        channel = Channel()
        if not self._free:
            raise OSError("too many workers have not ended yet")
        slot = self._free.pop(0)
        try:
            process = self._spawn(slot, channel)
        except OSError:
            self._free.append(slot)
            raise
        member = Member(process, channel, slot, self._clock, self._clock.seconds())
        self._join(member)
        self._greet(member).addCallbacks(member.ready.callback, member.unanswered)
        return member

    def _open(self, member: Member) -> Deferred[None]:
        """Let a worker accept connections.

        @return: fires when it does.
        """
        member.accepts = True
        opened = member.asked(ANSWER_LIMIT, "open")
        return opened.addCallback(lambda _: setattr(member, "serves", True))

    def _look(self) -> None:
        self._ping = self._clock.callLater(PING_EVERY, self._look)
        for member in self.members:
            if member.accepts and not member.leaves:
                member.asked(ANSWER_LIMIT, "ping")

    # Others in their place.

    def renew(self) -> None:
        """Let fresh workers take over, if there are any already; tried until it succeeds."""
        if self._ping is not None and self._renewal is None:
            self._renewal = self._clock.callLater(0, self._renew)

    def renewed(self) -> Deferred[None]:
        """Wait for fresh workers that are to take over.

        @return: fires when they have, or at once if there are none; fails with `NotRestarted` if
            they could not, and will be tried again.
        """
        if self._renewal is None and not self._restarting:
            return succeed(None)
        self._waiting.append(waiting := Deferred[None]())
        return waiting

    def _renew(self) -> None:
        self._renewal = None

        def failed(failure: Failure) -> None:
            failure.trap(NotRestarted)
            if self._ended is None:
                _log.error("{error}", error=failure.getErrorMessage())
                self._renewal = self._clock.callLater(RENEW_AFTER, self._renew)

        self.restart().addErrback(failed)

    def restart(self) -> Deferred[None]:
        """Let fresh workers, with the code that is installed now, take the place of these.

        @return: fires when the new ones accept connections, and the old ones do not any more; fails
            with `NotRestarted`, and then everything is as it was.
        """
        if self._restarting or self._ended is not None:
            return fail(NotRestarted("the workers are being restarted or stopped already"))
        self._restarting = True
        fresh: list[Member] = []
        try:
            # Those that were started before one that can't be are in the list as well.
            fresh.extend(self._member() for _ in range(self._count))
        except OSError as error:
            all_ready: Deferred[Any] = fail(NotRestarted(f"no worker can be started: {error}"))
        else:
            ready = [member.ready for member in fresh]
            all_ready = DeferredList(ready, fireOnOneErrback=True, consumeErrors=True)

        def take_over(_: object) -> Deferred[None]:
            return all_of(map(self._open, fresh)).addCallback(part)

        def part(_: object) -> None:
            self._forget_missing()
            self._pace.reset()
            self.restarted += len(fresh)
            for member in [each for each in self.members if each not in fresh]:
                member.leave(self._drain_timeout(), GRACE)
            for member in fresh:  # one that has died since it was up has had no stand-in yet
                member.stands_in = True
                if member not in self.members and self._ended is None:
                    self._replace_later(self._clock.seconds() - member.started)
            _log.info("{count} fresh workers have taken over", count=len(fresh))

        def give_up(failure: Failure) -> None:
            for member in fresh:
                member.leaves = True
                member.failed("")
            if isinstance(failure.value, FirstError):
                failure = failure.value.subFailure
            reason = failure.getErrorMessage()
            raise NotRestarted(f"the old workers go on, since the new ones do not start: {reason}")

        def done(result: Any) -> Any:
            self._restarting = False
            self._tell_waiting(result)
            return result

        return all_ready.addCallbacks(take_over, give_up).addBoth(done)

    def _tell_waiting(self, result: Any) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(result)

    def _replace_later(self, lived: float) -> None:
        """Start one in the place of one that lived for so many seconds, at once if that is wise."""
        delay = self._pace.delay(lived)
        if delay:
            _log.error("workers do not stay up: the next starts in {delay:g} s", delay=delay)

        def replace() -> None:
            self._missing.remove(timer)
            self.replaced += 1
            self._replace()

        timer = self._clock.callLater(delay, replace)
        self._missing.append(timer)

    def _forget_missing(self) -> None:
        for timer in self._missing:
            timer.cancel()
        self._missing.clear()

    # The end.

    def stop(self, timeout: float) -> Deferred[None]:
        """Let the workers finish their requests, and end.

        @param timeout: seconds, after which the connections that are left are cut.
        @return: fires when all have ended.
        """
        for timer in (self._ping, self._renewal):
            if timer is not None:
                timer.cancel()
        self._ping = self._renewal = None
        self._tell_waiting(Failure(NotRestarted("the workers are being stopped")))
        self._forget_missing()
        ended = self._ended = Deferred()
        for member in list(self.members):
            member.leave(timeout, 0.0)
        self._end_if_alone()
        return ended

    def _lost(self, member: Member) -> None:
        """A worker is gone, or as good as gone."""
        self.members.remove(member)
        member.lost()
        self._lost_one(member)
        if member.slot != NO_SLOT:
            self._shares.leave(member.slot)
            self._free.append(member.slot)
        self._ending.add(member)
        self._reap(member, self._clock.seconds() + END_LIMIT)
        if not member.ready.called:
            member.ready.errback(NotRestarted(member.why or "it ended before it was up"))
        if self._ended is None and member.stands_in and not member.leaves:
            self._replace_later(self._clock.seconds() - member.started)

    def _reap(self, member: Member, limit: float) -> None:
        """Wait for the end of a process whose channel has ended."""
        how = member.process.end()
        if how is None:
            if self._clock.seconds() >= limit:
                member.process.kill()
            self._clock.callLater(0.01, self._reap, member, limit)
            return
        self._ending.discard(member)
        self._end_if_alone()
        if not member.leaves:
            why = f" ({member.why})" if member.why else ""
            _log.error(
                "worker {worker} has ended {how}{why}: its connections are lost",
                worker=member.process.pid,
                how=how,
                why=why,
            )

    def _end_if_alone(self) -> None:
        ended = self._ended
        if ended is not None and not ended.called and not self.members and not self._ending:
            ended.callback(None)


def _killed(result: Any, member: Member) -> Any:
    member.process.kill()
    return result


def all_of(waits: Iterable[Deferred[Any]]) -> Deferred[None]:
    """Fires when all have; cancelling it only ends the waiting."""
    return shielded(DeferredList(list(waits)).addCallback(lambda _: None))
