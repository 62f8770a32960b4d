"""What the control plane tells the data plane: plain, immutable data.

A snapshot says everything that requests depend on. It can be printed, compared, and sent to another
process; a data plane that was given one needs to know nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kproxy.config.model import Service, Target

GateState = Literal["running", "paused", "stopped"]


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service as it is to be served from now on."""

    service: Service
    healthy: tuple[Target, ...] = ()
    """Those of its targets that get requests; none: 503."""
    gate: GateState = "running"
    message: str = ""
    """What visitors of a stopped service read."""
    max_pause: float = 30.0
    """Seconds that a paused service holds a request."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is served."""

    services: tuple[ServiceState, ...] = ()
