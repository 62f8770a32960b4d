"""What metrics show of the workers themselves: plain data."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kproxy.metrics.catalog import Measured

if TYPE_CHECKING:
    from kproxy.workers.crew import Crew

STATES = ("starting", "serving", "leaving")


def measure_crew(crew: Crew | None) -> Measured:
    """How many workers there are, and how many had to be replaced; None: there are never any."""
    states = Counter(() if crew is None else (member.state() for member in crew.members))
    died, restarted = (0, 0) if crew is None else (crew.replaced, crew.restarted)
    return {
        "kproxy_workers": [((state,), [states[state]]) for state in STATES],
        "kproxy_worker_restarts_total": [(("died",), [died]), (("restarted",), [restarted])],
    }
