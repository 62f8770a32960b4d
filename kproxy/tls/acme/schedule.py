"""When a certificate is to be replaced: pure rules.

    begins                                  due              ends
      |--------------- 2/3 ------------------|-- a bit --|-----|

By default that is when less than a third of its life is left, a bit later for some than for
others. A CA that publishes when it would like it to be (RFC 9773) knows better: it may have to
revoke the certificate tomorrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

LEFT = 1 / 3
"""Of its life, when it is replaced."""
SPREAD = 1 / 30
"""Of its life, over which renewals are spread: three days of ninety."""
PANIC = 1 / 6
"""Of its life: if replacing it has failed until then, somebody has to look."""


SOONEST = 86400.0
SOONEST_WISH = 3600.0
"""Seconds for which a new certificate is kept in any case (but no longer than for half its life): if
the clock is wrong, or a CA makes a mistake, each new one would be due at once, and so on."""


def default_time(begins: float, ends: float, random: Callable[[], float]) -> float:
    """When a certificate is replaced if the CA has no wishes; seconds since 1970.

    @param random: gives a number from 0 to 1.
    """
    life = ends - begins
    return ends - life * (LEFT - SPREAD * random())


@dataclass(slots=True)
class Schedule:
    """When one certificate is replaced. Times are seconds since 1970."""

    due: float
    ask: float
    """When to ask the CA for its wishes (again)."""
    earliest: float = 0.0
    """What the CA wishes is not heeded before."""
    window: tuple[float, float] | None = None
    """What it said last."""

    def wish(self, start: float, end: float, random: Callable[[], float]) -> bool:
        """The CA wishes the certificate to be replaced between two times.

        A time between them is picked once: one more at every question would favour early ones.

        @return: whether that was news.
        """
        if (start, end) == self.window:
            return False
        self.window = (start, end)
        self.due = max(self.earliest, start + max(0.0, end - start) * random())
        return True


def schedule_of(
    begins: float, ends: float, now: float, random: Callable[[], float], *, new: bool
) -> Schedule:
    """The plan for a certificate of which the CA's wishes are not known yet.

    @param new: it was issued just now.
    """
    schedule = Schedule(default_time(begins, ends, random), ask=now)
    if new:
        half = (ends - begins) / 2
        schedule.due = max(schedule.due, now + min(SOONEST, half))
        schedule.earliest = now + min(SOONEST_WISH, half)
    return schedule
