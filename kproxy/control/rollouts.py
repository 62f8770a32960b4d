"""Rollouts: a second set of targets that a part of a service's visitors is served by.

As kamal-proxy has it, the targets are one thing and who goes there is another: ``rollout deploy``
replaces the targets, ``rollout set`` says who, and ``rollout stop`` says nobody, after which the
targets can still be set again. A deployment of the service itself leaves its rollout as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from kproxy.config.model import Target
from kproxy.control.changes import Changes
from kproxy.control.deployment import Checks, DeploymentFailed, OperationFailed
from kproxy.control.options import rolled_out
from kproxy.control.progress import Tell, untold
from kproxy.control.serving import RolledOut, UnknownService
from kproxy.snapshot import Split

_log = Logger()


class NoRollout(OperationFailed):
    """A service has no targets for a rollout."""

    def __init__(self, name: str) -> None:
        super().__init__(f"rollout target not set: {name}; rollout deploy comes first")


class Rollouts:
    """The rollouts of the services that are served."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._serving = changes.serving

    def deploy(self, name: str, options: Mapping[str, Any], tell: Tell = untold) -> Deferred[None]:
        """Give a rollout new targets, once all of them are healthy; it waits for other operations
        on the service, and cancelled, it leaves everything as it was.

        @param options: see `kproxy.control.options.rolled_out`.
        @return: fires when the requests of targets that nobody is sent to any more have ended;
            fails with `DeploymentFailed`, and then the rollout is as it was.
        @raise BadFlag: an option is wrong.
        """
        entry = self._serving.entries.get(name)
        if entry is None:
            return fail(UnknownService(name))
        rolled_out(entry.service, options)
        return Deferred.fromCoroutine(self._deploy(name, options, tell))

    async def _deploy(self, name: str, options: Mapping[str, Any], tell: Tell) -> None:
        changes = self._changes
        if changes.turns.busy(name):
            tell({"event": "queued", "service": name})
        async with changes.deploying(name):
            wanted = rolled_out(self._serving.entry(name).service, options)
            checks = await changes.healthy(changes.deployment(wanted, tell))
            gone = self._switch(checks)
            targets = [str(target) for target in wanted.targets]
            _log.info(
                "deployed the rollout of {service}: {targets}",
                service=name,
                targets=", ".join(targets),
            )
            tell({"event": "switched", "service": name, "targets": targets, "rollout": True})
            saved = changes.saving.now(tell)
        await changes.finish(name, gone, wanted.drain_timeout, saved, tell)

    def _switch(self, checks: Checks) -> list[Target]:
        """All targets are healthy: give them every request of the rollout from now on.

        @return: the targets that get none any more.
        """
        name = checks.service.name
        entry = self._serving.entry(name)
        before, old = entry.served(), entry.rollout
        entry.rollout = RolledOut(checks, None if old is None else old.split)
        checks.follow(self._serving.publish_soon)
        try:
            self._serving.publish()
        except Exception as error:
            checks.stop()
            entry.rollout = old
            raise DeploymentFailed(f"{name}: {error}") from error
        if old is not None:
            old.checks.stop()
        return entry.not_served(before)

    def set(self, name: str, split: Split, tell: Tell = untold) -> Deferred[None]:
        """Say who goes to the targets of a rollout, from the next request on.

        @return: fires when that is safe; fails with `NoRollout` if it has no targets.
        """
        return Deferred.fromCoroutine(self._set(name, split, tell))

    def stop(self, name: str, tell: Tell = untold) -> Deferred[None]:
        """Let nobody go to the targets of a rollout any more; nothing is done if there is none.

        @return: fires when the requests that they have had have ended.
        """
        return Deferred.fromCoroutine(self._set(name, None, tell))

    async def _set(self, name: str, split: Split | None, tell: Tell) -> None:
        # It waits for no other operation: to stop is most urgent while something else goes wrong.
        entry = self._serving.entry(name)
        rollout = entry.rollout
        if rollout is None:
            if split is None:
                return
            raise NoRollout(name)
        before, rollout.split = entry.served(), split
        self._serving.publish()
        _log.info("the rollout of {service} is for {split}", service=name, split=split or "nobody")
        gone, timeout = entry.not_served(before), entry.service.drain_timeout
        await self._changes.finish(name, gone, timeout, self._changes.saving.now(tell), tell)
