"""Show a CA that a name is ours: what it is to find is put where the data plane looks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from txacme.interfaces import IResponder
from zope.interface import implementer

from kproxy.snapshot import HTTPChallenge, TLSChallenge
from kproxy.tls.acme.keys import challenge_certificate


@implementer(IResponder)
class HTTPResponder:
    """By a file under a well-known path (RFC 8555 section 8.3)."""

    challenge_type = "http-01"

    def __init__(self, changed: Callable[[], object]) -> None:
        """@param changed: called when there is one more; it is served when that returns, or when the
        Deferred that it returns has fired. One less can wait for the next time that something
        changes."""
        self._changed = changed
        self._answers: dict[str, str] = {}

    def challenges(self) -> tuple[HTTPChallenge, ...]:
        """What is to be found now."""
        return tuple(HTTPChallenge(*each) for each in self._answers.items())

    def start_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        self._answers[challenge.encode("token")] = response.key_authorization
        return maybeDeferred(self._changed).addCallback(lambda _: None)

    def stop_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        self._answers.pop(challenge.encode("token"), None)
        return succeed(None)


@implementer(IResponder)
class TLSResponder:
    """By a certificate of its own kind, for a protocol of its own (RFC 8737)."""

    challenge_type = "tls-alpn-01"

    def __init__(self, changed: Callable[[], object], now: Callable[[], datetime]) -> None:
        """@param changed: see `HTTPResponder`."""
        self._changed = changed
        self._now = now
        self._certificates: dict[str, TLSChallenge] = {}

    def challenges(self) -> tuple[TLSChallenge, ...]:
        """What is to be found now."""
        return tuple(self._certificates.values())

    def start_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        proof = challenge_certificate(server_name, response.key_authorization, self._now())
        self._certificates[server_name] = TLSChallenge(server_name, proof)
        return maybeDeferred(self._changed).addCallback(lambda _: None)

    def stop_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        self._certificates.pop(server_name, None)
        return succeed(None)
