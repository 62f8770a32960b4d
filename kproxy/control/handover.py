"""Services that hosts and paths pass between when the configuration file is read again.

A service that gives up a host must not do so before the one that takes it is healthy, or nobody
would answer for it meanwhile. So services that give and take change together, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twisted.internet.defer import Deferred, succeed

from kproxy.config.model import Service
from kproxy.control.deployment import DeploymentFailed
from kproxy.control.serving import claims


class Handover:
    """Waits until all of some services are ready to change."""

    def __init__(self, names: Iterable[str]) -> None:
        self._missing = set(names)
        self._waiting: dict[str, Deferred[None]] = {}
        self._failed = ""

    def ready(self, name: str) -> Deferred[None]:
        """One of them could change now.

        @return: fires when all could, for all of them in one turn; fails with `DeploymentFailed`
            if one of them can't.
        """
        waiting = self._waiting[name] = Deferred()
        self._missing.discard(name)
        if self._failed:
            self.fail(self._failed)
        elif not self._missing:
            ready, self._waiting = self._waiting, {}
            for each in ready.values():
                each.callback(None)
        return waiting

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

    def ready(self, name: str) -> Deferred[None]:
        return succeed(None)

    def fail(self, name: str) -> None:
        """Nobody has to know."""


def handovers(
    before: Iterable[Service], after: Iterable[Service], names: Iterable[str]
) -> Mapping[str, Handover | Alone]:
    """Which services have to change together.

    @param before: those that are served.
    @param after: those that are to be.
    @param names: of all that change, come or go.
    """
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
    made = {id(members): Handover(members) for members in group.values() if len(members) > 1}
    return {name: made.get(id(group[name])) or Alone() for name in names}
