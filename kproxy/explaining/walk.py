"""A tree that is watched: what becomes of a request on its way through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.errors import answer_error
from kproxy.interfaces import IWrapperPlugin
from kproxy.routing import Route, Table
from kproxy.tree import Link, assemble
from kproxy.wrappers.base import as_leaf, render_later
from kproxy.wrappers.gate import GateControl
from kproxy.wrappers.host_router import HostRouter

PATIENCE = 5.0
"""Seconds that a wrapper may take to decide."""
ROUTER, TARGET = "router", "target"
"""What is on the way, but is no wrapper."""

Fields = dict[bytes, tuple[bytes, ...]]
Pick = Callable[[Any], "tuple[str, bytes] | None"]
"""Takes a request; gives the address of its target, and its head as that one would get it."""


class Walk:
    """What is seen of a request on its way.

    @ivar service: whose it is; None: nobody's.
    @ivar target: who would get it.
    @ivar sent: its head as that one would get it.
    @ivar done: fires when all is seen.
    """

    def __init__(self, clock: IReactorTime, plugins: Mapping[str, IWrapperPlugin]) -> None:
        self.done: Deferred[None] = Deferred()
        self.service: str | None = None
        self.prefix = b""
        self.target: str | None = None
        self.sent = b""
        self.answered = self.held = False
        self.steps: list[Step] = []
        self._clock = clock
        self._plugins = plugins
        self._timer: IDelayedCall | None = None

    def chain(self, links: Sequence[Link], leaf: Callable[[], IResource]) -> IResource:
        """A chain of wrappers that are watched.

        @param leaf: makes what is inside.
        @raise kproxy.tree.WrapperFailed: a wrapper can't be made.
        """
        steps = [self._step(link) for link in links]
        resource = leaf()
        for step in reversed(steps):
            step.wrapped = as_leaf(assemble([step.link], resource, self._plugins))
            resource = step
        return resource

    def leaf(self, pick: Pick) -> IResource:
        """Something that tells of a request in place of sending it."""
        step = self._step(Link(TARGET))
        step.wrapped = _Leaf(self, pick)
        return step

    def router(self, table: Table[Any], chain: Callable[[str], IResource]) -> IResource:
        """The way to the service that a table has for a request.

        @param chain: makes the chain of a service.
        """
        step = self._step(Link(ROUTER))
        step.wrapped = HostRouter(_Routes(self, table, chain))
        return step

    def gate(self, control: GateControl) -> GateControl:
        """A gate like that one, at which nobody waits."""
        gate = _Gate(self._clock)
        gate.state, gate.message, gate.max_pause = control.state, control.message, control.max_pause
        gate.walk = self
        return gate

    def _step(self, link: Link) -> Step:
        self.steps.append(Step(link))
        return self.steps[-1]

    def begin(self, tree: IResource, request: Any) -> None:
        """Let a request walk, and wait for its end, as long as there is patience."""
        self._timer = self._clock.callLater(PATIENCE, self.done.callback, None)
        # Not in the caller's own time, since an exception there would be taken for the caller's.
        self._clock.callLater(0, render_later, tree, request)

    def end(self) -> None:
        """All is seen, once whoever is at work now has returned."""
        if self._timer is not None and self._timer.active():
            self._timer.reset(0)


class Step(Resource):
    """Sees a request pass to what is wrapped.

    @ivar seen: the request as it came by: its target and fields; None: it did not.
    """

    isLeaf = True
    streams = True
    wrapped: Any = None
    seen: tuple[bytes, Fields] | None = None

    def __init__(self, link: Link) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.link = link

    def render(self, request: Any) -> Any:
        self.seen = request.uri, request.requestHeaders.fields.copy()
        return self.wrapped.render(request)


class _Leaf(Resource):
    isLeaf = True
    streams = True

    def __init__(self, walk: Walk, pick: Pick) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._walk = walk
        self._pick = pick

    def render(self, request: Any) -> int:
        picked = self._pick(request)
        if picked is None:
            answer_error(request, 503)
        else:
            self._walk.target, self._walk.sent = picked
            self._walk.end()
        return NOT_DONE_YET


class _Routes(Table[Any]):
    """The data plane's table; but what it finds is watched."""

    def __init__(self, walk: Walk, table: Table[Any], chain: Callable[[str], IResource]) -> None:
        super().__init__()
        self._walk = walk
        self._table = table
        self._chain = chain

    def find(self, host: bytes, path: bytes) -> Route[Any] | None:
        route = self._table.find(host, path)
        if route is None:
            return None
        name: str = route.value[0]
        self._walk.service, self._walk.prefix = name, route.prefix
        return Route(route.prefix, (name, self._chain(name)))


class _Gate(GateControl):
    walk: Walk

    def hold(self, gate: Any, request: Any) -> None:
        self.walk.held = True
        self.walk.end()
