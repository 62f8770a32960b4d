"""What all connections of one engine share: the tree, the parser, the time limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web import server
from twisted.web.resource import IResource

from kproxy.http.deadlines import Deadlines
from kproxy.http.heads import HeadParser
from kproxy.http.http1 import HTTP1Connection


@dataclass(frozen=True)
class Limits:
    """Seconds that a client may take."""

    headers: float = 60.0
    """For the whole head of a request, and to begin the next on an idle connection."""
    stalled: float = 60.0
    """For the next bytes of a body, in either direction."""
    linger: float = 2.0
    """To read an answer that was given before the request had been read."""


class Site(server.Site):
    """Renders a tree of resources to HTTP/1 connections.

    @ivar resource: the tree; may be replaced at any time, requests already under way keep theirs.
    @ivar refusals: renders the requests that could not be read; `request.notes["refusal"]` says why.
    @ivar connections_changed: called whenever a connection comes or goes.
    """

    def __init__(
        self,
        resource: IResource,
        refusals: IResource,
        clock: IReactorTime,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(resource, reactor=clock)  # type: ignore[no-untyped-call]
        limits = limits or Limits()
        self.refusals = refusals
        self.clock = clock
        self.heads = HeadParser()
        self.draining = False
        self.connections: set[HTTP1Connection] = set()
        self.connections_changed: Callable[[], object] = _nothing
        self.waiting = Deadlines(clock, limits.headers, HTTP1Connection.head_overdue)
        self.stalled_reads = Deadlines(clock, limits.stalled, HTTP1Connection.body_overdue)
        self.stalled_writes = Deadlines(clock, limits.stalled, HTTP1Connection.write_overdue)
        self.lingering = Deadlines(clock, limits.linger, HTTP1Connection.abort)
        self._empty: list[Deferred[None]] = []

    def factory(self, secure: bool) -> Callable[[], HTTP1Connection]:
        """Makes the protocols of a listening port.

        @param secure: whether TLS lies under them.
        """
        return lambda: HTTP1Connection(self, secure)

    def opened(self, connection: HTTP1Connection) -> None:
        self.connections.add(connection)
        self.connections_changed()

    def closed(self, connection: HTTP1Connection) -> None:
        self.connections.discard(connection)
        for deadlines in (self.waiting, self.stalled_reads, self.stalled_writes, self.lingering):
            deadlines.remove(connection)
        self.connections_changed()
        if not self.connections:
            waiters, self._empty = self._empty, []
            for waiter in waiters:
                waiter.callback(None)

    def drain(self) -> Deferred[None]:
        """Close idle connections now and the others after their request.

        @return: fires when no connection is left.
        """
        self.draining = True
        done: Deferred[None] = Deferred()
        self._empty.append(done)
        for connection in list(self.connections):
            connection.close_when_idle()
        if not self.connections and done in self._empty:
            self._empty.remove(done)
            done.callback(None)
        return done

    def abort_all(self) -> None:
        """Cut every connection."""
        for connection in list(self.connections):
            connection.abort()

    def stop(self) -> None:
        for deadlines in (self.waiting, self.stalled_reads, self.stalled_writes, self.lingering):
            deadlines.stop()


def _nothing(*args: Any) -> None:
    pass
