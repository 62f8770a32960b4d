"""A worker process: a data plane that does what the control process says."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogBeginner

from kproxy.config.model import Target
from kproxy.dataplane import DataPlane
from kproxy.front import Front, connection_limit
from kproxy.interfaces import IWrapperPlugin
from kproxy.metrics.catalog import Measured
from kproxy.metrics.counts import Counts
from kproxy.metrics.process import measure_process
from kproxy.metrics.totals import merged
from kproxy.network import LoopNetwork, network_of
from kproxy.plugins import find_wrappers
from kproxy.reactors import install_fastest_reactor
from kproxy.snapshot import Snapshot
from kproxy.threads import threads_of
from kproxy.workers.accepting import FairNetwork, Turns
from kproxy.workers.channel import Channel
from kproxy.workers.delta import loads, patched
from kproxy.workers.events import ChannelEvents
from kproxy.workers.frames import Message
from kproxy.workers.lines import ChannelLines, line_writer
from kproxy.workers.shares import Shares
from kproxy.workers.spawning import Orders, connect

ORPHAN_TIMEOUT = 30.0
"""Seconds that requests have without a control process, if no service says otherwise."""
_log = Logger()


class Worker:
    """What the control process tells, done.

    @param front: of this data plane.
    @param name: what metrics call this process.
    @param ended: called when nothing is left to do.
    """

    def __init__(
        self,
        channel: Channel,
        data_plane: DataPlane,
        front: Front,
        lines: ChannelLines,
        ended: Callable[[], object],
        name: str = "worker",
    ) -> None:
        self._channel = channel
        self._data_plane = data_plane
        self._front = front
        self._lines = lines
        self._ended = ended
        self._name = name
        self._snapshot = Snapshot()
        self._stopping = self._has_stopped = False
        data_plane.certificate_wanted = lambda name: channel.ask("certificate", name=name)
        data_plane.target_refused = self._target_refused
        channel.handlers = {
            "secret": lambda message, load: data_plane.tls.share_sessions(load),
            "apply": self._apply,
            "open": self._open,
            "drain": self._drain,
            "report": self._report,
            "measure": lambda message, load: self._measured(),
            "ping": lambda message, load: None,
            "leave": self._leave,
        }
        channel.lost = self._orphaned

    def _target_refused(self, service: str, target: Target) -> None:
        self._channel.tell("refused", service=service, host=target.host, port=target.port)

    def _apply(self, message: Message, load: bytes) -> None:
        snapshot = patched(self._snapshot, loads(load))
        if not self._has_stopped:
            self._data_plane.apply(snapshot)
        self._snapshot = snapshot

    def _open(self, message: Message, load: bytes) -> None:
        if self._stopping:
            return
        self._front.start()
        # What is there now stays: the collector need not look at it again and again.
        gc.freeze()
        gc.enable()

    def _drain(self, message: Message, load: bytes) -> Deferred[None]:
        targets = [Target(host, port) for host, port in message["targets"]]
        return self._data_plane.drain(message["service"], targets, message["timeout"])

    def _report(self, message: Message, load: bytes) -> dict[str, list[tuple[str, int, bool]]]:
        """Targets that have requests, or are drained; of thousands, mostly few."""
        busy = {}
        for name, reports in self._data_plane.report().items():
            told = [(r.address, r.active, r.draining) for r in reports if r.active or r.draining]
            if told:
                busy[name] = told
        return busy

    def _measured(self) -> Measured:
        return merged((self._data_plane.measure(), measure_process(self._name)))

    def _leave(self, message: Message, load: bytes) -> None:
        self.stop(message["timeout"], message["grace"])

    def terminate(self) -> None:
        """Somebody wants this process to end; its control process is told by its end."""
        services = self._snapshot.services
        timeout = max((s.service.drain_timeout for s in services), default=ORPHAN_TIMEOUT)
        self.stop(timeout)

    def _orphaned(self) -> None:
        if not self._stopping:
            _log.error("the control process is gone: requests may finish")
        self.terminate()

    def stop(self, timeout: float, grace: float = 0.0) -> None:
        """Finish what clients have asked for, and end."""
        if not self._stopping:
            self._stopping = True
            self._front.stop(timeout, grace).addCallback(self._stopped)

    def _stopped(self, _: object) -> None:
        self._has_stopped = True
        self._channel.tell("measured", measured=self._measured())
        self._lines.close()
        self._ended()


def main(orders: Orders) -> None:
    """Be a worker until the end. There is no reactor yet."""
    if orders["reactor"]:
        importlib.import_module(orders["reactor"]).install()
    else:
        install_fastest_reactor()
    from twisted.internet import reactor

    # Signals for the whole group of processes are the control process's to understand.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    channel = Channel()
    connect(reactor, orders["channel"], channel)
    globalLogBeginner.beginLoggingTo(
        [ChannelEvents(channel, reactor)], discardBuffer=True, redirectStandardIO=False
    )
    try:
        worker = assembled(reactor, channel, orders, find_wrappers())
    except Exception as error:
        channel.tell("failed", error=f"{type(error).__name__}: {error}")
        channel.close()
        channel.lost = lambda: _end(reactor)
    else:
        reactor_any: Any = reactor
        reactor_any.callWhenRunning(_handle_signals, reactor, worker)
    reactor.run()
    # Threads that write to a log which nobody reads need not keep the process.
    sys.stdout.flush()
    os._exit(0)


def assembled(
    reactor: Any, channel: Channel, orders: Orders, plugins: Mapping[str, IWrapperPlugin]
) -> Worker:
    """A worker, made of its parts."""
    in_thread, network = threads_of(reactor), network_of(reactor)
    counted: Callable[[int, bool], object] = lambda count, accepting: None  # noqa: E731
    if isinstance(network, LoopNetwork):
        loop = reactor._asyncioEventloop
        turns = Turns(loop, Shares(orders["shares"]), orders["slot"])
        network, counted = FairNetwork(loop, turns), turns.count
    lines = ChannelLines(
        reactor, channel, lambda: line_writer(reactor, in_thread, orders["access_log"])
    )
    counts = Counts() if orders["metrics"] else None
    data_plane = DataPlane(network, reactor, in_thread, plugins, lines.write, counts=counts)
    sockets, tls_sockets = (
        [socket.socket(fileno=number) for number in numbers]
        for numbers in (orders["sockets"], orders["tls_sockets"])
    )
    most = connection_limit()
    front = Front(data_plane, network, reactor, most, sockets, tls_sockets, counted)

    def ended() -> None:
        channel.lost = lambda: _end(reactor)
        if channel.is_lost:
            _end(reactor)
        channel.close()

    name = f"worker {orders['slot'] + 1}"
    return Worker(channel, data_plane, front, lines, ended, name)


def _handle_signals(reactor: Any, worker: Worker) -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(worker.terminate))


def _end(reactor: Any) -> None:
    if reactor.running:
        reactor.stop()
