"""Certificates that look after themselves: what the control plane sees of them.

To be imported only when a service has ``ssl: true``: what it needs takes a third of a second to load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from random import random as default_random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from txacme.interfaces import IResponder

from kproxy.config.model import Acme
from kproxy.snapshot import Certificate, HTTPChallenge, TLSChallenge
from kproxy.threads import InThread
from kproxy.tls.acme.account import Accounts, MakeClient
from kproxy.tls.acme.client import AcmeClient
from kproxy.tls.acme.dns01 import make_dns_responder
from kproxy.tls.acme.elsewhere import Elsewhere
from kproxy.tls.acme.errors import AcmeError
from kproxy.tls.acme.failures import Failures
from kproxy.tls.acme.interfaces import CertificateStore, NoCertificate
from kproxy.tls.acme.issuing import STOPPING, IssuingService
from kproxy.tls.acme.jws import AccountKey
from kproxy.tls.acme.managed import Managed
from kproxy.tls.acme.ondemand import ORDERS_PER_MINUTE, OnDemand, PerMinute, Refused, check_name
from kproxy.tls.acme.responders import HTTPResponder, TLSResponder
from kproxy.tls.acme.shared import Shared, answer
from kproxy.tls.acme.sharing import Announced, Challenge, Neighbours
from kproxy.tls.acme.store import FolderStore, find
from kproxy.tls.acme.stores import make_store

__all__ = ["AutomaticCertificates", "NoCertificate", "Status", "make_automatic"]

_log = Logger()


@dataclass(frozen=True, slots=True)
class Status:
    """What an operator wants to know of one name."""

    expires: datetime | None = None
    """When its certificate does, in UTC; None: there is none."""
    failure: str = ""
    """Why the last attempt to have one failed; empty when it did not."""
    next_try: datetime | None = None
    """When the next attempt is due: the renewal, or, after a failure, the end of the wait; in UTC."""


class AutomaticCertificates:
    """One certificate for each host name, issued, renewed and remembered.

    Nothing is asked of a CA before `start`.
    """

    def __init__(
        self,
        acme: Acme,
        folder: Path,
        reactor: Any,
        in_thread: InThread,
        changed: Callable[[], object],
        on_demand_url: Callable[[str], str | None] = lambda name: None,
        *,
        dns: IResponder | None = None,
        shared: CertificateStore | None = None,
        make_client: MakeClient | None = None,
        random: Callable[[], float] = default_random,
    ) -> None:
        """
        @param folder: where certificates, keys and the account are kept: ``acme`` in the state dir.
            It is made when needed; each directory URL has a folder of its own in it.
        @param reactor: its seconds are those since 1970.
        @param changed: called when `certificate`, `names`, `http_challenges` or `tls_challenges`
            would answer anew. When it returns the data plane must serve them: the CA is told to
            look next. It may be called from within `obtain`.
        @param on_demand_url: where to ask whether a name that is not wanted may have a certificate
            when somebody connects to it: the URL without the name (``?host=NAME`` is appended); for
            a path on a service, that of one of its healthy targets; None: it may not.
        @param dns: the responder for DNS-01, for wildcards and for whoever prefers it.
        @param shared: where certificates and the account are kept instead, which other servers may
            have as well; the folder has only what failed here.
        @param make_client: makes another client of the CA than our own.
        @param random: gives a number from 0 to 1.
        """
        self._clock = reactor
        self._http = HTTPResponder(changed)
        self._tls = TLSResponder(changed, self._now)
        own = FolderStore(folder, acme.directory, reactor, in_thread)
        self._store: CertificateStore = shared or own
        self._ours: set[Challenge] = set()
        self._neighbours: Neighbours | None = None
        elsewhere: Elsewhere | None = None
        if shared is not None:
            self._neighbours = Neighbours(shared, reactor, changed, self._ours)
            everywhere = replace(acme, ca_file=None, store=None, secrets_files=())
            elsewhere = Elsewhere(shared, reactor, _circumstances(everywhere))
        self._on_demand = OnDemand(on_demand_url, reactor)
        self._new_names = PerMinute(ORDERS_PER_MINUTE, reactor)
        self._admitting = Shared()
        self._wanted: tuple[str, ...] = ()
        self._failures = Failures(own, reactor, random, _circumstances(acme))

        def our_client(key: AccountKey, url: str | None) -> AcmeClient:
            return AcmeClient(
                acme.directory, key, reactor=reactor, account_url=url, ca_file=acme.ca_file
            )

        self._service = IssuingService(
            self._store,
            Accounts(self._store, make_client or our_client, acme.email, acme.eab),
            reactor,
            self._responders(acme, dns),
            self._failures,
            self._on_demand.ask,
            changed,
            random,
            elsewhere,
        )

    def _responders(self, acme: Acme, dns: IResponder | None) -> list[IResponder]:
        ours: list[IResponder] = [self._http, self._tls]
        if self._neighbours is not None:
            ours = [Announced(each, self._store, self._clock, self._ours) for each in ours]
        known = {each.challenge_type: each for each in (*ours, dns) if each}
        chosen = dict.fromkeys(each for each in acme.challenges if each in known)
        if dns is not None:
            chosen.setdefault(dns.challenge_type)  # wildcards can be had by no other
        return [known[each] for each in chosen]

    # Which names, and what there is for them.

    def want(self, names: Iterable[str]) -> None:
        """Have certificates for these names from now on, and for no others.

        What is missing is issued, what grows old is renewed. May be called before `start`, and again
        with the same names.

        @param names: lower case, no trailing dot; ``*.example.com`` takes DNS-01.
        """
        self._wanted = tuple(dict.fromkeys(names))
        wanted, managed = set(self._wanted), self._service.names
        for gone in [each for each in managed.values() if each.wanted and each.name not in wanted]:
            del managed[gone.name]
            answer(gone.waiting, NoCertificate("it is not wanted any more"))
        for name in self._wanted:
            managed.setdefault(name, Managed(name, wanted=True)).wanted = True
        self._service.look()

    def names(self) -> tuple[str, ...]:
        """The names that TLS is to be served for: those that are wanted, in their order, and those
        that got a certificate on demand."""
        managed = self._service.names.values()
        return (*self._wanted, *(each.name for each in managed if each.kept and not each.wanted))

    def certificate(self, name: str) -> Certificate | None:
        """The newest certificate of a name that is in `names`; None: it is yet to be had."""
        managed = self._service.names.get(name)
        return None if managed is None or managed.kept is None else managed.kept.certificate

    def http_challenges(self) -> tuple[HTTPChallenge, ...]:
        """What a CA that looks by http-01 is to find now."""
        theirs = () if self._neighbours is None else self._neighbours.http_challenges()
        return (*self._http.challenges(), *theirs)

    def tls_challenges(self) -> tuple[TLSChallenge, ...]:
        """What a CA that looks by tls-alpn-01 is to find now."""
        theirs = () if self._neighbours is None else self._neighbours.tls_challenges()
        return (*self._tls.challenges(), *theirs)

    def status(self, name: str) -> Status:
        """How a name fares; an empty one for a name that nobody knows."""
        managed = self._service.names.get(name)
        if managed is None:
            trouble, kept, schedule = self._failures.get(name), None, None
        else:
            trouble = self._service.trouble(managed)
            kept, schedule = managed.kept, managed.schedule
        next_try = None
        if trouble is not None:
            next_try = _time(trouble.until)
        elif schedule is not None:
            next_try = _time(schedule.due)
        return Status(
            None if kept is None else _time(kept.ends),
            "" if trouble is None else trouble.why,
            next_try,
        )

    def retry(self, name: str) -> None:
        """An operator has put right what made it fail, or believes so: try it now."""
        self._failures.retry(name)
        self._service.look()

    # Somebody waits.

    def obtain(self, name: str) -> Deferred[None]:
        """Somebody connects, and waits: have a certificate for this name soon.

        The data plane's `certificate_wanted`. As often as it is called for a name, there is one order.
        Cancelling ends the waiting, and not the order.

        @param name: as in `want`; it may be any nonsense that a client sends.
        @return: fires when `certificate` has it (and `changed` has returned); fails with
            `NoCertificate`: at once while a failure is too fresh to try again, or if the name may
            have none.
        """
        return Deferred.fromCoroutine(self._obtain(name))

    async def _obtain(self, name: str) -> None:
        if not self._service.running:
            raise NoCertificate(STOPPING)
        if name not in self._service.names:
            await self._admitting.run(name, lambda: self._admit(name))
        managed = self._service.names.get(name)
        if managed is None:
            raise NoCertificate("it is not wanted any more")
        await self._service.obtain(managed)

    async def _admit(self, name: str) -> None:
        """Let a name that is not wanted have a certificate all the same.

        @raise NoCertificate: it may not.
        """
        check_name(name)
        if not self._on_demand.possible(name):
            raise Refused("it is not one of ours")
        try:
            kept = await find(self._store, name, self._clock.seconds())
        except OSError as error:
            raise NoCertificate(f"certificates can't be read: {error}") from error
        managed = Managed(name, wanted=False, looked_up=True)
        if kept is not None:
            # It was allowed once. When it is renewed, the application is asked again.
            self._service.take(managed, kept)
        else:
            self._service.check(managed)
            await self._on_demand.ask(name)
            if not self._new_names.take():
                raise NoCertificate("too many new names")
        if self._service.names.setdefault(name, managed) is managed and kept is not None:
            self._service.tell_change()

    # The beginning and the end.

    def start(self) -> None:
        """Read what there is, and begin to issue and renew."""
        self._service.startService()
        if self._neighbours is not None:
            self._neighbours.start()

    def stop(self) -> Deferred[None]:
        """Order and renew no more.

        @return: fires when what is to be remembered is safe.
        """
        if self._neighbours is not None:
            self._neighbours.stop()
        return self._service.stopService() if self._service.running else succeed(None)

    def _now(self) -> datetime:
        return _time(self._clock.seconds())


def make_automatic(
    acme: Acme,
    folder: Path,
    reactor: Any,
    in_thread: InThread,
    changed: Callable[[], object],
    on_demand_url: Callable[[str], str | None],
) -> AutomaticCertificates:
    """What a configuration asks for, with its plug-ins. See `AutomaticCertificates`."""
    dns = None
    try:
        dns = make_dns_responder(acme, reactor, in_thread)
    except AcmeError as error:
        _log.error("DNS-01 can't be used: {error}", error=error)
    shared = make_store(acme, reactor, in_thread)
    return AutomaticCertificates(
        acme, folder, reactor, in_thread, changed, on_demand_url, dns=dns, shared=shared
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _circumstances(acme: Acme) -> str:
    """A word for what an operator may have changed to put right what failed; it tells nothing."""
    secret = "" if acme.eab is None else acme.eab.hmac_key
    return hashlib.sha256(f"{acme!r} {secret}".encode()).hexdigest()[:16]
