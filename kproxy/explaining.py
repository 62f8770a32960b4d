"""The way of a request, found out without sending it: what ``kproxy explain`` shows.

The request is made in memory, and really walks the tree: the chains that requests walk, assembled
anew around a leaf that tells in place of sending. What wrappers remember is therefore not touched (a
rate limiter charges nobody), no line goes to the access log, and nothing waits at a gate. A wrapper
that acts outside of the process can tell by ``request.notes["explained"]`` that nobody has asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from kproxy.errors import answer_error
from kproxy.http.heads import CHUNKED, BadHead, HeadParser
from kproxy.http.request import Request, client_left
from kproxy.interfaces import IBody, IBodyReceiver, IWrapperPlugin
from kproxy.routing import Route, Table
from kproxy.tree import Link, assemble
from kproxy.wrappers.base import as_leaf, render_later
from kproxy.wrappers.gate import GateControl
from kproxy.wrappers.host_router import HostRouter

PATIENCE = 5.0
"""Seconds that a wrapper may take to decide."""
ROUTER, TARGET = "router", "target"
"""What is on the way, but is no wrapper."""

_REASONS = {
    (ROUTER, 404): "no service has this host and path",
    (ROUTER, 400): "as it is written the path is one service's, and as it may be read another's",
    (TARGET, 503): "no target is healthy",
    ("ssl-redirect", 301): "plain HTTP is redirected to HTTPS",
    ("canonical-host", 301): "other hosts are redirected to the canonical one",
    ("gate", None): "the service is paused",
    ("gate", 503): "the service is stopped",
    ("gate", 200): "the health check of a paused or stopped service is answered for it",
    ("request-buffer", 413): "the body is larger than is allowed",
    ("request-limit", 413): "the body is larger than is allowed",
}

_LONGEST = 60
"""Characters of an option that are told: error pages are whole pages."""

Fields = dict[bytes, tuple[bytes, ...]]
Pick = Callable[[Any], "tuple[str, bytes] | None"]
"""Takes a request; gives the address of its target, and its head as that one would get it."""


class BadQuestion(ValueError):
    """It is no request; the text is a sentence."""


@dataclass(frozen=True)
class Question:
    """A request that somebody might send.

    @ivar url: ``http://`` or ``https://``; without a scheme it is HTTP.
    @ivar headers: a Content-Length stands for a body of that size.
    @ivar client: the address that it would come from.
    """

    url: str
    method: str = "GET"
    headers: Sequence[tuple[str, str]] = ()
    client: str = "127.0.0.1"

    def head(self) -> tuple[bytes, bool]:
        """The request's head as a client would write it, and whether it would come by TLS.

        @raise BadQuestion: there can be no such request.
        """
        try:
            parts = urlsplit(self.url if "://" in self.url else f"http://{self.url}")
            _ = parts.port
        except ValueError as error:
            raise BadQuestion(f'"{self.url}" is no URL: {error}') from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadQuestion(f'"{self.url}" is no http:// or https:// URL')
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = list(self.headers)
        if not any(name.lower() == "host" for name, _ in fields):
            fields.insert(0, ("Host", parts.netloc.rpartition("@")[2]))
        lines = [f"{self.method} {target} HTTP/1.1", *(f"{name}: {v}" for name, v in fields)]
        if any(character in line for line in lines for character in "\r\n"):
            raise BadQuestion("method, URL and headers should be without line breaks")
        try:  # A command line's bytes that are no UTF-8 come as surrogates.
            text = "\r\n".join(lines).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise BadQuestion("method, URL and headers should be text") from None
        return text, parts.scheme == "https"

    def address(self) -> IPv4Address | IPv6Address:
        """The client's.

        @raise BadQuestion: it is none.
        """
        try:
            version = ip_address(self.client).version
        except ValueError:
            raise BadQuestion(f'"{self.client}" is no IP address') from None
        return (IPv4Address if version == 4 else IPv6Address)("TCP", self.client, 0)


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
        self.steps: list[_Step] = []
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

    def _step(self, link: Link) -> _Step:
        self.steps.append(_Step(link))
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


class _Step(Resource):
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


class _Stream:
    """A connection to nobody; see `kproxy.http.request.Stream`."""

    transport = None

    def __init__(self, walk: Walk, client: IPv4Address | IPv6Address, secure: bool) -> None:
        self.client = client
        self.host = type(client)("TCP", client.host, 443 if secure else 80)
        self.secure = secure
        self.request: Any = None
        self._walk = walk

    def begin(self) -> None:
        self.request.response_begun = True
        self._walk.answered = True
        self._walk.end()

    def write(self, data: bytes) -> None: ...
    def flush(self) -> None: ...
    def finish(self) -> None: ...
    def stop(self) -> None: ...
    def register_producer(self, producer: Any) -> None: ...
    def unregister_producer(self) -> None: ...
    def inform(self, code: int, headers: Any) -> None: ...

    def switch_protocols(self, transport: Any, early: bytes) -> bool:
        return False

    def abort(self) -> None:
        self._walk.end()


@implementer(IBody)
class _AbsentBody:
    """A body that is only spoken of: whoever takes it gets nothing."""

    replayable = True

    def __init__(self, length: int | None) -> None:
        self.length = length

    def start(self, receiver: IBodyReceiver) -> None:
        receiver.body_end([])

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def stop(self) -> None: ...


def explain(question: Question, walk: Walk, tree: IResource) -> Deferred[dict[str, Any]]:
    """Let a request walk a tree that is watched.

    @return: fires with what was seen, as JSON has it; docs/openapi.yaml describes it.
    @raise BadQuestion: there can be no such request.
    """
    text, secure = question.head()
    stream = _Stream(walk, question.address(), secure)
    try:
        head = HeadParser().request(text)
    except BadHead as error:
        raise BadQuestion(f"a request like this is refused with {error.status}: {error}") from None
    stream.request = request = Request(stream, None, head)
    if head.length:
        request.body = _AbsentBody(None if head.length == CHUNKED else head.length)
    request.notes["explained"] = True

    def seen(_: None) -> dict[str, Any]:
        told = _told(question, walk, request)
        request.ended(None if request.finished else client_left())
        return told

    walk.begin(tree, request)
    return walk.done.addCallback(seen)


def _told(question: Question, walk: Walk, request: Any) -> dict[str, Any]:
    by = [step.link.name for step in walk.steps if step.seen is not None][-1]
    status = request.code if walk.answered else None
    outcome = "answered" if walk.answered else "held" if walk.held else "undecided"
    told: dict[str, Any] = {
        "url": question.url,
        "method": question.method,
        "service": walk.service,
        "path_prefix": _text(walk.prefix) or None,
        "outcome": outcome if walk.target is None else "sent",
        "by": by,
        "reason": "",
        "way": [_way(walk.steps, number) for number in range(len(walk.steps))],
    }
    if walk.target is not None:
        line, *fields = walk.sent.rstrip(b"\r\n").split(b"\r\n")
        told["target"] = walk.target
        told["request"] = {"line": _text(line), "headers": _pairs(fields)}
        return told
    told["reason"] = _REASONS.get((by, status), "")
    if walk.answered:
        fields = b"\r\n".join(request.responseHeaders.lines()).split(b"\r\n")
        told["answer"] = {"status": status, "headers": _pairs(fields)}
    return told


def _pairs(lines: Sequence[bytes]) -> list[list[str]]:
    return [_text(line).split(": ", 1) for line in lines if line]


def _way(steps: Sequence[_Step], number: int) -> dict[str, Any]:
    step = steps[number]
    after = steps[number + 1].seen if number + 1 < len(steps) else None
    return {
        "name": step.link.name,
        "options": _options(step.link.options),
        "reached": step.seen is not None,
        "changes": [] if step.seen is None or after is None else _changes(step.seen, after),
    }


def _changes(before: tuple[bytes, Fields], after: tuple[bytes, Fields]) -> list[str]:
    """What a wrapper did to a request, in words."""
    came, left = before[1], after[1]
    new = [field[0] for name, field in left.items() if came.get(name, ())[1:] != field[1:]]
    gone = [field[0] for name, field in came.items() if name not in left]
    changes = [f"{_text(before[0])} becomes {_text(after[0])}"] if after[0] != before[0] else []
    for what, lines in (("sets", new), ("removes", gone)):
        if lines:
            names = (_text(line.partition(b":")[0]) for line in lines)
            changes.append(f"{what} {', '.join(names)}")
    return changes


def _options(options: Any) -> dict[str, Any]:
    """Options as JSON has them; but for what is no plain data, and what a wrapper's options hide
    from their own repr, since that may be a secret."""
    if not dataclasses.is_dataclass(options):
        return {}
    shown = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.repr}
    control = shown.get("control")
    if isinstance(control, GateControl):
        shown.update(state=control.state, message=control.message, max_pause=control.max_pause)
    return {name: _short(value) for name, value in shown.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Path))


def _short(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_short(each) for each in value]
    text = str(value) if isinstance(value, Path) else value
    return text[:_LONGEST] + "…" if isinstance(text, str) and len(text) > _LONGEST else text


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
