"""The server of the admin interface: its connections, and how they end with the proxy."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.resource import IResource

from kproxy.control.answers import Answer

LAST_WORDS = 1.0
"""Seconds that clients have to read what they are told when the proxy ends."""


class _Channel(http.HTTPChannel):
    """A connection, which its site knows."""

    factory: AdminSite
    transport: Any

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.channels.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.factory.closed(self)


class AdminSite(server.Site):
    """The server of the interface; requests are not logged."""

    noisy = False
    protocol = _Channel  # type: ignore[assignment]

    def __init__(self, root: IResource) -> None:
        super().__init__(root)  # type: ignore[no-untyped-call]
        self.displayTracebacks = False
        self.channels: set[_Channel] = set()
        self.answers: set[Answer] = set()
        self._empty: Deferred[None] | None = None

    def closed(self, channel: _Channel) -> None:
        self.channels.discard(channel)
        if self._empty is not None and not self.channels:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def end(self, clock: IReactorTime) -> Deferred[None]:
        """Tell those who still wait that there is nothing to wait for, and close all connections.

        @return: fires when they are closed.
        """
        for answer in list(self.answers):
            answer.give_up("the proxy has stopped before it was done")
        if not self.channels:
            return succeed(None)
        for channel in list(self.channels):
            channel.loseConnection()  # type: ignore[no-untyped-call]
        self._empty = empty = Deferred[None]()
        timer = clock.callLater(LAST_WORDS, self._abort)
        return empty.addCallback(lambda _: timer.cancel() if timer.active() else None)

    def _abort(self) -> None:
        for channel in list(self.channels):
            channel.transport.abortConnection()

    def log(self, request: Any) -> None:
        """What is done is in the proxy's own log."""
