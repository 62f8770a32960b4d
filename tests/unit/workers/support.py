"""Workers without processes: their ends of the channels, in memory, and how they end."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from kproxy.dataplane import DataPlane
from kproxy.plugins import WrapperPlugin, find_wrappers
from kproxy.snapshot import Snapshot
from kproxy.threads import at_once
from kproxy.workers.channel import Channel, Handler, Memory
from kproxy.workers.crew import SLOTS, Guest
from kproxy.workers.delta import loads, patched
from kproxy.workers.frames import Message
from kproxy.workers.pool import Workers
from kproxy.workers.shares import Shares, shared_memory


class End(StringTransport):
    """One end of a socket pair that is none."""

    def fileno(self) -> int:
        return 1000


class Pipe:
    """Two channels whose words reach each other when `flow` is called."""

    def __init__(self, ours: Channel, theirs: Channel) -> None:
        self.ends = (ours, theirs)
        self.transports = (End(), End())
        for channel, transport in zip(self.ends, self.transports, strict=True):
            channel.makeConnection(transport)  # type: ignore[no-untyped-call]
        self.cut_off = False

    def hand_on(self, ours: Channel) -> None:
        """Give our end to somebody else."""
        self.ends = (ours, self.ends[1])
        ours.makeConnection(self.transports[0])  # type: ignore[no-untyped-call]

    def flow(self) -> bool:
        """@return: whether anything was said."""
        moved = False
        for number in (0, 1):
            transport = self.transports[number]
            data = transport.value()
            transport.clear()  # type: ignore[no-untyped-call]
            if data and not self.cut_off:
                moved = True
                self.ends[1 - number].dataReceived(data)
        if not self.cut_off and any(transport.disconnecting for transport in self.transports):
            self.cut()
        return moved

    def cut(self) -> None:
        """One side is gone."""
        if not self.cut_off:
            self.cut_off = True
            for end in self.ends:
                end.connectionLost()


class FakeProcess:
    """A worker that does what it is told, at once, unless it is said to be stuck.

    @ivar said: the kinds of all messages, in their order.
    @ivar snapshot: what it has been told to serve.
    @ivar answers: the Deferreds or values that messages are answered with, by kind.
    @ivar immortal: whether nobody notices that it is killed.
    """

    def __init__(self, pid: int, slot: int, channel: Channel) -> None:
        self.pid = pid
        self.slot = slot
        self.said: list[str] = []
        self.messages: list[Message] = []
        self.secrets: list[bytes] = []
        self.snapshot = Snapshot()
        self.stuck = False
        self.killed = self.immortal = False
        self.ended: str | None = None
        self.answers: dict[str, Any] = {}
        self.channel = Channel()
        kinds = ("apply", "open", "drain", "report", "measure", "ping", "leave")
        self.channel.handlers = {kind: self._handler(kind) for kind in kinds}
        self.channel.handlers["secret"] = lambda message, load: self.secrets.append(load)
        self.pipe = Pipe(channel, self.channel)

    def _handler(self, kind: str) -> Handler:
        def take(message: Message, load: bytes) -> Any:
            self.said.append(kind)
            self.messages.append(message)
            if kind == "apply":
                self.snapshot = patched(self.snapshot, loads(load))
            answer = self.answers.get(kind)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return take

    def kill(self) -> None:
        self.killed = True
        if not self.immortal:
            self.die("by SIGKILL")

    def die(self, how: str = "by SIGKILL") -> None:
        if self.ended is None:
            self.ended = how
            self.pipe.cut()

    def end(self) -> str | None:
        return self.ended


def on_paper(guest: Guest) -> Memory:
    """What is written down of a channel, read again."""
    memory: Memory = json.loads(json.dumps(guest.memory))
    return memory


class Case:
    """`Workers` with processes that are none.

    @ivar spawned: all processes, those of the program before first.
    """

    def __init__(
        self, count: int = 2, answers: Mapping[str, Any] | None = None, before: Case | None = None
    ) -> None:
        """@param before: the program that this one takes the place of, and stops to live."""
        self.clock = Clock()
        self.lines: list[str] = []
        self.tls_sockets: list[socket.socket] = []
        self.spawned: list[FakeProcess] = []
        self.answers = dict(answers or {})
        self.cannot_spawn: OSError | None = None
        self.shares = Shares(shared_memory(SLOTS * count))
        network: Any = None
        # A wrapper that takes whatever it is given.
        lenient = WrapperPlugin("lenient", "Does nothing.", lambda resource, options: resource)
        plugins = {**find_wrappers(), "lenient": lenient}
        rehearsal = DataPlane(network, self.clock, at_once, plugins, lambda line: None)
        self.workers = Workers(
            count,
            rehearsal,
            self._spawn,
            self.shares,
            self.clock,
            self.lines.append,
            self.tls_sockets,
            self._adopt,
        )
        if before is not None:
            self.spawned += before.spawned
            guests = [replace(guest, memory=on_paper(guest)) for guest in before.guests()]
            counted = (before.workers.counted(), before.workers.last_measured())
            self.workers.inherit(guests, *json.loads(json.dumps(counted)))

    def guests(self) -> list[Guest]:
        """The workers, as another program gets them."""
        return self.workers.crew.guests()

    def _adopt(self, guest: Guest, channel: Channel) -> FakeProcess:
        (process,) = (process for process in self.spawned if process.pid == guest.pid)
        process.pipe.hand_on(channel)
        return process

    def _spawn(self, slot: int, channel: Channel) -> FakeProcess:
        if self.cannot_spawn is not None:
            raise self.cannot_spawn
        process = FakeProcess(100 + len(self.spawned), slot, channel)
        process.answers = dict(self.answers)
        self.spawned.append(process)
        return process

    def flow(self) -> None:
        """Let everybody hear what was said, and answer."""
        moved = True
        while moved:
            heard = [p.pipe.flow() for p in self.spawned if not p.stuck and p.ended is None]
            moved = any(heard)

    def start(self) -> None:
        self.workers.start()
        self.flow()

    def pass_time(self, seconds: float) -> None:
        """In steps, between which everybody is heard."""
        for _ in range(int(seconds * 10)):
            self.clock.advance(0.1)
            self.flow()

    def alive(self) -> list[FakeProcess]:
        return [process for process in self.spawned if process.ended is None]
