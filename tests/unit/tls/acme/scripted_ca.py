"""A CA that says what a test has it say, where pebble can't be made to; no ports, no waiting."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from josepy.b64 import b64decode
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from kproxy.tls.acme.jws import AccountKey
from kproxy.tls.acme.session import Session
from kproxy.tls.acme.web import Web

T = TypeVar("T")
BASE = "https://ca.example"


class Answer:
    """What is said to one request."""

    def __init__(self, body: Any = None, status: int = 200, **headers: str) -> None:
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.body = body if isinstance(body, bytes) else json.dumps(body or {}).encode()


def problem(kind: str, detail: str = "no", status: int = 400, **headers: str) -> Answer:
    document = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}
    return Answer(document, status, **headers)


class CA(Resource):
    """Answers each path with what stands in `says`: one answer after the other, the last for ever.

    @ivar asked: method, path and payload (decoded; None: none) of each request.
    @ivar heads: the protected headers of those that are signed.
    """

    isLeaf = True

    def __init__(self, **directory: str) -> None:
        super().__init__()
        document = {
            name: f"{BASE}/{name}" for name in ("newNonce", "newAccount", "newOrder", "revokeCert")
        }
        self.says: dict[str, list[Answer]] = {
            "/dir": [Answer({**document, **directory})],
            "/newNonce": [Answer()],
        }
        self.asked: list[tuple[str, str, Any]] = []
        self.heads: list[dict[str, Any]] = []
        self.nonces = 0

    def render(self, request: Any) -> bytes:
        path, body = request.path.decode(), request.content.read()
        payload = None
        if body:
            signed = json.loads(body)
            self.heads.append(json.loads(b64decode(signed["protected"])))
            text = b64decode(signed["payload"])
            payload = json.loads(text) if text else "GET"
        self.asked.append((request.method.decode(), path, payload))
        answers = self.says[path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        request.setResponseCode(answer.status)
        for name, value in answer.headers.items():
            request.setHeader(name, value)
        if path != "/dir":
            self.nonces += 1
            request.setHeader("Replay-Nonce", f"nonce{self.nonces}")
        return answer.body

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.asked]


class Case:
    """A session with a `CA`, and a clock that a test moves."""

    def __init__(self, ca: CA | None = None) -> None:
        self.ca = ca or CA()
        self.clock = Clock()
        self.http: Any = StubTreq(self.ca)
        self.web = Web(self.clock, http=self.http)
        self.key = AccountKey.generate()
        self.session = Session(self.clock, self.web, f"{BASE}/dir", self.key)
        self.session.account_url = f"{BASE}/account/1"

    def start(self, work: Coroutine[Any, Any, Any]) -> list[Any]:
        """Begin something; the list gets its result, or the `Failure`."""
        results: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(results.append)
        return results

    def result(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of something that needs no time."""
        (result,) = self.start(work)
        found: T = result_of(result)
        return found


def result_of(result: Any) -> Any:
    if isinstance(result, Failure):
        result.raiseException()
    return result
