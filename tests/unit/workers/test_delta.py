"""What is new in a snapshot, and the snapshot made of it again."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any

import pytest

from kproxy.config.model import Service, Target, WrapperUse
from kproxy.snapshot import (
    Certificate,
    HTTPChallenge,
    ServiceState,
    Snapshot,
    Split,
    TLSChallenge,
    TLSName,
)
from kproxy.workers.delta import NotPlain, difference, dumps, loads, patched

A = Target("a", 80)


def state(name: str, **options: Any) -> ServiceState:
    return ServiceState(Service(name, (A,), (f"{name}.example",)), (A,), **options)


ONE, TWO = state("one"), state("two")
CERTIFICATE = Certificate("chain", "key")


@dataclass(frozen=True)
class Options:
    """What a third party's wrapper takes."""

    text: str


def sent(old: Snapshot, new: Snapshot) -> Snapshot:
    return patched(old, loads(dumps(difference(old, new))))


@pytest.mark.parametrize(
    "new",
    [
        Snapshot(),
        Snapshot((ONE,)),
        Snapshot((ONE, TWO)),
        Snapshot((TWO,), on_demand=True),
        Snapshot((replace(ONE, gate="paused", max_pause=3.0), TWO)),
        Snapshot((ONE,), (TLSName("one.example", CERTIFICATE), TLSName("two.example"))),
        Snapshot((ONE,), (TLSName("two.example", CERTIFICATE), TLSName("one.example"))),
        Snapshot((), (), False, (HTTPChallenge("t", "k"),), (TLSChallenge("n", CERTIFICATE),)),
    ],
)
@pytest.mark.parametrize(
    "old",
    [Snapshot(), Snapshot((ONE, state("three")), (TLSName("one.example"), TLSName("x.example")))],
)
def test_a_snapshot_is_the_same_at_the_other_end(old: Snapshot, new: Snapshot) -> None:
    there = sent(old, new)
    assert {s.service.name: s for s in there.services} == {s.service.name: s for s in new.services}
    assert replace(there, services=()) == replace(new, services=())


def test_a_service_that_has_not_changed_is_not_sent_and_stays_the_same_object() -> None:
    services = tuple(state(f"s{number}") for number in range(1000))
    old = Snapshot(services)
    there = sent(Snapshot(), old)
    changed = replace(services[500], healthy=())
    new = Snapshot((*services[:500], changed, *services[501:]))
    delta = difference(old, new)
    assert delta.services == (changed,)
    assert len(dumps(delta)) < 3000
    again = patched(there, loads(dumps(delta)))
    before = {s.service.name: s for s in there.services}
    others = [s for s in again.services if s.service.name != "s500"]
    assert all(s is before[s.service.name] for s in others)


def test_a_certificate_that_has_not_changed_is_not_sent() -> None:
    names = tuple(TLSName(f"{number}.example", CERTIFICATE) for number in range(100))
    renewed = TLSName("7.example", Certificate("new", "new"))
    old, new = Snapshot(tls=names), Snapshot(tls=(*names[:7], renewed, *names[8:]))
    assert difference(old, new).tls == (renewed,)
    assert difference(old, Snapshot(tls=names)).names is None
    assert sent(old, new) == new


def test_the_options_of_wrappers_arrive() -> None:
    service = replace(ONE.service, wrappers=(WrapperUse("x", Options("y")),))
    new = Snapshot((replace(ONE, service=service, rollout=None),))
    assert sent(Snapshot(), new) == new


def test_options_that_can_not_be_sent_are_reported_with_the_service() -> None:
    service = replace(ONE.service, wrappers=(WrapperUse("x", lambda: None),))
    with pytest.raises(NotPlain, match="service one: the options of its wrappers can't be sent"):
        dumps(difference(Snapshot(), Snapshot((replace(ONE, service=service), TWO))))


def test_a_snapshot_is_plain_data() -> None:
    assert pickle.loads(pickle.dumps(Split(3, ("x",)))) == Split(3, ("x",))
