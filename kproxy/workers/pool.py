"""All workers: to the control plane, they are the data plane.

The rules that keep it right:

1. Before anything is sent, the control process tries it on a data plane of its own that serves nobody
   (the rehearsal). So what can't be served is refused at once, as it is without workers; and it is the
   rehearsal that is asked what would become of a request.
2. All workers are told the same, in the same order (see `kproxy.workers.channel`); one that starts
   is told everything first, and accepts nothing before it has understood.
3. What is asked of workers is done when those have answered that were there. One that does not answer
   is killed: its clients lose their connections, and nobody waits for it any more.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from kproxy.config.model import Target
from kproxy.dataplane import DataPlane, TargetReport
from kproxy.explaining import Question
from kproxy.metrics.catalog import Measured
from kproxy.metrics.totals import Totals
from kproxy.snapshot import Snapshot
from kproxy.tree import WrapperFailed
from kproxy.workers.crew import Crew, Spawn, all_of
from kproxy.workers.delta import NotPlain, difference, dumps
from kproxy.workers.events import log_again
from kproxy.workers.frames import Message
from kproxy.workers.guests import Adopt, Guest
from kproxy.workers.member import ANSWER_LIMIT, Member
from kproxy.workers.shares import Shares

DRAIN_TIMEOUT = 30.0
"""Seconds that requests have if no service says otherwise."""


class Workers:
    """A number of workers, and what they serve.

    @ivar certificate_wanted: see `kproxy.dataplane.DataPlane`.
    @ivar target_refused: see there.
    @ivar crew: the workers; whoever only wants to know of their life asks there.
    @ivar secret: by which workers resume each other's TLS sessions.
    """

    certificate_wanted: Callable[[str], Deferred[None]]

    def __init__(
        self,
        count: int,
        rehearsal: DataPlane,
        spawn: Spawn,
        shares: Shares,
        clock: IReactorTime,
        write_lines: Callable[[str], object],
        tls_sockets: list[socket.socket],
        adopt: Adopt | None = None,
    ) -> None:
        """@param rehearsal: is told everything, and serves nobody.
        @param shares: with `kproxy.workers.crew.SLOTS` for each worker.
        @param write_lines: takes lines for the access log, each with its line feed.
        @param tls_sockets: what those that are spawned get; see `listen_tls`.
        @param adopt: connects to the workers of another program; see `inherit`."""
        self.target_refused: Callable[[str, Target], object] = lambda service, target: None
        self._rehearsal = rehearsal
        self._write_lines = write_lines
        self._tls_sockets = tls_sockets
        self._totals = Totals()
        self._snapshot = Snapshot()
        self.secret = os.urandom(32)
        self._adopt = adopt
        self._guests: tuple[Guest, ...] = ()
        self._measured_before: dict[str, Measured] = {}
        self.crew = Crew(
            count,
            spawn,
            shares,
            clock,
            self._listen,
            self._greet,
            self._totals.gone,
            self._drain_timeout,
        )

    # The data plane, as the control plane knows it.

    def apply(self, snapshot: Snapshot) -> Deferred[None]:
        """See `kproxy.dataplane.DataPlane.apply`.

        @return: fires when every worker that accepts connections serves it.
        @raise WrapperFailed: a wrapper does not take its options; nothing has changed then.
        """
        before = self._snapshot
        self._rehearsal.apply(snapshot)
        try:
            load = dumps(difference(before, snapshot))
        except NotPlain as error:
            self._rehearsal.apply(before)
            raise WrapperFailed(str(error)) from error
        self._snapshot = snapshot
        told = [
            (member.in_use(), member.asked(ANSWER_LIMIT, "apply", load))
            for member in list(self.crew.members)
        ]
        # One that has just begun serves nobody who could notice.
        return all_of(answer for in_use, answer in told if in_use)

    def drain(self, service: str, targets: Iterable[Target], timeout: float) -> Deferred[None]:
        """See `kproxy.dataplane.DataPlane.drain`."""
        targets = list(targets)
        self._rehearsal.drain(service, targets, 0.0)  # it has nothing to drain, but to forget
        addresses = [[target.host, target.port] for target in targets]
        fields: dict[str, Any] = {"service": service, "targets": addresses, "timeout": timeout}
        limit = timeout + ANSWER_LIMIT
        return all_of(member.asked(limit, "drain", **fields) for member in self.crew.in_use())

    def report(self) -> dict[str, list[TargetReport]]:
        """See `kproxy.dataplane.DataPlane.report`; as of the last `refresh`."""
        counts: dict[str, dict[tuple[bool, str], int]] = {
            name: dict.fromkeys(((each.draining, each.address) for each in reports), 0)
            for name, reports in self._rehearsal.report().items()
        }
        for member in self.crew.members:
            for name, reports in member.reports.items():
                targets = counts.setdefault(name, {})
                for address, active, draining in reports:
                    # One that is not served any more, but was when the worker was asked.
                    key = (draining or (False, address) not in targets, address)
                    targets[key] = targets.get(key, 0) + active
        return {
            name: [
                TargetReport(address, active, draining)
                for (draining, address), active in sorted(
                    targets.items(), key=lambda item: item[0][0]
                )
            ]
            for name, targets in counts.items()
        }

    def refresh(self) -> Deferred[None]:
        """Ask the workers what their targets are doing.

        @return: fires when `report` tells that.
        """

        def ask(member: Member) -> Deferred[None]:
            answer = member.asked(ANSWER_LIMIT, "report")
            return answer.addCallback(lambda reports: setattr(member, "reports", reports or {}))

        return all_of(map(ask, self.crew.in_use()))

    def measure(self) -> Deferred[Measured]:
        """See `kproxy.dataplane.DataPlane.measure`: of all workers there are, and have been.

        @return: fires when they have answered.
        """

        def ask(member: Member) -> Deferred[None]:
            return member.asked(ANSWER_LIMIT, "measure").addCallback(told, member)

        def told(measured: Measured | None, member: Member) -> None:
            if measured is not None:  # else it has ended, and what was known of it is kept
                self._totals.update(member, measured)

        measured = all_of(map(ask, self.crew.in_use()))
        return measured.addCallback(lambda _: self._totals.total())

    def explain(self, question: Question) -> Deferred[dict[str, Any]]:
        """See `kproxy.dataplane.DataPlane.explain`."""
        return self._rehearsal.explain(question)

    # Where clients come in (`kproxy.front.Front`).

    def start(self) -> None:
        """Start the workers; they accept connections as soon as they are up."""
        self.crew.start(self._guests, self._adopt)

    def inherit(
        self,
        guests: Sequence[Guest],
        counted: Measured,
        measured: Mapping[str, Measured],
        secret: bytes = b"",
    ) -> None:
        """Go on where another program was that ran in this process; before the start.

        @param guests: its workers, which serve until fresh ones have taken over.
        @param counted: what others of its workers had counted, which have ended.
        @param measured: what its workers measured when they were last asked, by their process ids.
        @param secret: what it had; empty: nothing.
        """
        self.secret = secret or self.secret
        self._guests = tuple(guests)
        self._measured_before = dict(measured)
        self._totals.inherit(counted)

    def counted(self) -> Measured:
        """What workers that have ended had counted."""
        return self._totals.kept()

    def last_measured(self) -> dict[str, Measured]:
        """What each worker measured when it was last asked, by its process id."""
        members = self.crew.members
        return {str(member.process.pid): self._totals.last(member) for member in members}

    def rehearse(self) -> Deferred[None]:
        """Let one worker start, which is told all there is, and never accepts a connection.

        @return: fires when it has understood; fails with `kproxy.workers.crew.NotRestarted`.
        """
        return self.crew.rehearse()

    def listen_tls(self, sock: socket.socket) -> None:
        """Accept from one more socket, too, with TLS. Only fresh workers can: if there are any
        already, others take over."""
        self._tls_sockets.append(sock)
        self.crew.renew()

    def stop(self, timeout: float) -> Deferred[None]:
        """Let the workers finish their requests, and end; see `kproxy.workers.crew.Crew.stop`."""
        return self.crew.stop(timeout).addCallback(lambda _: self._rehearsal.stop())

    # Private.

    def _listen(self, member: Member) -> None:
        """Do what a worker asks for."""
        pid = member.process.pid
        self._totals.update(member, self._measured_before.pop(str(pid), {}))
        member.channel.handlers = {
            "failed": lambda message, load: member.failed(message["error"]),
            "lines": lambda message, load: self._write_lines(load.decode("utf-8")),
            "event": lambda message, load: log_again(message, pid),
            "measured": lambda message, load: self._totals.update(member, message["measured"]),
            "certificate": self._certificate,
            "refused": self._refused,
        }

    def _greet(self, member: Member) -> Deferred[Any]:
        """Tell a new worker all there is.

        @return: fires when it has understood.
        """
        member.channel.tell("secret", self.secret)
        return member.ask(ANSWER_LIMIT, "apply", dumps(difference(Snapshot(), self._snapshot)))

    def _certificate(self, message: Message, load: bytes) -> Deferred[None]:
        return self.certificate_wanted(message["name"]).addCallback(lambda _: None)

    def _refused(self, message: Message, load: bytes) -> None:
        self.target_refused(message["service"], Target(message["host"], message["port"]))

    def _drain_timeout(self) -> float:
        """Seconds that requests have when workers are replaced."""
        services = self._snapshot.services
        return max((state.service.drain_timeout for state in services), default=DRAIN_TIMEOUT)
