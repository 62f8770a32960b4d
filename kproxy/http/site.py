"""What all connections of one engine share: the tree, the parser, the time limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import methodcaller
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web import server
from twisted.web.resource import IResource

from kproxy.http.deadlines import Deadlines
from kproxy.http.heads import HeadParser
from kproxy.http.http1 import HTTP1Connection
from kproxy.http.http2 import HTTP2Connection
from kproxy.http.http2_heads import StreamHeadReader
from kproxy.http.http2_hpack import FieldEncodings
from kproxy.http.plain_refusal import PlainRefusal


@dataclass(frozen=True)
class Limits:
    """Seconds that a client may take."""

    headers: float = 60.0
    """For the whole head of a request, and to begin the next on an idle connection."""
    stalled: float = 60.0
    """For the next bytes of a body, in either direction."""
    linger: float = 2.0
    """To read an answer that was given before the request had been read."""


class ClientConnection(Protocol):
    """What a site asks of its connections, whatever they speak, or will speak."""

    def close_when_idle(self) -> None:
        """Close once what the client has asked for has been answered."""

    def abort(self) -> None:
        """Cut the connection now."""


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
        self.http2_heads = StreamHeadReader()
        self.http2_fields = FieldEncodings()
        self.draining = False
        self.connections: set[ClientConnection] = set()
        self.connections_changed: Callable[[], object] = _nothing
        self.waiting: Deadlines = Deadlines(clock, limits.headers, methodcaller("head_overdue"))
        self.stalled_reads: Deadlines = Deadlines(
            clock, limits.stalled, methodcaller("body_overdue")
        )
        self.stalled_writes: Deadlines = Deadlines(
            clock, limits.stalled, methodcaller("write_overdue")
        )
        self.lingering: Deadlines = Deadlines(clock, limits.linger, methodcaller("linger_overdue"))
        self._empty: list[Deferred[None]] = []

    def factory(self, secure: bool) -> Callable[[], HTTP1Connection]:
        """Makes the protocols of a listening port.

        @param secure: whether TLS lies under them.
        """
        return lambda: HTTP1Connection(self, secure)

    def tls_factory(self, alpn: str) -> Callable[[], Any]:
        """Makes the protocols of connections that have TLS under them.

        @param alpn: the protocol that both sides agreed on (RFC 7301); empty: they did not speak of it.
        """
        if alpn == "h2":
            return lambda: HTTP2Connection(self)
        return self.factory(secure=True)

    def plain_refusals(self) -> Callable[[], HTTP1Connection]:
        """Makes the protocols of clients that speak plain HTTP where TLS is spoken."""
        return lambda: PlainRefusal(self, secure=False)

    def opened(self, connection: ClientConnection) -> None:
        self.connections.add(connection)
        self.connections_changed()

    def closed(self, connection: ClientConnection) -> None:
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
