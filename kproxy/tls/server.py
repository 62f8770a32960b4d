"""What is common to all connections of the HTTPS port: which certificate and protocol each one gets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kproxy.http.deadlines import Deadlines
from kproxy.snapshot import Certificate, Snapshot, TLSChallenge, TLSName
from kproxy.tls.alerts import (
    INTERNAL_ERROR,
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    TLSAlert,
)
from kproxy.tls.clienthello import ClientHello
from kproxy.tls.contexts import PROTOCOLS, Contexts, make_context
from kproxy.tls.greeting import Greeting
from kproxy.tls.layer import TLSLayer
from kproxy.tls.names import Names

if TYPE_CHECKING:
    from kproxy.http.http1 import HTTP1Connection
    from kproxy.http.site import Site

HANDSHAKE_LIMIT = 10.0
"""Seconds from the connection to the end of the handshake."""
ISSUANCE_LIMIT = 30.0
"""Seconds that a handshake waits for a certificate, on top of that."""
GOODBYE_LIMIT = 300.0
"""Seconds for what is left to be sent, and for the client's own end, once a connection is closed."""
ACME_TLS = "acme-tls/1"
"""The protocol by which a CA looks whether a name is ours (RFC 8737)."""

_ACME_TLS_ALONE = (ACME_TLS.encode(),)
_OFFERS = {protocol.encode(): protocol for protocol in PROTOCOLS}
_log = Logger()


class Welcome(NamedTuple):
    """How it goes on with a client that has said what it wants."""

    context: ssl.SSLContext
    factory: Callable[[], Any]
    """Makes the protocol for what the client sends then."""


class TLSServer:
    """Chooses by what the snapshot says.

    @ivar handshakes: the deadlines of the clients that have not finished their handshake.
    @ivar goodbyes: those of clients that have not closed since they were told the end.
    @ivar handshake_ended: called for each connection with whether its handshake succeeded.
    """

    handshake_ended: Callable[[bool], object]

    def __init__(
        self, site: Site, clock: IReactorTime, wanted: Callable[[str], Deferred[None]]
    ) -> None:
        """@param wanted: asks for a certificate; see `kproxy.dataplane.DataPlane`."""
        self.clock = clock
        self.handshakes = Deadlines(clock, HANDSHAKE_LIMIT, _overdue)
        self.goodbyes = Deadlines(clock, GOODBYE_LIMIT, _overdue)
        self.handshake_ended = _uncounted
        self._site = site
        self._wanted = wanted
        self._listed: tuple[tuple[TLSName, ...], tuple[TLSChallenge, ...]] = ((), ())
        self._names = Names()
        self._on_demand = False
        self._contexts = Contexts()

    def use(self, snapshot: Snapshot) -> None:
        """Choose by this from the next handshake on."""
        self._on_demand = snapshot.on_demand
        listed = (snapshot.tls, snapshot.tls_challenges)
        if listed == self._listed:
            return  # mostly it is the health of a target that has changed
        self._listed = listed
        names = Names(*listed)
        self._contexts.keep(names.certificates(), names.renewed_since(self._names))
        self._names = names

    def share_sessions(self, secret: bytes) -> None:
        """Let whoever has the same secret resume the sessions of this one, and the other way round;
        before the first handshake."""
        self._contexts.secret = secret

    # The connections that have not got a protocol yet. To the site they are connections.

    def greet(self) -> Greeting:
        """Makes the protocol of a connection that has been accepted."""
        return Greeting(self)

    def opened(self, greeting: Greeting) -> None:
        self._site.opened(greeting)
        self.handshakes.add(greeting)

    def closed(self, greeting: Greeting, succeeded: bool) -> None:
        self.handshakes.remove(greeting)
        self._site.closed(greeting)
        self.handshake_ended(succeeded)

    # The choice.

    def plain_refusal(self) -> HTTP1Connection:
        """What a client gets that does not speak TLS: an answer that it can read."""
        return self._site.plain_refusals()()

    def welcome(self, hello: ClientHello) -> Welcome | None:
        """Choose certificate and protocol; None: see `welcome_later`.

        @raise TLSAlert: there is nothing for this client.
        """
        name = hello.server_name
        if hello.alpn == _ACME_TLS_ALONE:
            challenge = self._names.challenge(name)
            if challenge is None:
                raise TLSAlert(NO_APPLICATION_PROTOCOL, "there is no challenge for this name")
            return Welcome(self._context(name, challenge, ACME_TLS), NothingMore)
        protocol = _agree(hello.alpn)
        entry = self._names.find(name)
        if entry is None and not (self._on_demand and name):
            raise TLSAlert(UNRECOGNIZED_NAME, "this name is not served")
        if entry is None or entry.certificate is None:
            return None
        return Welcome(self._context(name, entry.certificate), self._site.tls_factory(protocol))

    def _context(
        self, name: str, certificate: Certificate, protocol: str | None = None
    ) -> ssl.SSLContext:
        try:
            if protocol is not None:
                return make_context(certificate, (protocol,))
            return self._contexts.of(certificate)
        except (OSError, ValueError) as error:
            _log.error("the certificate for {name!r} is of no use: {e}", name=name, e=error)
            raise TLSAlert(INTERNAL_ERROR, "the certificate is of no use") from None

    def welcome_later(self, hello: ClientHello) -> Deferred[Welcome]:
        """Have the certificate made, and choose again.

        @return: fires when there is one, or fails with a `TLSAlert`.
        """
        answer: Deferred[Welcome] = Deferred()

        def settle(_: object = None) -> None:
            if answer.called:
                return
            if timer.active():
                timer.cancel()
            try:
                chosen = self.welcome(hello)
            except TLSAlert as alert:
                answer.errback(alert)
                return
            if chosen is not None:
                answer.callback(chosen)
            elif self._names.find(hello.server_name) is None:
                answer.errback(TLSAlert(UNRECOGNIZED_NAME, "this name gets no certificate"))
            else:
                answer.errback(TLSAlert(INTERNAL_ERROR, "there is no certificate yet"))

        timer = self.clock.callLater(ISSUANCE_LIMIT, settle)
        entry = self._names.find(hello.server_name)
        name = hello.server_name if entry is None else entry.name
        # Why there is none is the control plane's to tell; here it only matters whether there is.
        maybeDeferred(self._wanted, name).addBoth(settle)
        return answer

    def stop(self) -> None:
        """Forget the deadlines."""
        self.handshakes.stop()
        self.goodbyes.stop()


def _agree(offered: tuple[bytes, ...]) -> str:
    """The protocol that OpenSSL will choose; empty: the client says nothing of protocols.

    @raise TLSAlert: there is none that both speak.
    """
    if not offered:
        return ""
    for offer, protocol in _OFFERS.items():
        if offer in offered:
            return protocol
    raise TLSAlert(NO_APPLICATION_PROTOCOL, "no protocol is spoken by both sides")


def _overdue(connection: Greeting | TLSLayer) -> None:
    connection.abort()


def _uncounted(succeeded: bool) -> None:
    """Without metrics nobody counts."""


class NothingMore(asyncio.Protocol):
    """To a CA the handshake was all (RFC 8737 section 3)."""

    def connection_made(self, transport: Any) -> None:
        transport.close()
