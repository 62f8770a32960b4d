"""Accepting from sockets that other workers accept from as well, so that each gets its share.

The kernel wakes all workers for a new connection, and whoever asks first gets it: by itself that is
often the same one, or the one that is busy least, which says nothing of how busy the connections will
keep it. So whoever has clearly more connections than another leaves a new one to the others for a
moment, and takes it only if none of them does.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Protocol

from twisted.logger import Logger

from kproxy.network import Listener, LoopNetwork, ProtocolFactory
from kproxy.sockets import RETRY
from kproxy.workers.shares import Shares

MOMENT = 0.002
"""Seconds that a new connection is left to others."""
_log = Logger()


class FairListener(Listener, Protocol):
    """A listener that takes turns."""

    def accept_now(self) -> None:
        """Take what waits, whoever's turn it is."""


class Turns:
    """Whether it is this worker's turn to accept, for all of its listeners.

    @ivar listeners: those that accept at present.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, shares: Shares, slot: int) -> None:
        self.listeners: set[FairListener] = set()
        self._loop = loop
        self._shares = shares
        self._slot = slot
        self._connections = 0
        self._timer: asyncio.TimerHandle | None = None

    def count(self, connections: int, accepting: bool) -> None:
        """So many connections there are now."""
        self._connections = connections
        if accepting:
            self._shares.say(self._slot, connections)
            if self._timer is not None and self._fair():
                self._go_on()
        else:
            self._shares.leave(self._slot)
            self._forget()

    def ours(self) -> bool:
        """Whether to accept now. If not, the listeners pause for a moment."""
        if self._timer is not None:
            return False
        if self._fair():
            return True
        for listener in self.listeners:
            listener.pause()
        self._timer = self._loop.call_later(MOMENT, self._go_on)
        return False

    def _fair(self) -> bool:
        """Whether one more would not be clearly more than another has. Where connections come and
        go, the numbers always differ a little: waiting for each other would cost more than it is
        worth."""
        least = self._shares.least()
        return self._connections <= least + max(2, least // 4)

    def _go_on(self) -> None:
        self._forget()
        for listener in list(self.listeners):
            listener.resume()
            listener.accept_now()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class FairNetwork(LoopNetwork):
    """A network whose listeners take turns."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: Turns) -> None:
        super().__init__(loop)
        self._turns = turns

    def listen(self, sock: socket.socket, factory: ProtocolFactory) -> Any:
        listener = OneByOne(self._loop, sock, factory, self._turns)
        self._turns.listeners.add(listener)
        listener.resume()
        return listener


class OneByOne:
    """Accepts one connection at a time, when it is its turn, and gives it to the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        factory: ProtocolFactory,
        turns: Turns,
    ) -> None:
        self._loop = loop
        self._watch = getattr(loop, "add_listener", loop.add_reader)  # see `kproxy.loop`
        self._unwatch = getattr(loop, "remove_listener", loop.remove_reader)
        self._sock = sock
        self._factory = factory
        self._turns = turns
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def resume(self) -> None:
        if not self._accepting and self._sock.fileno() >= 0:
            self._accepting = True
            self._watch(self._sock, self._readable)

    def pause(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._accepting:
            self._accepting = False
            self._unwatch(self._sock)

    def close(self) -> None:
        self.pause()
        self._turns.listeners.discard(self)
        self._sock.close()

    def _readable(self) -> None:
        if self._turns.ours():
            self.accept_now()

    def accept_now(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            _log.error("no connections are accepted for {s} s: {error}", s=RETRY, error=error)
            self.pause()
            self._retry = self._loop.call_later(RETRY, self.resume)
            return
        sock.setblocking(False)
        task = self._loop.create_task(self._serve(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, sock)
        except OSError:
            sock.close()  # it has gone meanwhile
