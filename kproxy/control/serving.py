"""What is served now: the one place that tells the data plane.

The configuration file and the command line both say what a service is; what was said last wins,
for each service on its own. A file that is read again has said something new of a service only if
it differs there from what it said before. So for each service the fingerprint of the file's last
word is kept with it (`Entry.heeded`), across restarts too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kproxy.config.model import Service, Target
from kproxy.control.certificates import Certificates, same
from kproxy.control.deployment import Checks, DeploymentFailed, OperationFailed
from kproxy.control.marshal import fingerprint
from kproxy.control.roots import follow_roots
from kproxy.control.state import Gate, Record, SavedRollout, State
from kproxy.snapshot import Rollout, ServiceState, Snapshot, Split
from kproxy.tls.checked import Checked

Change = Callable[[], None]
"""Puts other things into the `entries` of a `Serving`, or takes some out."""


class UnknownService(OperationFailed):
    """There is no service of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"service not found: {name}")


class HostInUse(DeploymentFailed):
    """Another service has a host and path that were asked for."""

    def __init__(self, holder: str, asking: str = "") -> None:
        """@param holder: that other service.
        @param asking: the one that asks, where that is not clear."""
        who = f"{asking}: " if asking else ""
        super().__init__(f"{who}host is used by another service ({holder})")


class DataPlane(Protocol):
    """The only way from here to the data plane: `kproxy.dataplane.DataPlane`, or many of them in
    other processes (`kproxy.workers.pool.Workers`)."""

    target_refused: Callable[[str, Target], object]

    def apply(self, snapshot: Snapshot) -> Deferred[None]: ...
    def drain(self, service: str, targets: Sequence[Target], timeout: float) -> Deferred[None]: ...
    def report(self) -> dict[str, list[Any]]: ...
    def refresh(self) -> Deferred[None]: ...


@dataclass
class RolledOut:
    """The targets of a rollout, and who goes there; split None: nobody."""

    checks: Checks
    split: Split | None = None

    def saved(self) -> SavedRollout:
        """What a restart should find."""
        service = self.checks.service
        return SavedRollout(service.targets, service.read_targets, self.split)


@dataclass
class Entry:
    """One service that is served.

    @ivar heeded: the fingerprint of what the configuration file had said of the service when it
        came to be served like this; None: nothing. When the file says the same, it says nothing
        new.
    @ivar proven: all its targets have been healthy, so that it may be served after a restart.
    @ivar custom: its certificate, if it has one of its own that could be read.
    @ivar custom_failure: why that could not be read, the last time it was tried.
    """

    checks: Checks
    heeded: str | None = None
    gate: Gate = field(default_factory=Gate)
    proven: bool = True
    rollout: RolledOut | None = None
    custom: Checked | None = None
    custom_failure: str = ""

    @property
    def service(self) -> Service:
        return self.checks.service

    def all_checks(self) -> tuple[Checks, ...]:
        return (self.checks,) if self.rollout is None else (self.checks, self.rollout.checks)

    def healthy(self) -> tuple[Target, ...]:
        """Those of its targets that get requests."""
        return self.checks.healthy()

    def state(self, service: Service) -> ServiceState:
        """What the data plane is told.

        @param service: with the options that hold for it.
        """
        gate, rollout = self.gate, None
        if self.rollout is not None and self.rollout.split is not None:
            checks = self.rollout.checks
            other = checks.service
            rollout = Rollout(
                other.targets, other.read_targets, checks.healthy(), self.rollout.split
            )
        return ServiceState(
            service, self.healthy(), gate.state, gate.message, gate.max_pause, rollout
        )

    def served(self) -> tuple[Target, ...]:
        """All targets that requests may go to."""
        return self.state(self.service).targets()

    def not_served(self, before: Iterable[Target]) -> list[Target]:
        """Which of those that were served before are not any more."""
        now = set(self.served())
        return [target for target in before if target not in now]

    def record(self) -> Record | None:
        """What a restart should find; None: nothing worth it."""
        rollout = None if self.rollout is None else self.rollout.saved()
        if not self.proven and rollout is None and self.gate == Gate():
            return None
        return Record(self.service, self.gate, self.heeded, rollout, self.proven)

    def stop(self) -> None:
        """Check no more."""
        for checks in self.all_checks():
            checks.stop()


REST = 10
"""How many times as long as it takes to publish the health of targets nothing is published of it."""


class Serving:
    """The services that are served, by name.

    @ivar declared: the services of the configuration file, as it was read last.
    @ivar removed: services that are not served although the configuration file has them, since they
        were removed after it had said so; with its fingerprint.
    """

    def __init__(
        self,
        data_plane: DataPlane,
        clock: IReactorTime,
        certificates: Certificates,
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        """@param elapsed: seconds, by a clock that does not stand still while this works."""
        self.entries: dict[str, Entry] = {}
        self.declared: dict[str, Service] = {}
        self.removed: dict[str, str] = {}
        self._data_plane = data_plane
        self._clock = clock
        self._certificates = certificates
        self._states: dict[str, ServiceState] = {}
        self._own: list[Service] = []
        self._followed: Mapping[str, Service] = {}
        self._soon: IDelayedCall | None = None
        self._elapsed = elapsed or clock.seconds
        self._rest = 0.0

    def heeded(self, name: str) -> str | None:
        """The last word of the configuration file on a service that has been followed or
        overruled."""
        entry = self.entries.get(name)
        return self.removed.get(name) if entry is None else entry.heeded

    def mark(self, name: str) -> str | None:
        """The fingerprint of what the configuration file says of a service now; None: nothing."""
        declared = self.declared.get(name)
        return None if declared is None else fingerprint(declared)

    def entry(self, name: str) -> Entry:
        """@raise UnknownService: there is none."""
        entry = self.entries.get(name)
        if entry is None:
            raise UnknownService(name)
        return entry

    def held(self, names: Iterable[str]) -> dict[tuple[str, str], str]:
        """Which of these services has which host and path."""
        entries = self.entries
        return {claim: name for name in names for claim in claims(entries[name].service)}

    def holder(self, service: Service) -> str | None:
        """The name of another service that has a host and path which this one wants."""
        return holder(service, self.held(name for name in self.entries if name != service.name))

    def snapshot(self) -> Snapshot:
        """What is served now; a service that has not changed has the same state as before."""
        services = self._services()
        states = {}
        for name, entry in self.entries.items():
            new = entry.state(services[name])
            old = self._states.get(name)
            same = old is not None and old.service is new.service and old == new
            states[name] = old if old is not None and same else new
        tls = self._certificates
        return Snapshot(
            services=tuple(states.values()),
            tls=tls.tls(self.entries, self._own),
            on_demand=tls.on_demand,
            http_challenges=tls.http_challenges(),
            tls_challenges=tls.tls_challenges(),
        )

    def _services(self) -> Mapping[str, Service]:
        """The services with the options that hold, after a look at those on the root paths."""
        own = [entry.checks.service for entry in self.entries.values()]
        if not same(own, self._own):
            self._own = own
            self._followed = follow_roots({each.name: each for each in own}, self._followed)
        return self._followed

    def secure(self, name: str) -> bool:
        """Whether a service is served by HTTPS: by its own options, or those of its host's root."""
        state = self._states.get(name)
        return state is not None and bool(state.service.ssl)

    def publish(self) -> Deferred[None]:
        """Let the data plane serve what is served now.

        @return: fires when all of it does. Whoever drains targets then need not wait for it: a data
            plane does one after the other.
        @raise kproxy.tree.WrapperFailed: a wrapper does not take its options; nothing has changed.
        """
        snapshot = self.snapshot()
        applied = self._data_plane.apply(snapshot)
        self.close()  # only now: what is refused must not take along the news of a target
        self._states = {state.service.name: state for state in snapshot.services}
        self._certificates.follow()
        return applied

    def change(self, changes: Iterable[Change]) -> None:
        """Make changes, and let the data plane serve what has come of them: all in one, or none.

        @raise kproxy.tree.WrapperFailed: a wrapper does not take its options; nothing has changed.
        """
        entries, removed = dict(self.entries), dict(self.removed)
        try:
            for change in changes:
                change()
            self.publish()
        except Exception:
            for now, before in ((self.entries, entries), (self.removed, removed)):
                now.clear()
                now.update(before)  # type: ignore[arg-type]
            self.snapshot()  # so that certificates, too, are planned for what is served
            raise

    def publish_soon(self) -> None:
        """The health of a target has changed; whatever else changes meanwhile goes along. With many
        services, of which each has such news at a boot, publishing would be all that is done."""
        if self._soon is None:
            self._soon = self._clock.callLater(self._rest, self._publish_now)

    def _publish_now(self) -> None:
        self._soon = None
        began = self._elapsed()
        self.publish()
        self._rest = REST * (self._elapsed() - began)

    def close(self) -> None:
        """Publish nothing that is not asked for."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    def state(self) -> State:
        """What a restart should find."""
        records = (entry.record() for entry in self.entries.values())
        return State(tuple(filter(None, records)), dict(self.removed))


def claims(service: Service) -> set[tuple[str, str]]:
    """The hosts (none: any) and path prefixes that a service is reached by."""
    return {(host, prefix) for host in service.hosts or ("",) for prefix in service.path_prefixes}


def holder(service: Service, held: Mapping[tuple[str, str], str]) -> str | None:
    """Who has a host and path that a service wants."""
    return next((held[claim] for claim in sorted(claims(service)) if claim in held), None)
