"""What metrics show of the workers themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kproxy.workers.measuring import measure_crew


def crew(*states: str, replaced: int = 0, restarted: int = 0) -> Any:
    members = [SimpleNamespace(state=lambda state=state: state) for state in states]
    return SimpleNamespace(members=members, replaced=replaced, restarted=restarted)


def numbers(name: str, of: Any) -> dict[tuple[str, ...], list[float]]:
    return dict(measure_crew(of)[name])


def test_workers_are_counted_by_what_they_do() -> None:
    assert numbers("kproxy_workers", crew("serving", "leaving", "serving")) == {
        ("starting",): [0],
        ("serving",): [2],
        ("leaving",): [1],
    }


def test_restarts_are_counted_by_their_cause() -> None:
    assert numbers("kproxy_worker_restarts_total", crew(replaced=3, restarted=4)) == {
        ("died",): [3],
        ("restarted",): [4],
    }


def test_without_workers_all_is_zero() -> None:
    for series in measure_crew(None).values():
        assert all(values == [0] for _, values in series)
