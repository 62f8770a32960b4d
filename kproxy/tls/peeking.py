"""Listening for TLS on an asyncio loop.

The rules that keep it right:

1. The client's first words are looked at without being read (``MSG_PEEK``): the loop's own TLS, the
   fastest there is under uvloop, reads them from the socket again.
2. What is not read stays readable. So that the loop does not spin while the rest is on its way, the
   kernel is told how many bytes are worth waking up for (``SO_RCVLOWAT``). It wakes up nevertheless
   when the client leaves: readable, and nothing new.
3. The socket is ours until it is given to the loop, and never again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Any

from twisted.logger import Logger

from kproxy.sockets import HIGH_WATER, RETRY
from kproxy.tls.alerts import TLSAlert
from kproxy.tls.clienthello import MOST
from kproxy.tls.greeting import Greeting
from kproxy.tls.server import GOODBYE_LIMIT, TLSServer, Welcome

AT_ONCE = 64
"""Connections that are accepted before others have their turn."""
UNREAD = 64 * 1024
"""Bytes that are taken from a client before it is sent away."""

_log = Logger()


class PeekingListener:
    """Accepts connections, and looks at what they say."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, server: TLSServer
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._server = server
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None
        self._tls_options = _tls_options(loop)

    def resume(self) -> None:
        if not self._accepting and self._sock.fileno() >= 0:
            self._accepting = True
            self._loop.add_reader(self._sock, self._accept)

    def pause(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._sock)

    def close(self) -> None:
        self.pause()
        self._sock.close()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if not self._accepting:  # one of those that came was the last for now
                return
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
            PeekedGreeting(self._loop, sock, self._server, self._tls_options).begin()


def _tls_options(loop: asyncio.AbstractEventLoop) -> dict[str, float]:
    """Options of the loop's TLS; the standard library's own loop lacks one before Python 3.11."""
    if isinstance(loop, asyncio.BaseEventLoop) and sys.version_info < (3, 11):
        return {}
    return {"ssl_shutdown_timeout": GOODBYE_LIMIT}


class PeekedGreeting(Greeting):
    """One connection that has been accepted."""

    __slots__ = ("_loop", "_low_water", "_seen", "_sock", "_task", "_tls_options", "_watched")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        server: TLSServer,
        tls_options: dict[str, float],
    ) -> None:
        super().__init__(server)
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._tls_options = tls_options
        self._seen = 0
        self._low_water = 1
        self._watched = False
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        super().begin()
        self._peek()

    def _peek(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(MOST, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            self._watch()
            return
        except OSError:
            self.abort()
            return
        if len(data) <= self._seen:
            self.abort()  # the client has left
            return
        self._seen = len(data)
        needed = self.look(data)
        if not self._ended and self._task is None:
            # While a certificate is waited for, only the client's end is news.
            self._set_low_water(max(needed, self._seen + 1))
            self._watch()

    def _watch(self) -> None:
        if not self._watched and self._sock is not None:
            self._watched = True
            self._loop.add_reader(self._sock, self._peek)

    def _unwatch(self) -> None:
        if self._watched and self._sock is not None:
            self._watched = False
            self._loop.remove_reader(self._sock)

    def _set_low_water(self, count: int) -> None:
        if count != self._low_water and self._sock is not None:
            self._low_water = count
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def go_on(self, welcome: Welcome) -> None:
        self._unwatch()
        self._set_low_water(1)
        self._task = self._loop.create_task(self._give_away(welcome))
        self._task.add_done_callback(self._given_away)

    async def _give_away(self, welcome: Welcome) -> None:
        sock, self._sock = self._sock, None
        options: dict[str, Any] = {}
        if welcome.context is not None:
            options = {"ssl": welcome.context, **self._tls_options}
        connect = self._loop.connect_accepted_socket
        transport, _ = await connect(welcome.factory, sock, **options)  # type: ignore[arg-type]
        if welcome.context is not None:
            # What a slow client makes us hold is no more than without TLS.
            transport.set_write_buffer_limits(high=HIGH_WATER)

    def _given_away(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            error = task.exception()
            # Handshakes fail all day long, by what clients do: that is no news.
            if error is not None and not isinstance(error, OSError):
                _log.error("a handshake failed: {error!r}", error=error)
        self._close()

    def turn_away(self, alert: TLSAlert) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):
                # What is unread when a socket is closed resets the connection, alert and all.
                self._sock.recv(UNREAD)
                self._sock.send(alert.record())
        self._close()

    def abort(self) -> None:
        if self._task is None:
            self._close()
        else:
            self._task.cancel()

    def _close(self) -> None:
        self._unwatch()
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self.end()
