"""The admin interface: HTTP with JSON, for a Unix socket. docs/deployments.md describes it.

Operations answer with JSON lines (`kproxy.control.progress`), as they go on; the last one says
whether it was done. One that fails before it has anything to tell has a status that says so, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.config import ConfigurationError
from kproxy.control.controller import Controller, HostInUse, UnknownService
from kproxy.control.deployment import OperationFailed
from kproxy.control.flags import BadFlag, deployed, unconfigured
from kproxy.control.progress import Event, Tell

DRAIN_TIMEOUT = 30.0
MAX_PAUSE = 30.0
Reload = Callable[[Tell], "Deferred[list[str]]"]
Start = Callable[[Mapping[str, Any], Tell], "Deferred[Any]"]

_log = Logger()


class ReloadFailed(OperationFailed):
    """Something of what the files say could not be deployed; the text says what."""


class AdminSite(server.Site):
    """The server of the interface; requests are not logged."""

    noisy = False

    def __init__(self, controller: Controller, reload: Reload) -> None:
        super().__init__(Admin(controller, reload))  # type: ignore[no-untyped-call]
        self.displayTracebacks = False

    def log(self, request: Any) -> None:
        """What is done is in the proxy's own log."""


class Admin(Resource):
    """The root of the interface."""

    def __init__(self, controller: Controller, reload: Reload) -> None:
        """@param reload: reads the configuration again; may raise `ConfigurationError`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.putChild(b"services", Services(controller))
        self.putChild(b"reload", Operation(lambda values, tell: _reloaded(reload, values, tell)))

    def getChild(self, path: bytes, request: Any) -> IResource:
        return _Refused(404, "there is nothing here; see /services")


def _reloaded(reload: Reload, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
    _read(values, {})

    def done(failures: list[str]) -> None:
        if failures:
            raise ReloadFailed("; ".join(failures))

    return reload(tell).addCallback(done)


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

    def getChild(self, path: bytes, request: Any) -> IResource:
        operations: dict[bytes, Start] = {
            b"deploy": self._deploy,
            b"pause": self._pause,
            b"stop": self._stop,
            b"resume": self._resume,
        }
        start = operations.get(path)
        return _Refused(404, "there is no such operation") if start is None else Operation(start)

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
        drain, most = _read(values, {"drain_timeout": DRAIN_TIMEOUT, "max_pause": MAX_PAUSE})
        return self._controller.pause(self._name, drain, most, tell)

    def _stop(self, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
        drain, message = _read(values, {"drain_timeout": DRAIN_TIMEOUT, "message": ""})
        return self._controller.stop(self._name, drain, message, tell)

    def _resume(self, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
        _read(values, {})
        return self._controller.resume(self._name, tell)

    def _remove(self, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
        _read(values, {})
        return self._controller.remove(self._name, tell)


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
        elif not isinstance(value, str):
            raise BadFlag(f"{name} should be a text")
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
            values = json.loads(request.content.read() or b"{}")
            if not isinstance(values, dict):
                raise BadFlag("the body should be a JSON object")
            work = self._start(values, answer.tell)
        except BadFlag as error:
            return _json(request, 400, {"event": "failed", "error": str(error)})
        except ConfigurationError as error:
            return _json(request, 422, {"event": "failed", "error": str(error)})
        except ValueError:
            return _json(request, 400, {"event": "failed", "error": "the body is not JSON"})
        answer.follow(work)
        return NOT_DONE_YET


class _Answer:
    """What is told while an operation goes on."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._begun = False
        self._gone = False

    def follow(self, work: Deferred[Any]) -> None:
        gone: Deferred[Any] = self._request.notifyFinish()

        def left(_: object) -> None:
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

    def _end(self, event: Event, status: int) -> None:
        if self._gone:
            return
        if not self._begun:
            self._request.setResponseCode(status)
        self.tell(event)
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
