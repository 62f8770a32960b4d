"""DNS-01 by dynamic updates (RFC 2136), which BIND, Knot, PowerDNS and many others take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import deferLater
from txacme.interfaces import IResponder
from zope.interface import implementer

from kproxy.config.secrets import SecretsError
from kproxy.threads import result_of
from kproxy.tls.acme.dns01 import Surroundings, record_name, record_value
from kproxy.tls.acme.errors import AcmeError
from kproxy.tls.acme.nsupdate import Place, find_place, find_server, make_key

T = TypeVar("T")

_PROBE_EVERY = 2.0


@dataclass(frozen=True, slots=True)
class Options:
    """``x-kproxy.acme.dns.rfc2136``."""

    server: str
    port: int = 53
    zone: str | None = None
    key: str | None = None
    algorithm: str = "hmac-sha256"
    secret: str | None = None
    """The name of the secret, not its content."""
    ttl: int = 60
    propagation: float = 120.0
    """Seconds that the zone's servers have to show a record; 0: nobody waits for them."""


@implementer(IResponder)
class RFC2136:
    """Puts TXT records into a zone, and takes them out again.

    Each value is a record of its own, so that several may stand beside each other: a host and its
    wildcard are validated under one name.
    """

    challenge_type = "dns-01"

    def __init__(self, options: Options, around: Surroundings) -> None:
        self._options = options
        self._around = around
        self._places: dict[tuple[str, str], Place] = {}
        # A thread can't be cancelled. The removal of a record waits until its addition has ended.
        self._updates = DeferredLock()

    def start_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        """Add the record. Fires once the zone's servers show it."""
        value = record_value(response)
        return Deferred.fromCoroutine(self._add(record_name(server_name), value))

    def stop_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        """Remove the record."""
        value = record_value(response)
        return Deferred.fromCoroutine(self._remove(record_name(server_name), value))

    async def _add(self, name: str, value: str) -> None:
        options = self._options
        secret = await self._secret()

        def find() -> Place:
            key = None
            if options.key is not None and secret is not None:
                key = make_key(options.key, options.algorithm, secret)
            server = find_server(options.server, options.port)
            return find_place(server, name, zone=options.zone, ttl=options.ttl, key=key)

        place = await self._blocking(find)
        self._places[name, value] = place
        await self._update(lambda: place.add(value))
        await self._wait_until_shown(place, value)

    async def _remove(self, name: str, value: str) -> None:
        place = self._places.pop((name, value), None)
        if place is not None:
            await self._update(lambda: place.remove(value))

    async def _wait_until_shown(self, place: Place, value: str) -> None:
        reactor = self._around.reactor
        deadline = reactor.seconds() + self._options.propagation
        while self._options.propagation:
            lacking = await self._blocking(lambda: place.lacking(value))
            if not lacking:
                return
            if reactor.seconds() + _PROBE_EVERY > deadline:
                servers = ", ".join(map(str, lacking))
                limit = self._options.propagation
                raise AcmeError(f"the TXT record did not reach {servers} within {limit:g} s")
            await deferLater(reactor, _PROBE_EVERY)

    async def _secret(self) -> str | None:
        if self._options.secret is None:
            return None
        try:
            return await self._around.secret(self._options.secret)
        except SecretsError as error:
            raise AcmeError(str(error)) from None

    def _blocking(self, work: Callable[[], T]) -> Deferred[T]:
        return result_of(work, self._around.in_thread)

    def _update(self, work: Callable[[], None]) -> Deferred[None]:
        """Change a zone. Cancelling ends the waiting, and the next change waits all the same."""

        def locked(lock: DeferredLock) -> Deferred[None]:
            waiting: Deferred[None] = Deferred()

            def ended(result: Any) -> None:
                lock.release()
                waiting.callback(result)

            self._blocking(work).addBoth(ended)
            return waiting

        acquired: Deferred[Any] = self._updates.acquire()
        return acquired.addCallback(locked)
