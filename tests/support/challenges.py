"""Where a CA finds what it looks for: the two ports of a proxy, reduced to ACME's challenges."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

PATH = b"/.well-known/acme-challenge/"


class ChallengePorts:
    """Answers by what an `AutomaticCertificates` says at that moment.

    @ivar automatic: whom to ask; to be set before the CA looks.
    @ivar wrong: True: it answers http-01, but not what the CA wants.
    @ivar seen: the challenges that were answered, as ``http-01 TOKEN`` and ``tls-alpn-01 NAME``.
    """

    def __init__(self, reactor: Any) -> None:
        self.automatic: Any = None
        self.wrong = False
        self.seen: list[str] = []
        self._ports = [
            reactor.listenTCP(0, Site(_Answers(self)), interface="127.0.0.1"),
            reactor.listenSSL(
                0, Factory.forProtocol(Protocol), _Contexts(self), interface="127.0.0.1"
            ),
        ]
        self.http, self.tls = (port.getHost().port for port in self._ports)

    def close(self) -> Deferred[Any]:
        return gatherResults([port.stopListening() for port in self._ports])


class _Answers(Resource):
    isLeaf = True

    def __init__(self, ports: ChallengePorts) -> None:
        super().__init__()
        self._ports = ports

    def render_GET(self, request: Any) -> bytes:
        token = request.path.removeprefix(PATH).decode()
        for challenge in self._ports.automatic.http_challenges():
            if request.path.startswith(PATH) and challenge.token == token:
                self._ports.seen.append(f"http-01 {token}")
                answer: bytes = challenge.key_authorization.encode()
                return b"wrong" if self._ports.wrong else answer
        request.setResponseCode(404)
        return b""


@implementer(IOpenSSLContextFactory)
class _Contexts:
    def __init__(self, ports: ChallengePorts) -> None:
        self._ports = ports

    def getContext(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_tlsext_servername_callback(self._choose)
        context.set_alpn_select_callback(_select)
        return context

    def _choose(self, connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode()
        for challenge in self._ports.automatic.tls_challenges():
            if challenge.name == name:
                self._ports.seen.append(f"tls-alpn-01 {name}")
                pem = challenge.certificate
                context = SSL.Context(SSL.TLS_SERVER_METHOD)
                context.set_alpn_select_callback(_select)
                context.use_certificate(
                    crypto.load_certificate(crypto.FILETYPE_PEM, pem.chain.encode())
                )
                context.use_privatekey(
                    crypto.load_privatekey(crypto.FILETYPE_PEM, pem.key.encode())
                )
                connection.set_context(context)


def _select(connection: SSL.Connection, offered: list[bytes]) -> Any:
    return b"acme-tls/1" if b"acme-tls/1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS
