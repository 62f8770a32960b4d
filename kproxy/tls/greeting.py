"""A connection of the HTTPS port, from its beginning to the end of its handshake.

What is common to both ways of having TLS: that of asyncio's loops, where the client's first words are
looked at before the loop's own TLS reads them (`kproxy.tls.peeking`), and that of other reactors
(`kproxy.tls.layer`). To the site it is one of its connections, so that it counts, and can be closed.
"""

from __future__ import annotations

from twisted.python.failure import Failure

from kproxy.tls.alerts import TLSAlert
from kproxy.tls.clienthello import PlainHTTP, read_client_hello
from kproxy.tls.server import TLSServer, Welcome


class Greeting:
    """Subclasses define how bytes come, and what `go_on`, `turn_away` and `abort` do."""

    __slots__ = ("__weakref__", "_ended", "_server")

    def __init__(self, server: TLSServer) -> None:
        self._server = server
        self._ended = False

    def begin(self) -> None:
        """The time of the client is running from now on."""
        self._server.opened(self)

    def end(self) -> None:
        """There is a protocol that serves the client now, or it has been sent away."""
        if not self._ended:
            self._ended = True
            self._server.closed(self)

    def look(self, data: bytes) -> int:
        """Look at all that the client has sent.

        @return: how many bytes there must be to go on; 0: `go_on` or `turn_away` has been called,
            or will be.
        """
        try:
            hello = read_client_hello(data)
        except PlainHTTP:
            self.go_on(self._server.welcome_plain())
            return 0
        except TLSAlert as alert:
            self.turn_away(alert)
            return 0
        if isinstance(hello, int):
            return hello
        welcome = self._server.welcome(hello)
        if not welcome.called:
            self._server.handshakes.remove(self)  # it is not the client that takes this time
            welcome.addBoth(self._restart_clock)
        welcome.addCallbacks(self._welcomed, self._refused)
        return 0

    def _restart_clock(self, result: object) -> object:
        if not self._ended:
            self._server.handshakes.add(self)
        return result

    def _welcomed(self, welcome: Welcome) -> None:
        if not self._ended:
            self.go_on(welcome)

    def _refused(self, failure: Failure) -> None:
        alert = failure.check(TLSAlert) and failure.value
        assert isinstance(alert, TLSAlert), failure
        if not self._ended:
            self.turn_away(alert)

    def go_on(self, welcome: Welcome) -> None:
        """Do the handshake, and give the connection to its protocol."""
        raise NotImplementedError

    def turn_away(self, alert: TLSAlert) -> None:
        """Tell the client why, and close."""
        raise NotImplementedError

    # What a site asks of its connections.

    def abort(self) -> None:
        """Cut the connection; nothing happens if it has ended."""
        raise NotImplementedError

    def close_when_idle(self) -> None:
        """A client that has asked for nothing yet loses nothing."""
        self.abort()
