"""What is new in a snapshot: of thousands of services, a change mostly concerns one.

It is sent as a pickle. The options of wrappers are a third party's objects, of which JSON knows
nothing; both ends are processes of one user, and of one version of kproxy (a worker of a later one,
after ``kproxy restart``, reads the same names). Only workers read pickles, and only those that the
control process wrote: a worker, which handles what strangers send, answers in JSON.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass

from kproxy.snapshot import HTTPChallenge, ServiceState, Snapshot, TLSChallenge, TLSName


class NotPlain(ValueError):
    """Something in a snapshot can't be sent to another process; the text says what."""


@dataclass(frozen=True, slots=True)
class Delta:
    """From one snapshot to the next."""

    services: tuple[ServiceState, ...]
    """Those that are new, or another object than before: the control plane keeps what is the same."""
    gone: tuple[str, ...]
    tls: tuple[TLSName, ...]
    """Those that are new or have changed."""
    names: tuple[str, ...] | None
    """All names that TLS is served for, in their order; None: nothing has changed there."""
    on_demand: bool
    http_challenges: tuple[HTTPChallenge, ...]
    tls_challenges: tuple[TLSChallenge, ...]


def difference(old: Snapshot, new: Snapshot) -> Delta:
    """What has to be said to whoever has the old one."""
    before = {state.service.name: state for state in old.services}
    changed = tuple(s for s in new.services if before.pop(s.service.name, None) is not s)
    tls: tuple[TLSName, ...] = ()
    names = None
    if new.tls is not old.tls:
        known = {each.name: each for each in old.tls}
        tls = tuple(each for each in new.tls if known.get(each.name) != each)
        names = tuple(each.name for each in new.tls)
    return Delta(
        changed,
        tuple(before),
        tls,
        names,
        new.on_demand,
        new.http_challenges,
        new.tls_challenges,
    )


def patched(old: Snapshot, delta: Delta) -> Snapshot:
    """The new snapshot again; what has not changed is the same object as in the old one."""
    services = {state.service.name: state for state in old.services}
    for name in delta.gone:
        del services[name]
    services.update((state.service.name, state) for state in delta.services)
    tls = old.tls
    if delta.names is not None:
        known = {each.name: each for each in (*old.tls, *delta.tls)}
        tls = tuple(known[name] for name in delta.names)
    return Snapshot(
        tuple(services.values()),
        tls,
        delta.on_demand,
        delta.http_challenges,
        delta.tls_challenges,
    )


def dumps(delta: Delta) -> bytes:
    """As bytes.

    @raise NotPlain: the options of a wrapper can't be sent.
    """
    try:
        return pickle.dumps(delta, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # whatever a third party's objects do
        names = [state.service.name for state in delta.services if not _plain(state)]
        raise NotPlain(
            f"service {', '.join(names)}: the options of its wrappers can't be sent to a worker "
            f"process: {error}"
        ) from error


def _plain(state: ServiceState) -> bool:
    try:
        pickle.dumps(state)
    except Exception:
        return False
    return True


def loads(data: bytes) -> Delta:
    """The same again; only for what the control process has sent."""
    delta = pickle.loads(data)
    assert isinstance(delta, Delta)
    return delta
