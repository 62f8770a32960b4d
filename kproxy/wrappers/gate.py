"""Pause and stop: a service that answers later, or says why it does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET

from kproxy.errors import answer_error
from kproxy.streaming import streaming
from kproxy.wrappers.base import Wrapper

State = Literal["running", "paused", "stopped"]


class GateControl:
    """What a gate is to do; it outlives the chain that the gate is a part of.

    @ivar waiting: requests that are held, with the timer that ends their patience.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.state: State = "running"
        self.message = ""
        self.max_pause = 30.0
        self.waiting: dict[Any, tuple[Gate, IDelayedCall]] = {}
        self._clock = clock

    def run(self) -> None:
        """Let requests pass, those first that were held."""
        self.state = "running"
        for request, (gate, timer) in self._take_waiting().items():
            timer.cancel()
            gate.render_later(request)

    def pause(self, max_pause: float) -> None:
        """Hold new requests, each for at most so many seconds; then 504."""
        self.state = "paused"
        self.max_pause = max_pause

    def stop(self, message: str) -> None:
        """Answer new requests, and those that were held, with 503 and a message."""
        self.state = "stopped"
        self.message = message
        for request, (_, timer) in self._take_waiting().items():
            timer.cancel()
            answer_error(request, 503, message)

    def hold(self, gate: Gate, request: Any) -> None:
        timer = self._clock.callLater(self.max_pause, self._expire, request)
        self.waiting[request] = (gate, timer)
        request.on_finish(self._forget)

    def _take_waiting(self) -> dict[Any, tuple[Gate, IDelayedCall]]:
        waiting, self.waiting = self.waiting, {}
        return waiting

    def _expire(self, request: Any) -> None:
        del self.waiting[request]
        answer_error(request, 504)

    def _forget(self, request: Any, failure: Failure | None) -> None:
        entry = self.waiting.pop(request, None)
        if entry is not None:
            entry[1].cancel()


@dataclass(frozen=True)
class Options:
    state: State = "running"
    message: str = ""
    max_pause: float = 30.0
    """Seconds that a request is held."""
    health_paths: tuple[str, ...] = ("/up",)
    """The paths that a paused or stopped service still answers with 200, lest a load balancer before
    this proxy take it out of its rotation."""
    control: GateControl | None = field(default=None, compare=False)
    """What may change the state later; without one, it stays."""


class Gate(Wrapper):
    """Passes requests on, holds them, or turns them away, as its control says."""

    def __init__(self, wrapped: IResource, options: Options) -> None:
        super().__init__(wrapped)
        self._control = options.control or _fixed(options)
        self._health_paths = [path.encode() for path in options.health_paths]

    def render(self, request: Any) -> Any:
        control = self._control
        if control.state == "running":
            return self.wrapped.render(request)
        if request.path in self._health_paths and request.method in (b"GET", b"HEAD"):
            request.setHeader(b"content-type", b"text/plain; charset=utf-8")
            return b"OK\n"
        request = streaming(request)
        if control.state == "stopped":
            answer_error(request, 503, control.message)
        else:
            control.hold(self, request)
        return NOT_DONE_YET


def _fixed(options: Options) -> GateControl:
    from twisted.internet import reactor

    control = GateControl(cast(IReactorTime, reactor))
    if options.state == "paused":
        control.pause(options.max_pause)
    elif options.state == "stopped":
        control.stop(options.message)
    return control
