"""Counts requests, as kamal-proxy does (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from twisted.python.failure import Failure
from twisted.web.resource import IResource

from kproxy.errors import CLIENT_CLOSED_REQUEST
from kproxy.metrics.counts import NO_SERVICE, NOTES, Counts
from kproxy.streaming import streaming
from kproxy.wrappers.base import Wrapper


@dataclass(frozen=True)
class Options:
    counts: Counts = field(default_factory=Counts)
    """Where to count."""
    now: Callable[[], float] = perf_counter
    """Seconds of a clock that never jumps."""


class Metrics(Wrapper):
    """Counts a request when it ends. Which service it is for is known by then."""

    def __init__(self, wrapped: IResource, options: Options) -> None:
        super().__init__(wrapped)
        self._now = options.now
        self._in_flight = options.counts.in_flight
        self._notes = options.counts.ended
        self._settle = options.counts.settle
        self._when_ended = self._ended

    def render(self, request: Any) -> Any:
        streaming(request)
        self._in_flight[request] = (self._now(), request.path, request.body)
        request.on_finish(self._when_ended)
        return self.wrapped.render(request)

    def _ended(self, request: Any, failure: Failure | None) -> None:
        began, path, body = self._in_flight.pop(request)
        left = failure is not None and not request.begun()
        self._notes.append(
            (
                request.notes.get("service", NO_SERVICE),
                request.method,
                path,
                CLIENT_CLOSED_REQUEST if left else request.code,
                self._now() - began,
                0 if body.length == 0 else getattr(body, "received", body.length),
                request.sentLength,
            )
        )
        if len(self._notes) >= NOTES:
            self._settle()
