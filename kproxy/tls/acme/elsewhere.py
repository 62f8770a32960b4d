"""What other servers that share a store have failed at, so that together they ask a CA no more often
than one would.

Each counts its failures by itself (`kproxy.tls.acme.failures`). Who has tried leaves a note, until when
the name is to be left alone, before it gives the lock back. Who gets the lock next takes that for a
failure of its own, and waits as long as if it had asked.
"""

from __future__ import annotations

import json

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kproxy.tls.acme.interfaces import CertificateStore, NoCertificate

NOTE = "failure"
"""As what the store has it."""
_log = Logger()


class Elsewhere:
    """Failures of those who share a store. To be asked and told by who holds the lock of the name."""

    def __init__(self, store: CertificateStore, clock: IReactorTime, circumstances: str) -> None:
        """@param circumstances: what failed under others says nothing."""
        self._store = store
        self._clock = clock
        self._circumstances = circumstances

    async def check(self, name: str) -> None:
        """@raise NoCertificate: somebody has tried, and it is too early to try again.
        @raise OSError: that can't be told."""
        text = (await self._store.notes(NOTE)).get(name)
        try:
            note = json.loads(text or "{}")
            same = note["circumstances"] == self._circumstances
            why, until = str(note["why"]), float(note["until"])
        except (KeyError, TypeError, ValueError):
            return
        if same and self._clock.seconds() < until:
            raise NoCertificate(f"another server has tried: {why}")

    async def failed(self, name: str, why: str, wait: float) -> None:
        """@param wait: seconds in which nobody is to try again."""
        until = self._clock.seconds() + wait
        note = {"why": why, "until": until, "circumstances": self._circumstances}
        try:
            await self._store.write_note(NOTE, name, json.dumps(note))
        except OSError as error:
            _log.error("other servers can't be told what failed: {error}", error=error)

    async def worked(self, name: str) -> None:
        """There is a certificate."""
        try:
            await self._store.remove_note(NOTE, name)
        except OSError as error:
            _log.error("other servers can't be told what worked: {error}", error=error)
