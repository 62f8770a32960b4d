"""Signed requests to one CA: its directory, nonces, and errors (RFC 8555 sections 6 and 7.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.task import deferLater

from kproxy.tls.acme.errors import (
    ACCOUNT_DOES_NOT_EXIST,
    BAD_NONCE,
    AcmeError,
    BadAnswer,
    problem_of,
)
from kproxy.tls.acme.jws import AccountKey
from kproxy.tls.acme.web import Answer, Web, host_of, https_url

_NONCES_KEPT = 10
_ATTEMPTS = 12
"""How often one request is sent, where the CA finds nothing wrong but the nonce."""
_DIRECTORY_AGE = 3600.0


@dataclass(frozen=True, slots=True)
class Directory:
    """What a CA offers, and where."""

    url: str
    document: Mapping[str, Any]

    def get(self, name: str) -> str | None:
        """The URL of something that not every CA has."""
        found = self.document.get(name)
        return None if found is None else https_url(found, f"{name} in the directory {self.url}")

    def __getitem__(self, name: str) -> str:
        found = self.get(name)
        if found is None:
            raise BadAnswer(f"{self.url} is not the directory of an ACME server: no {name} in it")
        return found

    @property
    def meta(self) -> Mapping[str, Any]:
        meta = self.document.get("meta")
        return meta if isinstance(meta, dict) else {}


class Session:
    """One account key at one CA. Requests may overlap."""

    def __init__(self, reactor: Any, web: Web, directory: str, key: AccountKey) -> None:
        self.reactor = reactor
        self.web = web
        self.key = key
        self.account_url: str | None = None
        self._url = directory
        self._directory: Directory | None = None
        self._read_at = 0.0
        self._nonces: list[str] = []

    async def directory(self) -> Directory:
        """What the CA offers; it is asked anew after an hour."""
        now = self.reactor.seconds()
        if self._directory is None or now - self._read_at > _DIRECTORY_AGE:
            answer = checked(await self.web.get(self._url))
            self._directory, self._read_at = Directory(self._url, answer.json()), now
        return self._directory

    async def post(
        self, url: str, payload: Mapping[str, Any] | None, *, accept: str | None = None
    ) -> Answer:
        """A request in the name of the account.

        @param payload: None: a POST-as-GET.
        @raise AcmeError: there is no account yet, or the CA refused.
        """
        if self.account_url is None:
            raise AcmeError("there is no account at the CA yet", type=ACCOUNT_DOES_NOT_EXIST)
        return await self._post(url, payload, self.account_url, accept)

    async def post_as_key(self, url: str, payload: Mapping[str, Any]) -> Answer:
        """A request of somebody who has no account yet, or does not know its URL."""
        return await self._post(url, payload, None, None)

    async def poll(self, url: str, waiting: frozenset[str], limit: float, what: str) -> Answer:
        """Ask for a resource until its status is not one of `waiting`, at the CA's pace.

        @param limit: seconds after which it is given up.
        @param what: what took too long, for the message.
        """
        deadline = self.reactor.seconds() + limit
        pause = 0.5
        while True:
            answer = await self.post(url, None)
            if answer.json().get("status") not in waiting:
                return answer
            wait = max(answer.retry_after or pause, 0.25)
            if self.reactor.seconds() + wait > deadline:
                raise AcmeError(f"{what} within {limit:g} s", retry_after=answer.retry_after)
            await deferLater(self.reactor, wait)
            pause = min(pause * 1.5, 5.0)

    async def _post(
        self,
        url: str,
        payload: Mapping[str, Any] | None,
        account_url: str | None,
        accept: str | None,
    ) -> Answer:
        for attempt in range(_ATTEMPTS):
            nonce = await self._nonce()
            body = self.key.sign(payload, url=url, nonce=nonce, account_url=account_url)
            answer = await self.web.request("POST", url, body, accept)
            self._keep_nonce(answer)
            try:
                return checked(answer)
            except AcmeError as error:
                if error.type != BAD_NONCE or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError

    async def _nonce(self) -> str:
        # The newest first, since old ones expire.
        while not self._nonces:
            directory = await self.directory()
            answer = checked(await self.web.request("HEAD", directory["newNonce"]))
            if answer.header("replay-nonce") is None:
                raise BadAnswer(f"{host_of(answer.url)} gives no nonces")
            self._keep_nonce(answer)
        return self._nonces.pop()

    def _keep_nonce(self, answer: Answer) -> None:
        nonce = answer.header("replay-nonce")
        if nonce is not None:
            self._nonces = [*self._nonces[1 - _NONCES_KEPT :], nonce]


def checked(answer: Answer) -> Answer:
    """An answer that says yes.

    @raise AcmeError: it says no.
    """
    if 200 <= answer.status < 300:
        return answer
    host = host_of(answer.url)
    try:
        document = answer.json()
    except BadAnswer:
        document = {}
    raise problem_of(
        document,
        status=answer.status,
        retry_after=answer.retry_after,
        otherwise=f"{host} answered {answer.phrase()}",
    )
