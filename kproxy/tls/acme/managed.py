"""One name that is to have a certificate, and how far that has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from kproxy.tls.acme.keys import Kept
from kproxy.tls.acme.schedule import Schedule
from kproxy.tls.acme.shared import Waiting


@dataclass(eq=False, slots=True)
class Managed:
    """What is known of one name."""

    name: str
    wanted: bool
    """False: it was asked for on demand, and its application is asked again when it is renewed."""
    looked_up: bool = False
    """Whether it is known what the store has."""
    kept: Kept | None = None
    schedule: Schedule | None = None
    ordering: bool = False
    waiting: Waiting = field(default_factory=list)

    def served(self, now: float) -> bool:
        """Whether it has a certificate that is not to be waited for."""
        return self.kept is not None and (now < self.kept.ends or not self.due(now))

    def due(self, now: float) -> bool:
        """Whether it needs a (new) certificate."""
        if self.schedule is None:
            return self.wanted or bool(self.waiting)
        return self.schedule.due <= now
