"""One order, from the lock to the certificate in the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from txacme.interfaces import IResponder

from kproxy.snapshot import Certificate
from kproxy.tls.acme.client import AcmeClient
from kproxy.tls.acme.elsewhere import Elsewhere
from kproxy.tls.acme.errors import AcmeError
from kproxy.tls.acme.failures import Failures, is_about_all
from kproxy.tls.acme.interfaces import CertificateStore
from kproxy.tls.acme.keys import Kept, key_to_pem, leaf_of, new_key, signing_request, understood
from kproxy.tls.acme.locking import locked
from kproxy.tls.acme.store import find, objects_of

_log = Logger()


class Orders:
    """Places orders, unless another server that shares the store has been faster."""

    def __init__(
        self,
        store: CertificateStore,
        clock: IReactorTime,
        responders: list[IResponder],
        failures: Failures,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """@param elsewhere: what others have failed at who share the store; None: it is not shared."""
        self._store = store
        self._clock = clock
        self._responders = responders
        self._failures = failures
        self._elsewhere = elsewhere

    async def place(
        self,
        client: AcmeClient,
        name: str,
        old: Kept | None,
        registered: Callable[[], Awaitable[object]],
    ) -> Kept:
        """Have a new certificate.

        @param old: the one that it replaces.
        @param registered: makes sure that the CA knows us.
        @raise NoCertificate: another server has just failed to.
        """
        async with locked(self._store, name):
            found = await find(self._store, name, self._clock.seconds())
            if found is not None and (old is None or found.ends > old.ends):
                return found  # another server was faster
            if self._elsewhere is None:
                return await self._order(client, name, old, registered)
            if not self._failures.insisted(name):
                await self._elsewhere.check(name)
            try:
                kept = await self._order(client, name, old, registered)
            except AcmeError as error:
                if not is_about_all(error):
                    wait = self._failures.next_wait(name, error.retry_after)
                    await self._elsewhere.failed(name, str(error), wait)
                raise
            await self._elsewhere.worked(name)
            return kept

    async def _order(
        self,
        client: AcmeClient,
        name: str,
        old: Kept | None,
        registered: Callable[[], Awaitable[object]],
    ) -> Kept:
        await registered()
        _log.info("ordering a certificate for {name}", name=name)
        key = new_key()
        chain = await client.issue(
            [name],
            signing_request(name, key),
            self._responders_for(name),
            replaces=None if old is None else leaf_of(old.certificate.chain),
        )
        certificate = Certificate(chain, key_to_pem(key))
        await self._keep(name, certificate)
        return understood(certificate)

    def _responders_for(self, name: str) -> list[IResponder]:
        """In the order that is configured; after a failure, another one is the first."""
        trouble = self._failures.get(name)
        first = 0 if trouble is None else trouble.times % max(1, len(self._responders))
        return [*self._responders[first:], *self._responders[:first]]

    async def _keep(self, name: str, certificate: Certificate) -> None:
        try:
            await self._store.store(name, objects_of(certificate))
        except OSError as error:
            # It is used all the same: to order it again and again would not help.
            _log.error("the certificate for {name} can't be kept: {error}", name=name, error=error)
