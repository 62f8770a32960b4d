"""Signals, as operations of the proxy."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

Action = Callable[[], object]

ENDS = (signal.SIGTERM, signal.SIGINT)
OTHERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def hold_signals() -> None:
    """Let signals wait until the next program of this process has its handlers; without them, they
    would end it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS + OTHERS)


def release_signals() -> None:
    """There is no next program."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS + OTHERS)


def end_on_signals(reactor: Any) -> None:
    """TERM and INT end with status 0; from before anybody can connect and take the proxy for
    running. Twisted's own handlers would end by the signal itself."""
    for number in ENDS:
        signal.signal(number, _in_reactor(reactor, reactor.stop))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)


def handle_signals(
    reactor: Any, reload: Action, reopen: Callable[[Any], object], restart: Action
) -> None:
    """The same again, in the place of those that Twisted has installed; HUP reloads, USR1 reopens
    logs, USR2 restarts.

    @param reopen: called with twistd's own handler of USR1.
    """
    if not getattr(reactor, "_installSignalHandlers", True):
        return
    end_on_signals(reactor)
    rotate = signal.getsignal(signal.SIGUSR1)
    for number, action in zip(OTHERS, (reload, lambda: reopen(rotate), restart), strict=True):
        signal.signal(number, _in_reactor(reactor, action))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OTHERS)


def _in_reactor(reactor: Any, action: Action) -> Callable[[int, Any], None]:
    """A signal handler: the action runs once the reactor is at rest."""
    return lambda number, frame: reactor.callFromThread(action)
