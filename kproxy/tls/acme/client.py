"""An ACMEv2 client (RFC 8555), with the role that ``txacme.client.Client`` has for ACMEv1.

All that takes time is a coroutine; run it with ``Deferred.fromCoroutine``. Cancelling that Deferred
ends the requests under way, and the responders stop before it fires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from treq.client import HTTPClient

from kproxy.config.model import ExternalAccount
from kproxy.tls.acme.authorizations import authorize
from kproxy.tls.acme.chains import (
    check_chain,
    is_issued_by,
    load,
    read_chain,
    renewal_id,
    to_pem,
)
from kproxy.tls.acme.errors import (
    ACCOUNT_DOES_NOT_EXIST,
    ALREADY_REPLACED,
    ALREADY_REVOKED,
    EXTERNAL_ACCOUNT_REQUIRED,
    MALFORMED,
    UNAUTHORIZED,
    AcmeError,
    BadAnswer,
    problem_of,
)
from kproxy.tls.acme.jws import AccountKey, b64
from kproxy.tls.acme.renewal import RenewalWindow, read_window
from kproxy.tls.acme.session import Session, checked
from kproxy.tls.acme.web import Answer, Web, https_url

if TYPE_CHECKING:
    from txacme.interfaces import IResponder


__all__ = ["AcmeClient", "Limits", "RenewalWindow"]

_PEM_CHAIN = "application/pem-certificate-chain"
_ALTERNATES = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds."""

    request: float = 30.0
    """One request with its answer."""
    validation: float = 180.0
    """From the CA being told to look, until it has seen that a name is ours (or not)."""
    issuance: float = 180.0
    """From the certificate being asked for, until it is there."""


class AcmeClient:
    """Talks to one CA with one account key. It can do several things at a time.

    The directory is read when first needed, and again after an hour.

    Every coroutine raises `kproxy.tls.acme.errors.AcmeError` and nothing else, but for
    ``CancelledError`` when it is cancelled.
    """

    def __init__(
        self,
        directory: str,
        key: AccountKey,
        *,
        reactor: Any,
        account_url: str | None = None,
        ca_file: Path | None = None,
        limits: Limits | None = None,
        http: HTTPClient | None = None,
    ) -> None:
        """
        @param directory: an https URL.
        @param reactor: IReactorTime, IReactorTCP and so on.
        @param account_url: where the account is, if that is known from earlier.
        @param ca_file: PEM certificates; the CA's own server has to have one that they vouch for.
            None: whom the system trusts.
        @param http: another way to send requests than over the reactor.
        @raise AcmeError: the directory is not an https URL, or `ca_file` can't be used.
        """
        self.key = key
        self._limits = limits or Limits()
        directory = https_url(directory, "the directory of the CA")
        web = Web(reactor, ca_file=ca_file, time_limit=self._limits.request, http=http)
        self._session = Session(reactor, web, directory, key)
        self._session.account_url = account_url

    @property
    def account_url(self) -> str | None:
        """What `account` returned, or the caller had kept; None: `account` has to be called."""
        return self._session.account_url

    async def account(self, email: str | None = None, eab: ExternalAccount | None = None) -> str:
        """Find the account of the key, or make one, agreeing to the terms of service.

        @param email: whom the CA may write to; an account that is there has it changed to this.
        @param eab: for CAs that only serve customers; used only when an account is made.
        @return: the account's URL, which is also `account_url` from now on. Keep it.
        """
        contact = [] if email is None else [f"mailto:{email}"]
        answer = await self._existing_account() or await self._new_account(contact, eab)
        self._session.account_url = answer.location()
        # A CA that keeps no addresses does not list them either, and need not be told again.
        listed = answer.json().get("contact")
        if contact and isinstance(listed, list) and listed != contact:
            await self._session.post(self._session.account_url, {"contact": contact})
        return self._session.account_url

    async def terms_of_service(self) -> str:
        """The URL of what `account` agrees to; empty: there are none."""
        terms = (await self._session.directory()).meta.get("termsOfService")
        return terms if isinstance(terms, str) else ""

    async def issue(
        self,
        names: Sequence[str],
        csr_der: bytes,
        responders: Sequence[IResponder],
        *,
        preferred_chain: str | None = None,
        replaces: str | None = None,
    ) -> str:
        """Have a certificate issued.

        @param names: host names; ``*.example.com`` needs a responder for dns-01.
        @param csr_der: a PKCS #10 request, signed by the certificate's key, for the same names.
        @param responders: in order of preference; the first whose challenge the CA offers is used.
            What they get is `acme.challenges`' HTTP01, TLSALPN01 or DNS01, and its response;
            `server_name` never has a wildcard.
        @param preferred_chain: the common name of who issued the last certificate of the chain, if
            the CA offers several chains; where none has it, the CA's default is taken.
        @param replaces: the certificate (PEM) that this one is a renewal of, which earns better
            treatment at CAs that have renewal information (RFC 9773 section 5).
        @return: the chain in PEM, the certificate for `names` first. Its key is that of the CSR.
        @raise ChallengeFailed: with the CA's words for each name that it could not validate.
        """
        session = self._session
        answer = await self._new_order(names, replaces)
        url = answer.location()
        authorizations = answer.json().get("authorizations")
        if not isinstance(authorizations, list):
            raise BadAnswer("the CA sent an order without authorizations")
        urls = [https_url(each, "an authorization") for each in authorizations]
        await authorize(session, urls, responders, self._limits.validation)
        order = await self._order_after(url, "pending")
        if order.get("status") == "ready":
            finalize = https_url(order.get("finalize"), "finalize of an order")
            await session.post(finalize, {"csr": b64(csr_der)})
            order = await self._order_after(url, "ready", "processing")
        if order.get("status") != "valid":
            raise _order_failed(order)
        certificate = https_url(order.get("certificate"), "the certificate of an order")
        return to_pem(await self._chain(certificate, names, csr_der, preferred_chain))

    async def renewal_window(self, certificate: str) -> RenewalWindow | None:
        """When the CA wants a certificate (PEM) to be renewed; None: it has no opinion."""
        endpoint = (await self._session.directory()).get("renewalInfo")
        identifier = renewal_id(load(certificate))
        if endpoint is None or identifier is None:
            return None
        return read_window(checked(await self._session.web.get(f"{endpoint}/{identifier}")))

    async def revoke(self, certificate: str, reason: int = 0) -> None:
        """Revoke a certificate (PEM) that this account got. One that is revoked already is fine.

        @param reason: RFC 5280 section 5.3.1; 0 unspecified, 1 key compromised, 4 superseded.
        """
        der = load(certificate).public_bytes(Encoding.DER)
        url = (await self._session.directory())["revokeCert"]
        try:
            await self._session.post(url, {"certificate": b64(der), "reason": reason})
        except AcmeError as error:
            if error.type != ALREADY_REVOKED:
                raise

    async def close(self) -> None:
        """Close idle connections. The client can still be used."""
        await self._session.web.close()

    async def _existing_account(self) -> Answer | None:
        url = (await self._session.directory())["newAccount"]
        try:
            return await self._session.post_as_key(url, {"onlyReturnExisting": True})
        except AcmeError as error:
            if error.type == ACCOUNT_DOES_NOT_EXIST:
                return None
            raise

    async def _new_account(self, contact: list[str], eab: ExternalAccount | None) -> Answer:
        directory = await self._session.directory()
        url = directory["newAccount"]
        payload: dict[str, Any] = {"termsOfServiceAgreed": True}
        if contact:
            payload["contact"] = contact
        if eab is not None:
            binding = self._session.key.bind(eab.key_id, eab.hmac_key, url)
            payload["externalAccountBinding"] = binding
        elif directory.meta.get("externalAccountRequired") is True:
            raise AcmeError(
                "the CA has accounts only for its customers; set acme.eab",
                type=EXTERNAL_ACCOUNT_REQUIRED,
            )
        return await self._session.post_as_key(url, payload)

    async def _new_order(self, names: Sequence[str], replaces: str | None) -> Answer:
        directory = await self._session.directory()
        identifiers = [{"type": "dns", "value": name} for name in names]
        order: dict[str, Any] = {"identifiers": identifiers}
        old = None if replaces is None else renewal_id(load(replaces))
        if old is None or directory.get("renewalInfo") is None:
            return await self._session.post(directory["newOrder"], order)
        try:
            return await self._session.post(directory["newOrder"], {**order, "replaces": old})
        except AcmeError as error:
            # It was but a hint: one that the CA has no use for must not stand in the way.
            if error.type not in (ALREADY_REPLACED, MALFORMED, UNAUTHORIZED):
                raise
        return await self._session.post(directory["newOrder"], order)

    async def _order_after(self, url: str, *waiting: str) -> Mapping[str, Any]:
        """The order, once its status is none of these."""
        what = "the CA did not issue the certificate"
        limit = self._limits.issuance
        return (await self._session.poll(url, frozenset(waiting), limit, what)).json()

    async def _chain(
        self, url: str, names: Sequence[str], csr_der: bytes, preferred: str | None
    ) -> list[x509.Certificate]:
        """The chain that is preferred, if there is one, else the first that the CA named."""
        answer = await self._session.post(url, None, accept=_PEM_CHAIN)
        first = chain = read_chain(answer.body)
        alternates = answer.links("alternate")[:_ALTERNATES]
        while preferred is not None and not is_issued_by(chain, preferred):
            if not alternates:
                chain = first
                break
            other = await self._session.post(alternates.pop(0), None, accept=_PEM_CHAIN)
            chain = read_chain(other.body)
        check_chain(chain, csr_der, names)
        return chain


def _order_failed(order: Mapping[str, Any]) -> AcmeError:
    otherwise = f"the CA made the order {order.get('status')} without saying why"
    error = order.get("error")
    return problem_of(error if isinstance(error, dict) else {}, otherwise=otherwise)
