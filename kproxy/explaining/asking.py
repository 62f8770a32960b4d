"""Sends a request that exists in memory only on its way."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.web.resource import IResource
from zope.interface import implementer

from kproxy.explaining.question import BadQuestion, Question
from kproxy.explaining.telling import told
from kproxy.explaining.walk import Walk
from kproxy.http.heads import CHUNKED, BadHead, HeadParser
from kproxy.http.request import Request, client_left
from kproxy.interfaces import IBody, IBodyReceiver


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
        explanation = told(question, walk, request)
        request.ended(None if request.finished else client_left())
        return explanation

    walk.begin(tree, request)
    return walk.done.addCallback(seen)
