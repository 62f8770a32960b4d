"""Starting worker processes, and hearing of their end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from twisted.internet.protocol import Factory

from kproxy.workers.boot import CODE, VARIABLE
from kproxy.workers.channel import Channel
from kproxy.workers.guests import Guest


class Orders(TypedDict):
    """What a worker has to know before it can listen to its channel. Numbers are descriptors."""

    path: list[str]
    """Where modules are imported from."""
    reactor: str
    """The module of the reactor; empty: the fastest."""
    channel: int
    sockets: list[int]
    tls_sockets: list[int]
    shares: int
    slot: int
    """Which of the shares is the worker's."""
    access_log: str | None
    """Where lines go when the control process is gone."""
    metrics: bool
    """Whether to count what metrics show."""


class Process:
    """One worker process."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid

    def kill(self) -> None:
        self._popen.kill()

    def end(self) -> str | None:
        """How it has ended, in words; None: it has not."""
        status = self._popen.poll()
        return None if status is None else _in_words(status)


class AdoptedProcess:
    """One that was started by the program which this process ran before; it is still a child of it.

    @param pid: its process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._how: str | None = None

    def kill(self) -> None:
        if self.end() is None:
            os.kill(self.pid, signal.SIGKILL)

    def end(self) -> str | None:
        """See `Process.end`."""
        if self._how is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._how = "unnoticed"
            else:
                self._how = _in_words(os.waitstatus_to_exitcode(status)) if pid else None
        return self._how


def _in_words(status: int) -> str:
    """@param status: as `subprocess` has it: a signal is negative."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


class _One(Factory):
    noisy = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def buildProtocol(self, addr: Any) -> Channel:
        return self._channel


def connect(reactor: Any, descriptor: int, channel: Channel) -> None:
    """Give a channel its end of a socket pair; the descriptor is taken over."""
    try:
        os.set_blocking(descriptor, False)
        reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, _One(channel))
    finally:
        os.close(descriptor)


class Spawner:
    """Starts workers that share some sockets.

    @param tls_sockets: there may be more of them for the next worker.
    @param metrics: whether workers count what metrics show.
    """

    def __init__(
        self,
        reactor: Any,
        sockets: Sequence[socket.socket],
        tls_sockets: Sequence[socket.socket],
        shares: int,
        access_log: Path | None,
        metrics: bool,
    ) -> None:
        self._reactor = reactor
        self._sockets = [sock.fileno() for sock in sockets]
        self._tls_sockets = tls_sockets
        self._shares = shares
        self._access_log = access_log
        self._metrics = metrics

    def spawn(self, slot: int, channel: Channel) -> Process:
        """Start a worker.

        @param channel: is connected to it.
        @raise OSError: the machine has no place for it.
        """
        tls_sockets = [sock.fileno() for sock in self._tls_sockets]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            orders = Orders(
                path=[os.path.abspath(path) for path in sys.path],
                reactor=_reactor_module(self._reactor),
                channel=theirs.fileno(),
                sockets=self._sockets,
                tls_sockets=tls_sockets,
                shares=self._shares,
                slot=slot,
                access_log=None if self._access_log is None else str(self._access_log),
                metrics=self._metrics,
            )
            popen = subprocess.Popen(
                [sys.executable, "-c", CODE, "kproxy worker"],
                env={**os.environ, VARIABLE: json.dumps(orders)},
                stdin=subprocess.DEVNULL,
                # Ctrl-C is for the control process, which tells the workers.
                start_new_session=True,
                pass_fds=(theirs.fileno(), *self._sockets, *tls_sockets, self._shares),
            )
            connect(self._reactor, ours.detach(), channel)
        return Process(popen)

    def adopt(self, guest: Guest, channel: Channel) -> AdoptedProcess:
        """Connect the channel to a worker that runs already."""
        connect(self._reactor, guest.descriptor, channel)
        return AdoptedProcess(guest.pid)


def _reactor_module(reactor: Any) -> str:
    if getattr(reactor, "_asyncioEventloop", None) is not None:
        return ""
    return type(reactor).__module__
