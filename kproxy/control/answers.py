"""How the admin interface answers: with JSON, and with JSON lines for what takes its time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.config import ConfigurationError
from kproxy.control.deployment import OperationFailed
from kproxy.control.flags import BadFlag
from kproxy.control.progress import Event, Tell
from kproxy.control.serving import HostInUse, UnknownService

T = TypeVar("T")
Start = Callable[[Mapping[str, Any], Tell], "Deferred[Any]"]

_log = Logger()


class JSONResource(Resource):
    """A resource whose errors are JSON, too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def render(self, request: Any) -> Any:
        method = request.method.decode("ascii", "replace")
        render = getattr(self, f"render_{method}", None)
        allowed = [m for m in ("GET", "POST", "DELETE") if hasattr(self, f"render_{m}")]
        if not allowed:
            return json_answer(request, 404, {"error": "there is nothing here; see docs/admin.md"})
        if render is None or (method == "HEAD" and "GET" not in allowed):
            request.setHeader(b"allow", ", ".join(allowed).encode())
            error = f"{method} is not what is done here, but {' or '.join(allowed)}"
            return json_answer(request, 405, {"error": error})
        try:
            return render(request)
        except Exception as error:
            _log.failure("a request of the admin interface broke")
            return json_answer(request, 500, {"error": f"{type(error).__name__}: {error}"})


class Operation(JSONResource):
    """Something that may take its time. Whoever goes away before it ends cancels it, as far as that
    is possible."""

    isLeaf = True

    def __init__(self, start: Start) -> None:
        super().__init__()
        self._start = start

    def render_POST(self, request: Any) -> Any:
        answer = Answer(request)
        try:
            work = self._start(json_body(request), answer.tell)
        except BadFlag as error:
            return json_answer(request, 400, {"event": "failed", "error": str(error)})
        except ConfigurationError as error:
            return json_answer(request, 422, {"event": "failed", "error": str(error)})
        answer.follow(work)
        return NOT_DONE_YET


def json_body(request: Any) -> dict[str, Any]:
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


class Answer:
    """What is told while an operation goes on."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._answers: set[Answer] = request.site.answers
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


class Refused(JSONResource):
    isLeaf = True

    def __init__(self, status: int, error: str) -> None:
        super().__init__()
        self._status = status
        self._error = error

    def render(self, request: Any) -> bytes:
        return json_answer(request, self._status, {"error": self._error})


def answer_later(request: Any, ready: Deferred[T], make: Callable[[T], tuple[int, object]]) -> Any:
    """Answer when something is ready.

    @param make: gives the status, and what JSON is made of.
    """
    gone: list[object] = []
    request.notifyFinish().addErrback(gone.append)

    def answer(result: T) -> None:
        if not gone:
            request.write(json_answer(request, *make(result)))
            request.finish()

    def broke(failure: Failure) -> None:
        _log.failure("a request of the admin interface broke", failure)
        if not gone:
            error = f"{type(failure.value).__name__}: {failure.value}"
            request.write(json_answer(request, 500, {"error": error}))
            request.finish()

    ready.addCallback(answer).addErrback(broke)
    return NOT_DONE_YET


def json_answer(request: Any, status: int, data: object) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    return _line(data)


def _line(data: object) -> bytes:
    return json.dumps(data).encode() + b"\n"
