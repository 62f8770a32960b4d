"""How fast workers that die are replaced: at once, but for those that die again and again."""

from __future__ import annotations

STEADY = 10.0
"""Seconds after which a worker that ends is no sign of a crash loop."""
AT_ONCE = 4
"""Workers that are replaced at once although they did not live for so long."""
LONGEST_DELAY = 30.0


class Pace:
    """Counts those that did not stay up."""

    def __init__(self) -> None:
        self._crashes = 0

    def delay(self, lived: float) -> float:
        """Seconds until a worker in the place of one that lived for so many seconds is started."""
        self._crashes = 1 if lived > STEADY else self._crashes + 1
        return (
            0.0 if not self.is_slow() else min(LONGEST_DELAY, 2.0 ** (self._crashes - AT_ONCE - 1))
        )

    def is_slow(self) -> bool:
        """Whether workers do not stay up."""
        return self._crashes > AT_ONCE

    def reset(self) -> None:
        """Others have come up, and taken over."""
        self._crashes = 0
