"""When the CA would like certificates to be replaced (RFC 9773)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kproxy.tls.acme.account import Accounts, NoAccount
from kproxy.tls.acme.errors import AcmeError
from kproxy.tls.acme.failures import THE_CA, Failures
from kproxy.tls.acme.keys import Kept, leaf_of
from kproxy.tls.acme.managed import Managed
from kproxy.tls.acme.schedule import Schedule

ASK_AGAIN = 86400.0
"""Seconds until a CA without wishes is asked again for them."""
ASK_AGAIN_AFTER_FAILURE = 3600.0
_log = Logger()


class Wishes:
    """Asks for each certificate as often as the CA wants, and adapts its schedule."""

    def __init__(
        self,
        names: Mapping[str, Managed],
        accounts: Accounts,
        failures: Failures,
        clock: IReactorTime,
        random: Callable[[], float],
    ) -> None:
        self._names = names
        self._accounts = accounts
        self._failures = failures
        self._clock = clock
        self._random = random

    async def ask(self) -> None:
        """Ask for all certificates whose time has come, one after the other."""
        now = self._clock.seconds()
        for managed in list(self._names.values()):
            kept, schedule = managed.kept, managed.schedule
            if kept is None or schedule is None or managed.ordering or now < schedule.ask:
                continue
            if self._failures.waiting(THE_CA):
                return
            await self._ask(managed.name, kept, schedule)

    async def _ask(self, name: str, kept: Kept, schedule: Schedule) -> None:
        schedule.ask = self._clock.seconds() + ASK_AGAIN_AFTER_FAILURE
        try:
            client = await self._accounts.client()
            window = await client.renewal_window(leaf_of(kept.certificate.chain))
        except (AcmeError, NoAccount) as error:
            _log.warn("the CA can't say when to renew {name}: {error}", name=name, error=error)
            return
        if window is None:
            schedule.ask = self._clock.seconds() + ASK_AGAIN
            return
        schedule.ask = self._clock.seconds() + window.retry_after
        start, end = window.start.timestamp(), window.end.timestamp()
        # A wish for a time when the certificate has ended is none.
        if start < kept.ends and schedule.wish(start, end, self._random) and window.explanation:
            _log.info("when to renew {name}, and why: {why}", name=name, why=window.explanation)
