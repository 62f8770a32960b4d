"""The admin interface: HTTP with JSON, for a Unix socket. docs/openapi.yaml describes it.

Operations answer with JSON lines (`kproxy.control.progress`), as they go on; the last one says
whether it was done. One that fails before it has anything to tell has a status that says so, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.web.resource import IResource

from kproxy.control.answers import (
    JSONResource,
    Operation,
    Refused,
    answer_later,
    json_answer,
    json_body,
)
from kproxy.control.controller import Controller
from kproxy.control.deployment import OperationFailed
from kproxy.control.flags import BadFlag
from kproxy.control.options import deployed, split_of, unconfigured
from kproxy.control.progress import Tell
from kproxy.control.serving import UnknownService
from kproxy.explaining import BadQuestion, Question

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "pause": {"drain_timeout": 30.0, "max_pause": 30.0},
    "stop": {"drain_timeout": 30.0, "message": ""},
    "restart": {"all": False},
    "restarted": {"generation": 0},
    "explain": {"url": "", "method": "GET", "headers": [], "client": "127.0.0.1"},
}
"""What operations take, and what holds if it is not said; `deploy` takes the `FLAGS`."""
_KINDS = {str: "a text", list: "a list", bool: "true or false", int: "a whole number"}
Explain = Callable[[Question], "Deferred[dict[str, Any]]"]
Reload = Callable[[Tell], "Deferred[list[str]]"]
Restart = Callable[[bool, Tell], "Deferred[None]"]
Restarted = Callable[[int], "Deferred[None]"]
Process = Callable[[], "dict[str, Any]"]


class ReloadFailed(OperationFailed):
    """Something of what the files say could not be deployed; the text says what."""


def _no_workers(*_: object) -> Deferred[None]:
    return fail(OperationFailed("there are no workers that could be restarted"))


class Admin(JSONResource):
    """The root of the interface."""

    def __init__(
        self,
        controller: Controller,
        reload: Reload,
        explain: Explain,
        restart: Restart = _no_workers,
        restarted: Restarted = _no_workers,
        process: Process = dict,
    ) -> None:
        """@param reload: reads the configuration again; may raise `ConfigurationError`.
        @param explain: finds out what would become of a request; may raise `BadQuestion`.
        @param restart: lets fresh workers take over, and if that is said, another program in this
            process; fails with `OperationFailed`.
        @param restarted: waits for the end of that.
        @param process: gives what there is to tell of the proxy itself, beside its services."""
        super().__init__()
        self.putChild(b"services", Services(controller, process))
        self.putChild(b"restart", Operation(lambda values, tell: _restart(restart, values, tell)))
        self.putChild(b"restarted", Operation(lambda values, tell: _restarted(restarted, values)))
        self.putChild(b"explain", Explanation(explain))
        self.putChild(b"reload", Operation(lambda values, tell: _reloaded(reload, values, tell)))

    def getChild(self, path: bytes, request: Any) -> IResource:
        return Refused(404, "there is nothing here; see /services")


def _reloaded(reload: Reload, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
    _read(values, {})

    def done(failures: list[str]) -> None:
        if failures:
            raise ReloadFailed("; ".join(failures))

    return reload(tell).addCallback(done)


def _restart(restart: Restart, values: Mapping[str, Any], tell: Tell) -> Deferred[None]:
    (everything,) = _read(values, OPTIONS["restart"])
    return restart(everything, tell)


def _restarted(restarted: Restarted, values: Mapping[str, Any]) -> Deferred[None]:
    (generation,) = _read(values, OPTIONS["restarted"])
    return restarted(generation)


class Explanation(JSONResource):
    """``POST /explain``: what would become of a request."""

    isLeaf = True

    def __init__(self, explain: Explain) -> None:
        super().__init__()
        self._explain = explain

    def render_POST(self, request: Any) -> Any:
        try:
            work = self._explain(question(json_body(request)))
        except (BadFlag, BadQuestion) as error:
            return json_answer(request, 400, {"error": str(error)})
        return answer_later(request, work, lambda explanation: (200, explanation))


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


class Services(JSONResource):
    """``GET /services``: all of them."""

    def __init__(self, controller: Controller, process: Process) -> None:
        super().__init__()
        self._controller = controller
        self._process = process

    def getChild(self, path: bytes, request: Any) -> IResource:
        return (
            self if not path else ServiceResource(self._controller, path.decode("utf-8", "replace"))
        )

    def render_GET(self, request: Any) -> Any:
        return answer_later(request, self._controller.refresh(), self._describe)

    def _describe(self, _: None) -> tuple[int, object]:
        return 200, {"services": self._controller.describe(), **self._process()}


class ServiceResource(JSONResource):
    """``/services/NAME``: DELETE it, or POST to one of its operations."""

    def __init__(self, controller: Controller, name: str) -> None:
        super().__init__()
        self._controller = controller
        self._name = name

        self.putChild(b"deploy", Operation(self._deploy))
        self.putChild(b"pause", Operation(self._pause))
        self.putChild(b"stop", Operation(self._stop))
        self.putChild(b"resume", Operation(self._resume))
        self.putChild(b"rollout", RolloutResource(controller, name))

    def getChild(self, path: bytes, request: Any) -> IResource:
        return Refused(404, "there is no such operation")

    def render_GET(self, request: Any) -> Any:
        return answer_later(request, self._controller.refresh(), self._describe)

    def _describe(self, _: None) -> tuple[int, object]:
        for described in self._controller.describe():
            if described["service"] == self._name:
                return 200, described
        return 404, {"error": str(UnknownService(self._name))}

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


class RolloutResource(JSONResource):
    """``/services/NAME/rollout``: POST to one of its operations."""

    def __init__(self, controller: Controller, name: str) -> None:
        super().__init__()
        self._rollouts = controller.rollouts
        self._name = name

        self.putChild(b"deploy", Operation(self._deploy))
        self.putChild(b"set", Operation(self._set))
        self.putChild(b"stop", Operation(self._stop))

    def getChild(self, path: bytes, request: Any) -> IResource:
        return Refused(404, "there is no such operation")

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
            raise BadFlag(f"{name} should be {_KINDS[type(default)]}")
        read.append(value)
    return read
