"""A CA at the seam of `AcmeClient`: for tests of what is asked, and when. Its certificates are real."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kproxy.tls.acme.client import AcmeClient, RenewalWindow
from kproxy.tls.acme.jws import AccountKey
from tests.support.certificates import new_key

NOW = 1_800_000_000.0
DAY = 86400.0


def outcome(deferred: Deferred[Any]) -> list[Any]:
    """What it has fired with; a failure as its text."""
    found: list[Any] = []
    deferred.addCallbacks(found.append, lambda failure: found.append(failure.getErrorMessage()))
    return found


class FakeCA:
    """Issues at once, unless it is told to wait or to refuse.

    @ivar orders: the names that were ordered.
    @ivar refuse: name -> what to raise; the name ``*`` stands for all of them.
    @ivar refuse_accounts: what to raise when an account is asked for.
    @ivar held: None: it issues at once; else, the orders that wait.
    @ivar life: seconds.
    @ivar window: what it says of when to renew.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.orders: list[str] = []
        self.replaced: list[str | None] = []
        self.responders: list[list[str]] = []
        self.accounts: list[str | None] = []
        self.refuse: dict[str, Exception] = {}
        self.refuse_accounts: Exception | None = None
        self.held: dict[str, Deferred[None]] | None = None
        self.life = 90 * DAY
        self.window: RenewalWindow | Exception | None = None
        self.asked_for_window = 0
        self._key = new_key()

    def client(self, key: AccountKey, url: str | None) -> AcmeClient:
        """For `make_client`."""
        made: Any = _Client(self, url)
        return made  # type: ignore[no-any-return]

    def issue(self, csr_der: bytes) -> str:
        csr = x509.load_der_x509_csr(csr_der)
        assert csr.is_signature_valid
        now = datetime.fromtimestamp(self.clock.seconds(), timezone.utc)
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(x509.Name([]))
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(seconds=self.life))
            .add_extension(names, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


class _Client:
    def __init__(self, ca: FakeCA, url: str | None) -> None:
        self._ca = ca
        self.account_url = url

    async def account(self, email: str | None = None, eab: Any = None) -> str:
        self._ca.accounts.append(email)
        if self._ca.refuse_accounts is not None:
            raise self._ca.refuse_accounts
        self.account_url = "https://ca.test/account"
        return self.account_url

    async def issue(
        self, names: list[str], csr_der: bytes, responders: Any, *, replaces: str | None = None
    ) -> str:
        (name,) = names
        ca = self._ca
        ca.orders.append(name)
        ca.replaced.append(replaces)
        ca.responders.append([each.challenge_type for each in responders])
        if ca.held is not None:
            ca.held[name] = Deferred()
            await ca.held[name]
        error = ca.refuse.get(name) or ca.refuse.get("*")
        if error is not None:
            raise error
        return ca.issue(csr_der)

    async def renewal_window(self, certificate: str) -> RenewalWindow | None:
        self._ca.asked_for_window += 1
        if isinstance(self._ca.window, Exception):
            raise self._ca.window
        return self._ca.window

    async def close(self) -> None:
        pass
