"""A TLS client that exists in memory only, and what it talks to."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from typing import Any

from kproxy.snapshot import Certificate
from tests.support.certificates import Authority
from tests.unit.http.memory import Wire

CA = Authority()


def issue(*names: str, key: Any = None) -> Certificate:
    """A certificate as the snapshot has it."""
    pair = CA.issue(*names, key=key)
    return Certificate(pair.chain, pair.key)


def client_context(
    *, alpn: Sequence[str] = (), version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """A client that trusts `CA`, and speaks one version of TLS only if that is said."""
    context = ssl.create_default_context(cadata=CA.root)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class TLSClient:
    """The client's half of one connection.

    @ivar alert: why the handshake failed, as OpenSSL names it.
    """

    def __init__(
        self,
        server_name: str | None = "a.example",
        context: ssl.SSLContext | None = None,
        session: Any = None,
    ) -> None:
        """@param server_name: None: it names no host, and takes any certificate of `CA`."""
        context = context or client_context()
        if server_name is None:
            context.check_hostname = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_name, session=session
        )
        self.received = b""
        self.connected = False
        self.said_goodbye = False
        self.alert: str | None = None

    def take(self) -> bytes:
        """What is to be sent now."""
        return self._outgoing.read()

    def hello(self) -> bytes:
        """The ClientHello."""
        self._advance()
        return self.take()

    def feed(self, data: bytes) -> None:
        """Bytes from the server."""
        self._incoming.write(data)
        self._advance()

    def _advance(self) -> None:
        try:
            if not self.connected:
                self.tls.do_handshake()
                self.connected = True
            while data := self.tls.read(65536):
                self.received += data
            self.said_goodbye = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.said_goodbye = True
        except ssl.SSLError as error:
            self.alert = error.reason

    def talk(self, wire: Wire) -> None:
        """Pass bytes both ways until neither side has more to say."""
        self._advance()
        while True:
            data, answer = self.take(), wire.take()
            if not data and not answer:
                return
            if answer:
                self.feed(answer)
            if data:
                wire.send(data)

    def say(self, data: bytes, wire: Wire) -> None:
        """Send application data."""
        self.tls.write(data)
        self.talk(wire)

    def close(self, wire: Wire) -> None:
        """Say goodbye."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.talk(wire)


def handshake(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    server_name: str = "a.example",
    session: Any = None,
) -> tuple[TLSClient, Any]:
    """Shake hands without any transport; both sides."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(incoming, outgoing, server_side=True)
    ours = TLSClient(server_name, client, session)
    for _ in range(4):
        ours.feed(outgoing.read())
        incoming.write(ours.take())
        try:
            theirs.do_handshake()
            theirs.read(1)
        except ssl.SSLWantReadError:
            pass
    return ours, theirs
