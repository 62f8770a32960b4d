"""What the control plane stands between: targets that answer as told, and a patient data plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher

from kproxy.config.model import Healthcheck, Service, Target
from kproxy.dataplane import TargetReport
from kproxy.snapshot import Snapshot

A, B, C = Target("a", 1), Target("b", 1), Target("c", 1)


class Targets:
    """Answers health checks.

    @ivar answers: what each target answers, a status or an exception; a missing one is silent.
    @ivar asked: when each check was made, and of whom.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.answers: dict[Target, int | Exception] = {}
        self.asked: list[tuple[float, Target]] = []
        self.waiting: list[tuple[Target, Deferred[int]]] = []
        self.cancelled: list[Target] = []

    def ask(self, target: Target, check: Healthcheck) -> Deferred[int]:
        self.asked.append((self.clock.seconds(), target))
        asked: Deferred[int] = Deferred(lambda _: self.cancelled.append(target))
        answer = self.answers.get(target)
        if answer is None:
            self.waiting.append((target, asked))
        else:
            self.clock.callLater(0, self._answer, asked, answer)
        return asked

    def _answer(self, asked: Deferred[int], answer: int | Exception) -> None:
        if asked.called:
            return
        if isinstance(answer, int):
            asked.callback(answer)
        else:
            asked.errback(answer)

    def times(self, target: Target) -> list[float]:
        """When a target was asked."""
        return [when for when, asked in self.asked if asked == target]


class Plane:
    """Takes snapshots and drains when told.

    @ivar refuses: what `apply` raises, if anything.
    @ivar refreshed: how often it was asked what goes on.
    """

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.drains: list[tuple[str, tuple[Target, ...], float]] = []
        self.draining: list[Deferred[None]] = []
        self.drained_at_once = True
        self.refuses: Exception | None = None
        self.refreshed = 0
        self.reports: dict[str, list[TargetReport]] = {}
        self.target_refused: Callable[[str, Target], object] = lambda service, target: None

    def apply(self, snapshot: Snapshot) -> Deferred[None]:
        if self.refuses is not None:
            raise self.refuses
        self.snapshots.append(snapshot)
        return succeed(None)

    def drain(self, service: str, targets: Sequence[Target], timeout: float) -> Deferred[None]:
        self.drains.append((service, tuple(targets), timeout))
        done: Deferred[None] = Deferred()
        self.draining.append(done)
        if self.drained_at_once:
            done.callback(None)
        return done

    def report(self) -> dict[str, list[TargetReport]]:
        return self.reports

    def refresh(self) -> Deferred[None]:
        self.refreshed += 1
        return succeed(None)

    @property
    def serving(self) -> dict[str, tuple[Target, ...]]:
        """The healthy targets of each service, in the last snapshot."""
        return {state.service.name: state.healthy for state in self.snapshots[-1].services}

    @property
    def services(self) -> list[Service]:
        return [state.service for state in self.snapshots[-1].services]


def service(name: str = "app", *targets: Target, **options: Any) -> Service:
    """A service with a host of its own."""
    return Service(name, targets or (A,), **{"hosts": (f"{name}.example",), **options})


class Log:
    """What is logged at a level, as text; a context manager."""

    def __init__(self, level: Any = LogLevel.error) -> None:
        self.level = level
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Log:
        globalLogPublisher.addObserver(self._take)
        return self

    def __exit__(self, *details: object) -> None:
        globalLogPublisher.removeObserver(self._take)

    def _take(self, event: dict[str, Any]) -> None:
        if event.get("log_level") is self.level:
            self.events.append(event)

    @property
    def texts(self) -> list[str]:
        return [event["log_format"].format(**event) for event in self.events]
