"""The client of one CA, with the account that is kept in the store."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import DeferredLock

from kproxy.config.model import ExternalAccount
from kproxy.tls.acme.client import AcmeClient
from kproxy.tls.acme.errors import AcmeError
from kproxy.tls.acme.interfaces import Account, CertificateStore
from kproxy.tls.acme.jws import AccountKey
from kproxy.tls.acme.locking import locked
from kproxy.tls.acme.shared import Shared

MakeClient = Callable[[AccountKey, "str | None"], AcmeClient]
"""(the account's key, its URL if that is known): a client."""
LOCK = "_account"
"""What servers that share a store hold while one of them writes there who they are."""


class NoAccount(Exception):
    """There is no account at the CA, or nowhere to keep it: no name can have a certificate.

    @ivar retry_after: seconds that the CA wants to be left alone, if it said so.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.retry_after = error.retry_after if isinstance(error, AcmeError) else None


class Accounts:
    """Makes the client when it is first needed, and the account before the first order."""

    def __init__(
        self,
        store: CertificateStore,
        make_client: MakeClient,
        email: str | None,
        eab: ExternalAccount | None,
    ) -> None:
        self._store = store
        self._make_client = make_client
        self._email = email
        self._eab = eab
        self._lock = DeferredLock()
        self._registering = Shared()
        self._account: Account | None = None
        self._client: AcmeClient | None = None

    async def client(self) -> AcmeClient:
        """The client; nothing is asked of the CA for it.

        @raise NoAccount: the store or the configuration does not let us have one.
        """
        await self._lock.acquire()
        try:
            if self._client is None:
                account = self._account = await self._kept()
                key = AccountKey.from_pem(account.key)
                # An account with another address has to be told.
                url = account.url if account.email == self._email else None
                self._client = self._make_client(key, url)
            return self._client
        except (AcmeError, OSError, ValueError) as error:
            raise NoAccount(error) from error
        finally:
            self._lock.release()

    async def register(self, client: AcmeClient, *, known: bool) -> None:
        """Have an account; kept is which one. Whoever comes while one is being had waits for it, and
        fails with it: the CA is asked once.

        @param known: one that we had before is trusted to be there still.
        @raise NoAccount: the CA refused.
        """
        if client.account_url is None or not known:
            await self._registering.run("", lambda: self._register(client))

    async def _register(self, client: AcmeClient) -> None:
        try:
            url = await client.account(self._email, self._eab)
            account: Account = self._account  # type: ignore[assignment]  # there is a client
            async with locked(self._store, LOCK):
                await self._store.store_account(Account(account.key, url, self._email))
        except (AcmeError, OSError) as error:
            raise NoAccount(error) from error

    async def close(self) -> None:
        """Break off, and let go of connections."""
        self._registering.stop()
        if self._client is not None:
            await self._client.close()

    async def _kept(self) -> Account:
        """What the store has, if need be a new key: it is kept before the CA hears of it, so that
        whatever happens there is one account and not two."""
        async with locked(self._store, LOCK):
            account = await self._store.account()
            if account is None:
                account = Account(AccountKey.generate().to_pem())
                await self._store.store_account(account)
            return account
