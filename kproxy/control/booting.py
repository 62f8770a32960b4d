"""The beginning: nothing is served yet, so that a service need not be whole to be of use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kproxy.config.model import Service
from kproxy.control.deployment import Checks, addresses
from kproxy.control.health import Ask
from kproxy.control.restoring import restore, restored_rollout
from kproxy.control.saving import Saving
from kproxy.control.serving import DataPlane, Entry, Serving, holder
from kproxy.control.state import Record, State

_log = Logger()


class Boot:
    """Serves what the last run did, with all targets taken for healthy; and those services of the
    configuration file that are new, each as soon as one of its targets is healthy."""

    def __init__(
        self,
        serving: Serving,
        saving: Saving,
        data_plane: DataPlane,
        clock: IReactorTime,
        ask: Ask,
    ) -> None:
        self._serving = serving
        self._saving = saving
        self._data_plane = data_plane
        self._clock = clock
        self._ask = ask
        self._late: dict[str, IDelayedCall] = {}
        self._fresh: list[Service] = []
        self._healthy: Mapping[str, Collection[str]] = {}

    def prepare(
        self, state: State, healthy: Mapping[str, Collection[str]] = MappingProxyType({})
    ) -> list[str]:
        """Serve.

        @param healthy: the addresses of those targets of a service that are known to be healthy, if
            anything is known of it.
        @return: what can't be served any more, and why.
        @raise kproxy.tree.WrapperFailed: a wrapper does not take its options.
        """
        serving = self._serving
        self._healthy = healthy
        failures = restore(state, serving, self._data_plane, self._healthy_checks)
        unproven = {r.service.name: r for r in state.records if not r.proven}
        taken = serving.held(serving.entries)
        self._fresh = [
            service
            for name, service in serving.declared.items()
            if name not in serving.entries
            and serving.heeded(name) != serving.mark(name)
            and holder(service, taken) is None
        ]
        for service in self._fresh:
            entry = self._fresh_entry(service, unproven.get(service.name))
            serving.entries[service.name] = entry
        serving.publish()
        return failures

    def begin(self) -> None:
        """Check the targets of what is served."""
        for entry in self._serving.entries.values():
            for checks in entry.all_checks():
                checks.start()
        for service in self._fresh:
            self._late[service.name] = self._clock.callLater(
                service.deploy_timeout, self._report_late, service.name
            )

    def _fresh_entry(self, service: Service, before: Record | None) -> Entry:
        """@param before: what the last run left of it, which did not get to serve it whole."""
        name = service.name
        healthy = self._healthy.get(name, ())
        checks = Checks(service, self._clock, self._ask, self._changed_of(name), healthy=healthy)
        entry = Entry(checks, self._serving.mark(name), proven=False)
        if before is not None:
            entry.gate = before.gate
            entry.rollout = restored_rollout(service, before.rollout, self._healthy_checks)
        return entry

    def _healthy_checks(self, service: Service) -> Checks:
        soon = self._serving.publish_soon
        healthy = self._healthy.get(service.name, addresses(service))
        return Checks(service, self._clock, self._ask, soon, healthy=healthy)

    def _changed_of(self, name: str) -> Callable[[], None]:
        def changed() -> None:
            entry = self._serving.entries.get(name)
            if entry is not None and not entry.proven and entry.checks.all_healthy():
                entry.proven = True
                self.forget(name)
                self._saving.soon()
            self._serving.publish_soon()

        return changed

    def _report_late(self, name: str) -> None:
        del self._late[name]
        checks = self._serving.entries[name].checks
        if not checks.all_healthy():
            _log.error(
                "{service} is not healthy after {timeout:g} s, and is tried on: {why}",
                service=name,
                timeout=checks.service.deploy_timeout,
                why=checks.why_not(),
            )

    def forget(self, name: str) -> None:
        """A service is whole, or served in another way now: nobody waits for it any more."""
        late = self._late.pop(name, None)
        if late is not None:
            late.cancel()

    def close(self) -> None:
        """Report nothing more."""
        for name in list(self._late):
            self.forget(name)
