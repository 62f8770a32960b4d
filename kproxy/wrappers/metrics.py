"""Counts requests, as kamal-proxy does (docs/metrics.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.web.resource import IResource

from kproxy.metrics.counts import Counts
from kproxy.streaming import streaming
from kproxy.wrappers.base import Wrapper


@dataclass(frozen=True)
class Options:
    counts: Counts = field(default_factory=Counts)
    """Where to count."""


class Metrics(Wrapper):
    """Counts a request when it ends. Which service it is for is known by then."""

    def __init__(self, wrapped: IResource, options: Options) -> None:
        super().__init__(wrapped)
        self._begin = options.counts.begin

    def render(self, request: Any) -> Any:
        self._begin(streaming(request))
        return self.wrapped.render(request)
