"""The services of the last run, at boot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.logger import Logger

from kproxy.config.model import Service
from kproxy.control.deployment import Checks
from kproxy.control.serving import DataPlane, Entry, RolledOut, Serving
from kproxy.control.state import SavedRollout, State
from kproxy.snapshot import Snapshot

_log = Logger()


def restore(
    state: State,
    serving: Serving,
    data_plane: DataPlane,
    checks_of: Callable[[Service], Checks],
) -> list[str]:
    """Let what the state has be served, without its having been checked. A service that the data
    plane does not take is left out, and reported. The configuration file has the options of wrappers;
    and what it had once and has not any more is not restored.

    @param checks_of: makes checks that begin with healthy targets.
    @return: what is left out, and why.
    """
    failures = []
    declared = serving.declared
    for record in [record for record in state.records if record.proven]:
        service, name = record.service, record.service.name
        now = declared.get(name)
        if now is None and record.heeded is not None:
            continue
        if now is not None:
            service = replace(service, wrappers=now.wrappers)
        rollout = restored_rollout(service, record.rollout, checks_of)
        serving.entries[name] = Entry(
            checks_of(service), record.heeded, record.gate, rollout=rollout
        )
    serving.removed = {name: mark for name, mark in state.removed.items() if name in declared}
    for each in serving.snapshot().services:
        name = each.service.name
        try:
            data_plane.apply(Snapshot((each,)))
        except Exception as error:
            del serving.entries[name]
            failures.append(f"{name} can't be restored: {error}")
            _log.error("{message}", message=failures[-1])
    if serving.entries:
        _log.info("restored {services}", services=", ".join(serving.entries))
    return failures


def restored_rollout(
    service: Service, saved: SavedRollout | None, checks_of: Callable[[Service], Checks]
) -> RolledOut | None:
    """The rollout of a service again."""
    if saved is None:
        return None
    rolled_out = replace(service, targets=saved.targets, read_targets=saved.read_targets)
    return RolledOut(checks_of(rolled_out), saved.split)
