from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import _producer_helpers
from twisted.internet.task import Clock, Cooperator
from twisted.web.resource import IResource

from tests.unit.wrappers.support import SITES, Serve, _Served


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of everything in a test."""
    clock = Clock()

    def soon(call: Callable[[], Any]) -> Any:
        return clock.callLater(0, call)

    # Twisted pulls pull producers by the global reactor, and has no other place to say otherwise.
    monkeypatch.setattr(_producer_helpers, "cooperate", Cooperator(scheduler=soon).cooperate)
    return clock


@pytest.fixture(params=SITES, ids=["stock Site", "kproxy's engine"])
def serve(request: pytest.FixtureRequest, clock: Clock) -> Serve:
    """A function that puts a resource behind an HTTP server; each test runs with both servers."""

    def behind(resource: IResource, *, secure: bool = False) -> _Served:
        served: _Served = request.param(resource, clock, secure)
        return served

    return behind
