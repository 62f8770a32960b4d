"""Issues and renews: which name is next, what an order is made of, and what follows from its end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure
from txacme.interfaces import IResponder
from txacme.service import AcmeIssuingService

from kproxy.tls.acme.account import Accounts, NoAccount
from kproxy.tls.acme.client import AcmeClient
from kproxy.tls.acme.elsewhere import Elsewhere
from kproxy.tls.acme.errors import RATE_LIMITED, AcmeError
from kproxy.tls.acme.failures import THE_CA, Failures, Trouble, is_about_all
from kproxy.tls.acme.interfaces import CertificateStore, NoCertificate
from kproxy.tls.acme.keys import Kept
from kproxy.tls.acme.managed import Managed
from kproxy.tls.acme.ondemand import Refused
from kproxy.tls.acme.ordering import Orders
from kproxy.tls.acme.schedule import PANIC, schedule_of
from kproxy.tls.acme.shared import Chore, answer, waiter
from kproxy.tls.acme.store import find, good
from kproxy.tls.acme.wishes import Wishes

CHECK_EVERY = 15.0
"""Seconds. A look at all names costs next to nothing, and keeps right when the clock is set."""
ORDERS_AT_ONCE = 4
FEW = 16
"""Names that are looked up one by one; for more, the whole store is read in one go."""
STOPPING = "the proxy is stopping"
_log = Logger()


class IssuingService(AcmeIssuingService):  # type: ignore[misc]
    """txacme's service, for the protocol that today's CAs speak, and for many names.

    Kept are its life as a service, with a timer that has it look for what is due; the client that is
    made when it is first needed, and registered once; one order however many ask for it
    (`issue_cert`); `when_certs_valid`; the interval before the end in which a failure is cause for
    panic; and the contracts of store and responders.

    Replaced are `_register` and `_issue_cert`, which speak ACMEv1, and `_check_certs`: that of
    txacme has one interval for certificates of every length of life, orders all that is due at once
    and again at every check, whatever the CA answered, and knows of no wishes of the CA. So
    `reissue_interval` means nothing here.

    @ivar names: those that are to have certificates. Who adds or removes some calls `look` then.
    """

    def __init__(
        self,
        store: CertificateStore,
        accounts: Accounts,
        reactor: Any,
        responders: list[IResponder],
        failures: Failures,
        permitted: Callable[[str], Coroutine[Any, Any, None]],
        changed: Callable[[], object],
        random: Callable[[], float],
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """@param permitted: raises `NoCertificate` if a name that is not wanted may have none.
        @param changed: called when there is another certificate.
        @param random: gives a number from 0 to 1.
        @param elsewhere: see `Orders`."""
        super().__init__(
            store,
            lambda: Deferred.fromCoroutine(accounts.client()),
            reactor,
            responders,
            check_interval=timedelta(seconds=CHECK_EVERY),
            panic=_panic,
        )
        self.names: dict[str, Managed] = {}
        self._accounts = accounts
        self._failures = failures
        self._orders = Orders(store, reactor, responders, failures, elsewhere)
        self._permitted = permitted
        self._changed = changed
        self._random = random
        self._remembered = False
        self._looking_up = Chore(self._look_up)
        self._wishes = Wishes(self.names, accounts, failures, reactor, random)
        self._asking = Chore(self._ask_for_wishes)
        self._under_way: list[Deferred[None]] = []
        self._beginning = False

    # For who manages the names.

    def look(self) -> None:
        """Do what is to be done now: look up, order, ask."""
        if not self.running:
            return
        if not self._remembered or any(not each.looked_up for each in self.names.values()):
            # Whatever is wrong with the CA: what the store has can be served.
            self._looking_up.start()
            return
        self._order_what_is_due()
        self._asking.start()

    async def obtain(self, managed: Managed) -> None:
        """Wait until a name has a certificate.

        @raise NoCertificate: it can't be had, or not now.
        """
        if managed.served(self._clock.seconds()):
            return
        self.check(managed)
        joined = waiter(managed.waiting)
        self.look()
        await joined

    def check(self, managed: Managed) -> None:
        """@raise NoCertificate: it is too early to order one."""
        trouble = self.trouble(managed)
        if trouble is not None and self._clock.seconds() < trouble.until:
            raise NoCertificate(trouble.why)

    def trouble(self, managed: Managed) -> Trouble | None:
        """Why a name has no certificate, or none that is new."""
        own = self._failures.get(managed.name)
        if managed.schedule is not None and not managed.due(self._clock.seconds()):
            return own
        shared = self._failures.get(THE_CA)
        return shared if own is None or (shared is not None and shared.until > own.until) else own

    def take(self, managed: Managed, kept: Kept, *, new: bool = False) -> None:
        """Use a certificate from now on.

        @param new: it was issued just now.
        """
        managed.looked_up = True
        managed.kept = kept
        managed.schedule = schedule_of(
            kept.begins, kept.ends, self._clock.seconds(), self._random, new=new
        )

    def stopService(self) -> Deferred[None]:
        """@return: fires when nothing is under way, and all is safe that must not be forgotten."""
        stopped = super().stopService()
        under_way = [stopped, self._looking_up.stop(), self._asking.stop(), *self._under_way]
        for ordering, _ in list(self._issuing.values()):
            ordering.cancel()
        self._refuse_waiting(STOPPING)
        return Deferred.fromCoroutine(self._finish(under_way))

    async def _finish(self, under_way: list[Deferred[Any]]) -> None:
        await DeferredList(under_way, consumeErrors=True)
        await self._accounts.close()
        await self._failures.saved()

    # What txacme calls.

    def _check_certs(self) -> None:
        self.look()

    async def _ask_for_wishes(self) -> None:
        await self._wishes.ask()
        self._order_what_is_due()

    def _register(self, client: AcmeClient) -> Deferred[None]:
        async def register() -> None:
            # After trouble, it is worth a request to know that the CA has not forgotten us.
            await self._accounts.register(client, known=self._failures.get(THE_CA) is None)
            self._registered = True

        return Deferred.fromCoroutine(register())

    def _issue_cert(self, client: AcmeClient, server_name: str) -> Deferred[Kept]:
        return Deferred.fromCoroutine(self._order(client, server_name))

    # The store.

    async def _look_up(self) -> None:
        """See what the store has for names that are new."""
        try:
            if not self._remembered:
                await self._failures.load()
                self._remembered = True
            while new := [each for each in self.names.values() if not each.looked_up]:
                if await self._found(new):
                    self.tell_change()
                for managed in new:
                    self._answer_who_came_before(managed)
        except OSError as error:
            self._failed_for_all(f"certificates can't be read: {error}", None)
            return
        self._order_what_is_due()

    def _answer_who_came_before(self, managed: Managed) -> None:
        """Tell visitors what is known now that their name was looked up; else they wait on."""
        now = self._clock.seconds()
        trouble = self.trouble(managed)
        if managed.served(now):
            answer(managed.waiting)
        elif trouble is not None and now < trouble.until:
            answer(managed.waiting, NoCertificate(trouble.why))

    async def _found(self, new: list[Managed]) -> bool:
        """Whether the store has a certificate for any of some names; it is used from now on."""
        everything = await self.cert_store.as_dict() if len(new) > FEW else None
        found = False
        for managed in new:
            now = self._clock.seconds()
            if everything is None:
                kept = await find(self.cert_store, managed.name, now)
            else:
                kept = good(everything.get(managed.name, []), now)
            managed.looked_up = True
            if kept is not None:
                self.take(managed, kept)
                found = True
        return found

    # Orders.

    def _order_what_is_due(self) -> None:
        if self._beginning:
            return  # an order ended while it was begun; the loop below goes on
        self._beginning = True
        try:
            while managed := self._next():
                self._begin(managed)
        finally:
            self._beginning = False

    def _next(self) -> Managed | None:
        """What is to be ordered now; None: nothing, or there is no place."""
        if not self.running or len(self._under_way) >= self._places():
            return None
        now = self._clock.seconds()
        due = [each for each in self.names.values() if self._may_order(each, now)]
        if not due and not self._under_way:
            self._all_tried()
        return min(due, key=_urgency, default=None)

    def _may_order(self, managed: Managed, now: float) -> bool:
        return (
            managed.looked_up
            and not managed.ordering
            and managed.due(now)
            and not self._failures.waiting(managed.name)
            and not self._failures.waiting(THE_CA)
        )

    def _places(self) -> int:
        """After a failure that is not about a name, one order has to show that the CA works."""
        return ORDERS_AT_ONCE if self._failures.get(THE_CA) is None else 1

    def _all_tried(self) -> None:
        """There is nothing that could be done now, which is what `when_certs_valid` waits for."""
        self.ready = True
        answer(self._waiting)

    def _begin(self, managed: Managed) -> None:
        managed.ordering = True
        ended: Deferred[None] = Deferred()
        self._under_way.append(ended)

        def end(result: Any) -> None:
            managed.ordering = False
            self._under_way.remove(ended)
            if isinstance(result, Failure):
                _log.failure("after an order for {name}", result, name=managed.name)
            ended.callback(None)
            self.look()

        ordered: Deferred[Kept] = self.issue_cert(managed.name)
        ordered.addCallbacks(self._got, self._failed, (managed,), {}, (managed,))
        ordered.addBoth(end)

    async def _order(self, client: AcmeClient, name: str) -> Kept:
        managed = self.names.get(name)
        if managed is None:
            raise NoCertificate("it is not wanted any more")
        old = managed.kept
        if not managed.wanted:
            await self._permitted(name)
        return await self._orders.place(client, name, old, self._ensure_registered)

    def _got(self, kept: Kept, managed: Managed) -> None:
        self._failures.worked(managed.name)
        self._failures.worked(THE_CA)
        if self.names.get(managed.name) is managed:
            _log.info("there is a new certificate for {name}", name=managed.name)
            self.take(managed, kept, new=True)
        self.tell_change()
        answer(managed.waiting)

    def _failed(self, failure: Failure, managed: Managed) -> None:
        error: Any = failure.value
        if failure.check(CancelledError):
            answer(managed.waiting, NoCertificate(STOPPING))
            return
        why = str(error)
        if not isinstance(error, (AcmeError, NoAccount, NoCertificate, OSError)):
            _log.failure("the order for {name} broke", failure, name=managed.name)
            why = f"{type(error).__name__}, which is a mistake of kproxy's own; its log has more"
        if self.names.get(managed.name) is managed:
            if is_about_all(error):
                self._failed_for_all(why, getattr(error, "retry_after", None))
            else:
                self._failed_for_one(managed, error, why)
            self._panic_if_late(failure, managed)
            if not managed.wanted and (managed.kept is None or isinstance(error, Refused)):
                del self.names[managed.name]
        self.tell_change()
        answer(managed.waiting, NoCertificate(why))

    def _failed_for_one(self, managed: Managed, error: BaseException, why: str) -> None:
        retry_after = error.retry_after if isinstance(error, AcmeError) else None
        trouble = self._failures.failed(managed.name, why, retry_after)
        _log_trouble(f"no certificate for {managed.name}", trouble, self._clock.seconds())
        if isinstance(error, AcmeError):
            if error.type == RATE_LIMITED:
                # Perhaps it is all of us who ask too often. To leave off for a while is enough: the
                # first order that works says that it was about this name.
                self._failed_for_all(why, None)
            else:
                self._failures.worked(THE_CA)

    def _failed_for_all(self, why: str, retry_after: float | None) -> None:
        """No name can have a certificate. Orders side by side fail together, and count once."""
        if self._failures.waiting(THE_CA):
            return
        self._registered = False
        trouble = self._failures.failed(THE_CA, why, retry_after)
        _log_trouble("certificates can't be had", trouble, self._clock.seconds())
        self._refuse_waiting(why)

    def _panic_if_late(self, failure: Failure, managed: Managed) -> None:
        kept = managed.kept
        if kept is not None:
            panic = min(self.panic_interval.total_seconds(), (kept.ends - kept.begins) * PANIC)
            if kept.ends - self._clock.seconds() <= panic:
                self._panic(failure, managed.name)

    def _refuse_waiting(self, why: str) -> None:
        for managed in list(self.names.values()):
            if not managed.ordering:
                if not managed.wanted and managed.kept is None:
                    self.names.pop(managed.name, None)
                answer(managed.waiting, NoCertificate(why))

    def tell_change(self) -> None:
        try:
            self._changed()
        except Exception:
            _log.failure("what has changed about certificates could not be put to use")


def _urgency(managed: Managed) -> tuple[bool, float]:
    """Least first: where somebody waits, where there is no certificate, where it ends soonest."""
    return not managed.waiting, 0.0 if managed.kept is None else managed.kept.ends


def _log_trouble(what: str, trouble: Trouble, now: float) -> None:
    wait = trouble.until - now
    _log.error("{what}: {why}; next try in {wait:.0f} s", what=what, why=trouble.why, wait=wait)


def _panic(failure: Failure, server_name: str) -> None:
    _log.critical(
        "the certificate for {name} ends soon, and can't be renewed: {error}",
        name=server_name,
        error=failure.getErrorMessage(),
    )
