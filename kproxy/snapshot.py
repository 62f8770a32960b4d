"""What the control plane tells the data plane: plain, immutable data.

A snapshot says everything that requests depend on. It can be printed, compared, and sent to another
process; a data plane that was given one needs to know nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kproxy.config.model import Service, Target

GateState = Literal["running", "paused", "stopped"]


@dataclass(frozen=True, slots=True)
class Split:
    """Who is in a rollout, by the value of the cookie ``kamal-rollout``."""

    percent: int = 0
    """Of all values."""
    allowed: tuple[str, ...] = ()
    """Values that are, whatever `percent` says."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A second set of targets, for a part of the visitors; without a healthy one, a service's own
    targets stand in."""

    targets: tuple[Target, ...]
    read_targets: tuple[Target, ...] = ()
    healthy: tuple[Target, ...] = ()
    """Those of either kind that get requests."""
    split: Split = Split()


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service as it is to be served from now on."""

    service: Service
    healthy: tuple[Target, ...] = ()
    """Those of its targets and read targets that get requests; no target: 503."""
    gate: GateState = "running"
    message: str = ""
    """What visitors of a stopped service read."""
    max_pause: float = 30.0
    """Seconds that a paused service holds a request."""
    rollout: Rollout | None = None

    def targets(self) -> tuple[Target, ...]:
        """All that may get requests while they are healthy, of any kind, each once."""
        rollout = self.rollout
        own = (*self.service.targets, *self.service.read_targets)
        more = () if rollout is None else (*rollout.targets, *rollout.read_targets)
        return tuple(dict.fromkeys(own + more))

    def has_readers(self) -> bool:
        """Whether any visitor's reads go elsewhere than their writes."""
        rollout = self.rollout
        return bool(self.service.read_targets or (rollout is not None and rollout.read_targets))


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a TLS server shows, and proves to own."""

    chain: str
    """PEM, the server's own certificate first."""
    key: str = field(repr=False)
    """PEM, not encrypted."""


@dataclass(frozen=True, slots=True)
class TLSName:
    """A name that TLS is served for."""

    name: str
    """Lower case, without a trailing dot; ``*.example.com`` matches one label."""
    certificate: Certificate | None = None
    """None: it is being had; a handshake asks the control plane for it, and waits."""


@dataclass(frozen=True, slots=True)
class HTTPChallenge:
    """An answer that a CA looks for under ``/.well-known/acme-challenge/`` (RFC 8555 section 8.3)."""

    token: str
    key_authorization: str


@dataclass(frozen=True, slots=True)
class TLSChallenge:
    """A certificate that a CA asks for by the protocol ``acme-tls/1`` (RFC 8737)."""

    name: str
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is served.

    A handshake for a name without a certificate, or, `on_demand`, for one that is not listed, is
    told to the control plane (the data plane's `certificate_wanted`), which answers with a snapshot.
    """

    services: tuple[ServiceState, ...] = ()
    tls: tuple[TLSName, ...] = ()
    """The first serves clients that name no host."""
    on_demand: bool = False
    """Names that are not listed may get a certificate when they are first asked for."""
    http_challenges: tuple[HTTPChallenge, ...] = ()
    tls_challenges: tuple[TLSChallenge, ...] = ()
