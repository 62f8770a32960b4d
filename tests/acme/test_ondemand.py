"""An application is asked which names may have a certificate, over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from kproxy.tls.acme.interfaces import NoCertificate
from kproxy.tls.acme.ondemand import QUESTIONS_PER_MINUTE, OnDemand, Refused
from tests.support.reactor import Turns

NAME = "shop.example.test"


class Application(Resource):
    """Answers with a status.

    @ivar silent: it does not answer at all.
    @ivar endless: its answer's body has no end.
    """

    isLeaf = True

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code
        self.silent = False
        self.endless = False
        self.asked: list[tuple[bytes, bytes, bytes]] = []
        self.left: Deferred[None] = Deferred()

    def render(self, request: Any) -> Any:
        self.asked.append((request.method, request.uri, request.getHeader(b"host")))
        request.setResponseCode(self.code)
        if 300 <= self.code < 400:
            request.setHeader(b"location", b"/elsewhere")
        if not (self.silent or self.endless):
            return b"" if self.code == 204 else b"body"
        request.notifyFinish().addErrback(lambda _: self.left.callback(None))
        if self.endless:
            request.write(b"and so on " * 1000)
        return NOT_DONE_YET


class Asker:
    """Asks one application."""

    def __init__(self, turns: Turns, code: int) -> None:
        self.turns = turns
        self.application = Application(code)
        self._port = turns.reactor.listenTCP(0, Site(self.application), interface="127.0.0.1")
        self.port = self._port.getHost().port
        self.url: str | None = f"http://127.0.0.1:{self.port}/may"

    def on_demand(self, **options: Any) -> OnDemand:
        return OnDemand(lambda name: self.url, self.turns.reactor, **options)

    def stop(self) -> None:
        self.turns.run(maybeDeferred(self._port.stopListening))


@pytest.fixture
def ask(turns: Turns) -> Iterator[Callable[[int], Asker]]:
    """A function that starts an application which answers with a status."""
    askers = []

    def start(code: int) -> Asker:
        askers.append(Asker(turns, code))
        return askers[-1]

    yield start
    for asker in askers:
        asker.stop()


def test_200_allows(turns: Turns, ask: Callable[[int], Asker]) -> None:
    asker = ask(200)
    turns.run(asker.on_demand().ask(NAME))
    host = f"127.0.0.1:{asker.port}".encode()
    assert asker.application.asked == [(b"GET", b"/may?host=shop.example.test", host)]


@pytest.mark.parametrize("code", [201, 204, 301, 302, 307, 401, 404, 500, 503])
def test_every_other_answer_refuses_and_redirects_are_not_followed(
    turns: Turns, ask: Callable[[int], Asker], code: int
) -> None:
    asker = ask(code)
    with pytest.raises(Refused):
        turns.run(asker.on_demand().ask(NAME))
    assert len(asker.application.asked) == 1


@pytest.mark.parametrize("code", [200, 404])
def test_an_answer_is_remembered(turns: Turns, ask: Callable[[int], Asker], code: int) -> None:
    asker = ask(code)
    on_demand = asker.on_demand()
    for _ in range(3):
        try:
            turns.run(on_demand.ask(NAME))
        except Refused:
            assert code == 404
    assert len(asker.application.asked) == 1


def test_an_application_that_does_not_answer_is_not_waited_for_and_asked_again(
    turns: Turns, ask: Callable[[int], Asker]
) -> None:
    asker = ask(200)
    asker.application.silent = True
    on_demand = asker.on_demand(time_limit=0.05)
    with pytest.raises(NoCertificate, match=r"asked: no answer within 0\.05 s") as why:
        turns.run(on_demand.ask(NAME))
    assert not isinstance(why.value, Refused)
    turns.run(asker.application.left)
    asker.application.silent = False
    turns.run(on_demand.ask(NAME))


def test_an_application_that_is_down_says_nothing_about_the_name(
    turns: Turns, ask: Callable[[int], Asker]
) -> None:
    asker = ask(200)
    on_demand = asker.on_demand()
    asker.stop()
    with pytest.raises(NoCertificate, match="refused") as why:
        turns.run(on_demand.ask(NAME))
    assert not isinstance(why.value, Refused)


def test_a_body_without_end_is_not_read(turns: Turns, ask: Callable[[int], Asker]) -> None:
    asker = ask(200)
    asker.application.endless = True
    turns.run(asker.on_demand().ask(NAME))
    turns.run(asker.application.left)


def test_without_an_address_to_ask_the_name_is_refused(
    turns: Turns, ask: Callable[[int], Asker]
) -> None:
    asker = ask(200)
    asker.url = None
    with pytest.raises(Refused):
        turns.run(asker.on_demand().ask(NAME))
    assert asker.application.asked == []


@pytest.mark.parametrize(
    "url", ["nonsense", "http://", "http://[", "http://127.0.0.1:x/", "http://ü.test/"]
)
def test_an_address_that_is_none_is_said_and_no_traceback(
    turns: Turns, ask: Callable[[int], Asker], url: str
) -> None:
    asker = ask(200)
    asker.url = url
    with pytest.raises(NoCertificate, match="could not be asked"):
        turns.run(asker.on_demand().ask(NAME))


def test_questions_are_limited(turns: Turns, ask: Callable[[int], Asker]) -> None:
    asker = ask(404)
    on_demand = asker.on_demand()
    names = [f"{number}.example.test" for number in range(QUESTIONS_PER_MINUTE + 5)]
    refused = []

    def one(name: str) -> Deferred[None]:
        asked = Deferred.fromCoroutine(on_demand.ask(name))
        return asked.addErrback(lambda failure: refused.append(failure.getErrorMessage()))

    for start in range(0, len(names), 50):
        turns.run(gatherResults([one(name) for name in names[start : start + 50]]))
    assert len(asker.application.asked) == QUESTIONS_PER_MINUTE
    assert refused.count("too many names are asked for") == 5
