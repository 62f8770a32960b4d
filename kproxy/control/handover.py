"""Services that hosts and paths pass between when the configuration file is read again.

A service that gives up a host must not do so before the one that takes it is healthy, or nobody
would answer for it meanwhile. So services that give and take change together, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twisted.internet.defer import Deferred, fail, succeed

from kproxy.control.deployment import DeploymentFailed
from kproxy.control.serving import Change, Serving, claims


class Handover:
    """Waits until all of some services are ready to change."""

    def __init__(self, serving: Serving, names: Iterable[str]) -> None:
        self._serving = serving
        self._missing = set(names)
        self._changes: list[Change] = []
        self._waiting: dict[str, Deferred[None]] = {}
        self._failed = ""

    def ready(self, name: str, change: Change) -> Deferred[None]:
        """One of them could change now.

        @param change: makes the change; it is published with those of the others.
        @return: fires when all have changed; fails with `DeploymentFailed` if one of them can't,
            and then none has.
        """
        waiting = self._waiting[name] = Deferred()
        self._missing.discard(name)
        self._changes.append(change)
        if self._failed:
            self.fail(self._failed)
        elif not self._missing:
            self._change()
        return waiting

    def _change(self) -> None:
        ready, self._waiting = self._waiting, {}
        try:
            self._serving.change(self._changes)
        except Exception as error:
            for name, each in ready.items():
                each.errback(DeploymentFailed(f"{name}: {error}"))
        else:
            for each in ready.values():
                each.callback(None)

    def fail(self, name: str) -> None:
        """One of them can't change; nor can the others, then."""
        self._failed = self._failed or name
        waiting, self._waiting = self._waiting, {}
        for other, each in waiting.items():
            each.errback(
                DeploymentFailed(
                    f"{other}: it changes hosts or paths with {name}, which has failed"
                )
            )


class Alone:
    """In the place of a `Handover`, for a service that no other one waits for."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def ready(self, name: str, change: Change) -> Deferred[None]:
        try:
            self._serving.change([change])
        except Exception as error:
            return fail(DeploymentFailed(f"{name}: {error}"))
        return succeed(None)

    def fail(self, name: str) -> None:
        """Nobody has to know."""


def handovers(serving: Serving, names: Iterable[str]) -> Mapping[str, Handover | Alone]:
    """Which services have to change together to be as the configuration file says.

    @param names: of all that change, come or go.
    """
    before = [entry.service for entry in serving.entries.values()]
    after = serving.declared.values()
    names = list(names)
    group = {name: {name} for name in names}
    holders = {claim: service.name for service in before for claim in claims(service)}
    for taker in after:
        for claim in claims(taker):
            giver = holders.get(claim, taker.name)
            if taker.name in group and giver in group and group[giver] is not group[taker.name]:
                group[giver] |= group[taker.name]
                for name in group[giver]:
                    group[name] = group[giver]
    made = {
        id(members): Handover(serving, members) for members in group.values() if len(members) > 1
    }
    return {name: made.get(id(group[name])) or Alone(serving) for name in names}
