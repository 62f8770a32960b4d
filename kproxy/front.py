"""Where clients come in: the listening sockets of one process, its limit of connections, its end."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kproxy.dataplane import DataPlane
from kproxy.network import Listener, Network

RESERVED_DESCRIPTORS = 64
"""For logs, temporary files, health checks and whatever libraries open."""

_log = Logger()


def connection_limit() -> int:
    """How many clients this process can serve: each may need two descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(16, (hard - RESERVED_DESCRIPTORS) // 2)


class Front:
    """Gives the connections of some sockets, which it takes over, to a data plane.

    @param most: connections; past them new ones wait in the backlog, and existing ones work on.
    @param counted: hears how many connections there are, and whether any more are accepted.
    """

    def __init__(
        self,
        data_plane: DataPlane,
        network: Network,
        clock: IReactorTime,
        most: int,
        sockets: Iterable[socket.socket],
        tls_sockets: Iterable[socket.socket] = (),
        counted: Callable[[int, bool], object] = lambda count, accepting: None,
    ) -> None:
        self._data_plane = data_plane
        self._network = network
        self._clock = clock
        self._most = most
        self._sockets = sockets
        self._tls_sockets = tls_sockets
        self._counted = counted
        self._listeners: list[Listener] = []
        self._accepting = True

    def start(self) -> None:
        """Accept connections."""
        site = self._data_plane.site
        site.connections_changed = self._mind_the_limit
        plain = site.factory(secure=False)
        self._listeners += [self._network.listen(sock, plain) for sock in self._sockets]
        for sock in self._tls_sockets:
            self.listen_tls(sock)
        self._mind_the_limit()

    def listen_tls(self, sock: socket.socket) -> None:
        """Accept connections of one more socket, too, with TLS."""
        listener = self._network.listen(sock, self._data_plane.tls.greet)
        self._listeners.append(listener)
        if not self._accepting:
            listener.pause()

    def _mind_the_limit(self) -> None:
        count = len(self._data_plane.site.connections)
        accepting = count < self._most
        if accepting != self._accepting:
            self._accepting = accepting
            if not accepting:
                _log.warn("{count} connections are open: no more", count=self._most)
            for listener in self._listeners:
                (listener.resume if accepting else listener.pause)()
        self._counted(count, accepting)

    def stop(self, timeout: float, grace: float = 0.0) -> Deferred[None]:
        """Accept no more, and let requests finish.

        @param timeout: seconds, after which those that are left are cut.
        @param grace: seconds that clients have to use an idle connection once more, and to hear with
            the answer that it was the last time. Closed at once, it may be just when they ask.
        @return: fires when there is no connection any more, and the data plane has let go of all.
        """
        site = self._data_plane.site
        site.connections_changed = _nothing
        for listener in self._listeners:
            listener.close()
        self._counted(len(site.connections), False)
        _log.info(
            "stopping; {count} connections are open, and have {timeout:g} s",
            count=len(site.connections),
            timeout=timeout,
        )
        done: Deferred[None] = Deferred()
        cut = self._clock.callLater(timeout, site.abort_all)
        patience = self._clock.callLater(min(grace, timeout), lambda: close_idle())

        def only_the_last() -> None:
            if not site.connections:
                close_idle()

        def close_idle() -> None:
            site.connections_changed = _nothing
            if patience.active():
                patience.cancel()
            site.drain().addCallback(stopped)

        def stopped(_: object) -> None:
            if cut.active():
                cut.cancel()
            self._data_plane.stop()
            done.callback(None)

        if grace and site.connections:
            site.draining = True
            site.connections_changed = only_the_last
        else:
            close_idle()
        return done


def _nothing() -> None:
    pass
