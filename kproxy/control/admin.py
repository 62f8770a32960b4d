"""The admin interface: HTTP with JSON, for a Unix socket. docs/openapi.yaml describes it.

Operations answer with JSON lines (`kproxy.control.progress`), as they go on; the last one says
whether it was done. One that fails before it has anything to tell has a status that says so, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.config import ConfigurationError
from kproxy.control.controller import Controller, HostInUse
from kproxy.control.deployment import OperationFailed
from kproxy.control.flags import BadFlag, deployed, split_of, unconfigured
from kproxy.control.progress import Event, Tell
from kproxy.control.serving import UnknownService
from kproxy.explaining import BadQuestion, Question

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "pause": {"drain_timeout": 30.0, "max_pause": 30.0},
    "stop": {"drain_timeout": 30.0, "message": ""},
    "explain": {"url": "", "method": "GET", "headers": [], "client": "127.0.0.1"},
}
"""What operations take, and what holds if it is not said; `deploy` takes the `FLAGS`."""
LAST_WORDS = 1.0
"""Seconds that clients have to read what they are told when the proxy ends."""
Explain = Callable[[Question], "Deferred[dict[str, Any]]"]
Reload = Callable[[Tell], "Deferred[list[str]]"]
Start = Callable[[Mapping[str, Any], Tell], "Deferred[Any]"]

_log = Logger()


class ReloadFailed(OperationFailed):
    """Something of what the files say could not be deployed; the text says what."""


class _Channel(http.HTTPChannel):
    """A connection, which its site knows."""

    factory: AdminSite
    transport: Any

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.channels.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.factory.closed(self)


class AdminSite(server.Site):
    """The server of the interface; requests are not logged."""

    noisy = False
    protocol = _Channel  # type: ignore[assignment]

    def __init__(self, controller: Controller, reload: Reload, explain: Explain) -> None:
        super().__init__(Admin(controller, reload, explain))  # type: ignore[no-untyped-call]
        self.displayTracebacks = False
        self.channels: set[_Channel] = set()
        self.answers: set[_Answer] = set()
        self._empty: Deferred[None] | None = None

    def closed(self, channel: _Channel) -> None:
        self.channels.discard(channel)
        if self._empty is not None and not self.channels:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def end(self, clock: IReactorTime) -> Deferred[None]:
        """Tell those who still wait that there is nothing to wait for, and close all connections.

        @return: fires when they are closed.
        """
        for answer in list(self.answers):
            answer.give_up("the proxy has stopped before it was done")
        if not self.channels:
            return succeed(None)
        for channel in list(self.channels):
            channel.loseConnection()  # type: ignore[no-untyped-call]
        self._empty = empty = Deferred[None]()
        timer = clock.callLater(LAST_WORDS, self._abort)
        return empty.addCallback(lambda _: timer.cancel() if timer.active() else None)

    def _abort(self) -> None:
        for channel in list(self.channels):
            channel.transport.abortConnection()

    def log(self, request: Any) -> None:
        """What is done is in the proxy's own log."""


class Admin(Resource):
    """The root of the interface."""

    def __init__(self, controller: Controller, reload: Reload, explain: Explain) -> None:
        """@param reload: reads the configuration again; may raise `ConfigurationError`.
        @param explain: finds out what would become of a request; may raise `BadQuestion`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.putChild(b"services", Services(controller))
        self.putChild(b"explain", Explanation(explain))
        self.putChild(b"reload", Operation(lambda values, tell: _reloaded(reload, values, tell)))

    def getChild(self, path: bytes, request: Any) -> IResource:
        return _Refused(404, "there is nothing here; see /services")


def _reloaded(reload: Reload, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
    _read(values, {})

    def done(failures: list[str]) -> None:
        if failures:
            raise ReloadFailed("; ".join(failures))

    return reload(tell).addCallback(done)


class Explanation(Resource):
    """``POST /explain``: what would become of a request."""

    isLeaf = True

    def __init__(self, explain: Explain) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._explain = explain

    def render_POST(self, request: Any) -> Any:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def told(explanation: dict[str, Any]) -> None:
            if not gone:
                request.write(_json(request, 200, explanation))
                request.finish()

        def broke(failure: Failure) -> None:
            _log.failure("an explanation broke", failure)
            if not gone:
                request.write(_json(request, 500, {"error": failure.getErrorMessage()}))
                request.finish()

        try:
            work = self._explain(question(_body(request)))
        except (BadFlag, BadQuestion) as error:
            return _json(request, 400, {"error": str(error)})
        work.addCallbacks(told, broke)
        return NOT_DONE_YET


def question(values: Mapping[str, Any]) -> Question:
    """What is asked, from JSON.

    @raise BadFlag: something is unknown, missing or of a wrong kind.
    """
    url, method, headers, client = _read(values, OPTIONS["explain"])
    if not url:
        raise BadFlag("url should be there")
    pairs = [tuple(pair) if isinstance(pair, list) else pair for pair in headers]
    if not all(
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in pairs
    ):
        raise BadFlag("headers should be a list of pairs: name and value")
    return Question(url, method, pairs, client)


class Services(Resource):
    """``GET /services``: all of them."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._controller = controller

    def getChild(self, path: bytes, request: Any) -> IResource:
        return (
            self if not path else ServiceResource(self._controller, path.decode("utf-8", "replace"))
        )

    def render_GET(self, request: Any) -> bytes:
        return _json(request, 200, {"services": self._controller.describe()})


class ServiceResource(Resource):
    """``/services/NAME``: DELETE it, or POST to one of its operations."""

    def __init__(self, controller: Controller, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._controller = controller
        self._name = name

        self.putChild(b"deploy", Operation(self._deploy))
        self.putChild(b"pause", Operation(self._pause))
        self.putChild(b"stop", Operation(self._stop))
        self.putChild(b"resume", Operation(self._resume))
        self.putChild(b"rollout", RolloutResource(controller, name))

    def getChild(self, path: bytes, request: Any) -> IResource:
        return _Refused(404, "there is no such operation")

    def render_GET(self, request: Any) -> bytes:
        for described in self._controller.describe():
            if described["service"] == self._name:
                return _json(request, 200, described)
        return _json(request, 404, {"error": str(UnknownService(self._name))})

    def render_DELETE(self, request: Any) -> Any:
        return Operation(self._remove).render_POST(request)

    def _deploy(self, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
        base = self._controller.declared(self._name) or unconfigured(self._name)
        service = deployed(base, values)
        return self._controller.deploy(service, tell, force=bool(values.get("force")))

    def _pause(self, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
        drain, most = _read(values, OPTIONS["pause"])
        return self._controller.pause(self._name, drain, most, tell)

    def _stop(self, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
        drain, message = _read(values, OPTIONS["stop"])
        return self._controller.stop(self._name, drain, message, tell)

    def _resume(self, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
        _read(values, {})
        return self._controller.resume(self._name, tell)

    def _remove(self, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
        _read(values, {})
        return self._controller.remove(self._name, tell)


class RolloutResource(Resource):
    """``/services/NAME/rollout``: POST to one of its operations."""

    def __init__(self, controller: Controller, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rollouts = controller.rollouts
        self._name = name

        self.putChild(b"deploy", Operation(self._deploy))
        self.putChild(b"set", Operation(self._set))
        self.putChild(b"stop", Operation(self._stop))

    def getChild(self, path: bytes, request: Any) -> IResource:
        return _Refused(404, "there is no such operation")

    def _deploy(self, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
        return self._rollouts.deploy(self._name, values, tell)

    def _set(self, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
        return self._rollouts.set(self._name, split_of(values), tell)

    def _stop(self, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
        _read(values, {})
        return self._rollouts.stop(self._name, tell)


def _read(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Any]:
    """The values of options that have these names and defaults, in their order.

    @raise BadFlag: one is unknown, or not of its default's kind.
    """
    for name in values:
        if name not in defaults:
            raise BadFlag(f"there is no option {name}")
    read = []
    for name, default in defaults.items():
        value = values.get(name, default)
        if isinstance(default, float):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value < 2**31:
                raise BadFlag(f"{name} should be a number of seconds")
        elif not isinstance(value, type(default)):
            kind = "a list" if isinstance(default, list) else "a text"
            raise BadFlag(f"{name} should be {kind}")
        read.append(value)
    return read


class Operation(Resource):
    """Something that may take its time. Whoever goes away before it ends cancels it, as far as that
    is possible."""

    isLeaf = True

    def __init__(self, start: Start) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._start = start

    def render_POST(self, request: Any) -> Any:
        answer = _Answer(request)
        try:
            work = self._start(_body(request), answer.tell)
        except BadFlag as error:
            return _json(request, 400, {"event": "failed", "error": str(error)})
        except ConfigurationError as error:
            return _json(request, 422, {"event": "failed", "error": str(error)})
        answer.follow(work)
        return NOT_DONE_YET


def _body(request: Any) -> dict[str, Any]:
    """The JSON object that came with a request.

    @raise BadFlag: it is none.
    """
    try:
        values = json.loads(request.content.read() or b"{}")
    except ValueError:
        raise BadFlag("the body is not JSON") from None
    if not isinstance(values, dict):
        raise BadFlag("the body should be a JSON object")
    return values


class _Answer:
    """What is told while an operation goes on."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._answers: set[_Answer] = request.site.answers
        self._begun = False
        self._gone = False

    def follow(self, work: Deferred[Any]) -> None:
        gone: Deferred[Any] = self._request.notifyFinish()
        self._answers.add(self)

        def left(_: object) -> None:
            self._answers.discard(self)
            self._gone = True
            work.cancel()

        gone.addErrback(left)
        work.addCallbacks(self._done, self._failed)

    def tell(self, event: Event) -> None:
        if self._gone:
            return
        if not self._begun:
            self._begun = True
            self._request.setHeader(b"content-type", b"application/jsonl")
        self._request.write(_line(event))

    def _done(self, result: object) -> None:
        self._end({"event": "done"}, 200)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) and self._gone:
            return
        if not failure.check(OperationFailed):
            _log.failure("an operation broke", failure)
        status = 500
        for kind, code in ((UnknownService, 404), (HostInUse, 409), (OperationFailed, 422)):
            if failure.check(kind):
                status = code
                break
        self._end({"event": "failed", "error": failure.getErrorMessage()}, status)

    def give_up(self, reason: str) -> None:
        """End before the operation has; it goes on, as far as it can."""
        self._end({"event": "failed", "error": reason}, 503)

    def _end(self, event: Event, status: int) -> None:
        if self._gone:
            return
        self._answers.discard(self)
        if not self._begun:
            self._request.setResponseCode(status)
        self.tell(event)
        self._gone = True
        self._request.finish()


class _Refused(Resource):
    isLeaf = True

    def __init__(self, status: int, error: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._status = status
        self._error = error

    def render(self, request: Any) -> bytes:
        return _json(request, self._status, {"error": self._error})


def _json(request: Any, status: int, data: object) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    return _line(data)


def _line(data: object) -> bytes:
    return json.dumps(data).encode() + b"\n"
