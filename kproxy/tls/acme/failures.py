"""What failed, and how long it is left alone: nothing is asked of a CA again and again.

There is one of these for each host name, and one for the CA as a whole, which stands for what
has nothing to do with the name: the CA is down, or wants no account of ours. All of it is
remembered across restarts, since a proxy that is restarted in a loop must not hammer either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kproxy.tls.acme.account import NoAccount
from kproxy.tls.acme.errors import URN, AcmeError, BadAnswer, Unreachable
from kproxy.tls.acme.interfaces import FailureMemory
from kproxy.tls.acme.shared import Chore

FIRST_WAIT = 60.0
LONGEST_WAIT = 6 * 3600.0
LONGEST_RETRY_AFTER = 7 * 86400.0
"""Seconds. The longest limits of Let's Encrypt are over after a week."""
JITTER = 0.1
"""How much longer than that a wait may be, so that a thousand names do not come back as one."""
FORGET_AFTER = 86400.0
"""Seconds after the end of its wait at which a failure is no news any more."""
THE_CA = ""
"""The name that stands for the CA as a whole."""
_ABOUT_US = frozenset(
    URN + name
    for name in (
        "accountDoesNotExist",
        "badNonce",
        "badPublicKey",
        "badSignatureAlgorithm",
        "externalAccountRequired",
        "serverInternal",
        "userActionRequired",
    )
)
"""What a CA says of an account, or of itself, in the middle of an order."""
_log = Logger()


@dataclass(frozen=True, slots=True)
class Trouble:
    """The last failure of one name."""

    times: int
    """How many there were in a row."""
    until: float
    """Seconds since 1970 until which it is not tried again."""
    why: str


def is_about_all(error: BaseException) -> bool:
    """Whether an order for another name would have failed too."""
    if isinstance(error, AcmeError):
        unwell = isinstance(error, (Unreachable, BadAnswer)) or error.status >= 500
        return unwell or error.type in _ABOUT_US
    return isinstance(error, (NoAccount, OSError))


class Failures:
    """Failures by name."""

    def __init__(
        self,
        store: FailureMemory,
        clock: IReactorTime,
        random: Callable[[], float],
        circumstances: str = "",
    ) -> None:
        """@param circumstances: whatever failed under others is worth another try.
        @param clock: whose seconds are those since 1970.
        @param random: gives a number from 0 to 1."""
        self._store = store
        self._clock = clock
        self._random = random
        self._circumstances = circumstances
        self._troubles: dict[str, Trouble] = {}
        self._insisted: set[str] = set()
        self._saving = Chore(self._save_all)
        self._changed = False

    async def load(self) -> None:
        """Remember what was known when the proxy ran last.

        @raise OSError: it can't be read.
        """
        latest = self._clock.seconds() + LONGEST_RETRY_AFTER
        kept = await self._store.failures()
        names = kept.get("names")
        if kept.get("circumstances") != self._circumstances or not isinstance(names, dict):
            return
        for name, data in names.items():
            try:
                until = min(float(data["until"]), latest)  # the clock may have been set back
                trouble = Trouble(int(data["times"]), until, str(data["why"]))
            except (TypeError, KeyError, ValueError, OverflowError):
                continue  # what can't be understood is no reason to wait
            self._troubles[name] = trouble

    def get(self, name: str) -> Trouble | None:
        """The last failure; None: there was none, or it has worked since."""
        return self._troubles.get(name)

    def insisted(self, name: str) -> bool:
        """Whether it is tried because an operator wants it to be."""
        return name in self._insisted

    def next_wait(self, name: str, retry_after: float | None = None) -> float:
        """Seconds, at least, that a name would be left alone if it failed now."""
        before = self._troubles.get(name)
        times = 0 if before is None else before.times
        wait = min(FIRST_WAIT * 2.0 ** min(times, 20), LONGEST_WAIT)
        return wait if retry_after is None else max(wait, min(retry_after, LONGEST_RETRY_AFTER))

    def waiting(self, name: str) -> bool:
        """Whether it is too early to try again."""
        trouble = self._troubles.get(name)
        return trouble is not None and self._clock.seconds() < trouble.until

    def failed(self, name: str, why: str, retry_after: float | None = None) -> Trouble:
        """It failed: wait longer than the last time, and as long as the CA asks for."""
        before = self._troubles.get(name)
        times = 1 if before is None else before.times + 1
        jitter = 1 + JITTER * self._random()
        wait = max(self.next_wait(name) * jitter, self.next_wait(name, retry_after))
        self._insisted.discard(name)
        trouble = Trouble(times, self._clock.seconds() + wait, why)
        self._troubles[name] = trouble
        self._save()
        return trouble

    def worked(self, name: str) -> None:
        """It did not fail."""
        self._insisted.discard(name)
        if self._troubles.pop(name, None) is not None:
            self._save()

    def retry(self, name: str) -> None:
        """Somebody has looked after it: it may be tried now. If it fails again, the next wait is
        longer all the same."""
        self._insisted.add(name)
        for each in (name, THE_CA):
            trouble = self._troubles.get(each)
            if trouble is not None:
                self._troubles[each] = replace(trouble, until=self._clock.seconds())

    def saved(self) -> Deferred[None]:
        """@return: fires when everything is safe that was told so far."""
        return self._saving.ended()

    def _save(self) -> None:
        """Save what is known now; what changes meanwhile is saved next, all of it at once."""
        self._changed = True
        self._saving.start()

    async def _save_all(self) -> None:
        while self._changed:
            self._changed = False
            self._forget(self._clock.seconds() - FORGET_AFTER)
            names = {name: asdict(trouble) for name, trouble in self._troubles.items()}
            data = {"circumstances": self._circumstances, "names": names}
            try:
                await self._store.store_failures(data)
            except Exception as error:
                _log.error("failures can't be remembered: {error}", error=error)

    def _forget(self, before: float) -> None:
        self._troubles = {n: t for n, t in self._troubles.items() if t.until > before}
