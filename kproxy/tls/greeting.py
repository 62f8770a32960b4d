"""A connection of the HTTPS port, from its first byte to the end of its handshake.

What the client says first is looked at before there is a TLS engine, so that a certificate can be
chosen, or waited for. To the site it is one of its connections, so that it counts, and can be closed.
Then a `TLSLayer` takes its place, or, where the client speaks plain HTTP, who answers that.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from kproxy.tls.alerts import TLSAlert
from kproxy.tls.clienthello import MOST, PlainHTTP, read_client_hello
from kproxy.tls.layer import TLSLayer

if TYPE_CHECKING:
    from kproxy.tls.server import TLSServer, Welcome


class Greeting(asyncio.Protocol):
    """The protocol of a connection that has no other one yet."""

    __slots__ = (
        "_closing",
        "_ended",
        "_hello",
        "_incoming",
        "_needed",
        "_outgoing",
        "_server",
        "_tls",
        "_transport",
        "_welcome",
    )

    _transport: Any
    _tls: ssl.SSLObject
    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO

    def __init__(self, server: TLSServer) -> None:
        self._server = server
        self._hello = b""
        self._needed = 1  # bytes of the hello, before there is more to learn of it; 0: it is read
        self._welcome: Welcome | None = None
        self._closing = False
        self._ended = False

    # What the transport tells.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._welcome is not None:
            self._incoming.write(data)
            self._shake_hands(self._welcome)
        elif not self._closing:
            self._hello += data
            if self._needed and len(self._hello) >= self._needed:
                self._look()
            elif len(self._hello) > MOST:
                self._transport.pause_reading()  # until there is a certificate

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._end()

    def _end(self, *, succeeded: bool = False) -> None:
        if not self._ended:
            self._ended = True
            self._server.closed(self, succeeded)

    # The choice.

    def _look(self) -> None:
        try:
            hello = read_client_hello(self._hello)
            if isinstance(hello, int):
                self._needed = hello
                return
            self._needed = 0
            welcome = self._server.welcome(hello)
        except PlainHTTP:
            self._give_to(self._server.plain_refusal(), self._hello)
            return
        except TLSAlert as alert:
            self._turn_away(alert.record())
            return
        if welcome is not None:
            self._welcomed(welcome)
            return
        self._server.handshakes.remove(self)  # it is not the client that takes this time
        later = self._server.welcome_later(hello)
        later.addBoth(self._waited)
        later.addCallbacks(self._welcomed, self._refused)

    def _waited(self, result: object) -> object:
        if not self._closing:
            self._server.handshakes.add(self)
            self._transport.resume_reading()
        return result

    def _welcomed(self, welcome: Welcome) -> None:
        if self._closing:
            return
        self._welcome = welcome
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = welcome.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(self._hello)
        self._hello = b""
        self._shake_hands(welcome)

    def _refused(self, failure: Failure) -> None:
        alert = failure.check(TLSAlert) and failure.value
        assert isinstance(alert, TLSAlert), failure
        if not self._closing:
            self._turn_away(alert.record())

    def _shake_hands(self, welcome: Welcome) -> None:
        """Go as far as what has come allows."""
        if self._closing:
            return
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._transport.write(self._outgoing.read())
        except ssl.SSLError:
            self._turn_away(self._outgoing.read())
        else:
            self._transport.write(self._outgoing.read())
            unread = self._incoming.read()
            between = self._tls, self._incoming, self._outgoing
            self._give_to(TLSLayer(self._server, *between, welcome.factory()), unread)

    def _give_to(self, protocol: Any, unread: bytes) -> None:
        """Let another protocol take over, with what it has to read first."""
        self._closing = True
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        # Not before the site knows the other: it would think that there is none left.
        self._end(succeeded=isinstance(protocol, TLSLayer))
        if unread:
            protocol.data_received(unread)

    def _turn_away(self, alert: bytes) -> None:
        """Tell the client why, and close."""
        self._closing = True
        self._transport.write(alert)
        self._transport.close()

    # What a site asks of its connections.

    def abort(self) -> None:
        """Cut the connection; nothing happens if it has ended."""
        self._closing = True
        self._transport.abort()

    def close_when_idle(self) -> None:
        """A client that has asked for nothing yet loses nothing."""
        self.abort()
