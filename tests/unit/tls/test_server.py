"""Which certificate and protocol a handshake gets, and how it waits for one that is to come."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import eventAsText, globalLogPublisher
from twisted.python.failure import Failure

from kproxy.http.http1 import HTTP1Connection
from kproxy.http.http2 import HTTP2Connection
from kproxy.http.site import Site
from kproxy.snapshot import Certificate, Snapshot, TLSChallenge, TLSName
from kproxy.tls.alerts import (
    INTERNAL_ERROR,
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    TLSAlert,
)
from kproxy.tls.clienthello import ClientHello
from kproxy.tls.server import NothingMore, TLSServer
from tests.unit.http.memory import Echo
from tests.unit.tls.support import client_context, handshake, issue

A = issue("a.example")
WILD = issue("*.a.example")


class Asked:
    """A server, and the control plane that is asked for certificates."""

    def __init__(self, *names: TLSName, on_demand: bool = False, **more: Any) -> None:
        self.clock = Clock()
        self.wanted: list[str] = []
        self.promise: Deferred[None] = Deferred()
        self.site = Site(Echo(), Echo(), self.clock)
        self.server = TLSServer(self.site, self.clock, self._want)
        self.on_demand = on_demand
        self.use(*names, **more)

    def use(self, *names: TLSName, **more: Any) -> None:
        self.server.use(Snapshot(tls=names, on_demand=self.on_demand, **more))

    def _want(self, name: str) -> Deferred[None]:
        self.wanted.append(name)
        return self.promise

    def ask(self, name: str = "", *protocols: bytes) -> list[Any]:
        """What came of it so far: nothing, a `Welcome`, or the code of an alert."""
        results: list[Any] = []

        def failed(failure: Failure) -> None:
            assert isinstance(failure.value, TLSAlert)
            results.append(failure.value.code)

        hello = ClientHello(name, protocols)
        try:
            welcome = self.server.welcome(hello)
        except TLSAlert as alert:
            return [alert.code]
        if welcome is not None:
            return [welcome]
        self.server.welcome_later(hello).addCallbacks(results.append, failed)
        return results


def shown(welcome: Any, name: str) -> Any:
    """The names in the certificate that a client sees."""
    client, _ = handshake(welcome.context, client_context(), name)
    return [value for _, value in client.tls.getpeercert()["subjectAltName"]]


def test_each_name_gets_its_own_certificate() -> None:
    asked = Asked(TLSName("a.example", A), TLSName("*.a.example", WILD))
    (welcome,) = asked.ask("a.example")
    assert shown(welcome, "a.example") == ["a.example"]
    (welcome,) = asked.ask("www.a.example")
    assert shown(welcome, "www.a.example") == ["*.a.example"]
    (welcome,) = asked.ask("")
    assert shown(welcome, "a.example") == ["a.example"]
    assert asked.wanted == []


@pytest.mark.parametrize("name", ["b.example", "x.www.a.example", "example"])
def test_nobody_gets_somebody_elses_certificate(name: str) -> None:
    asked = Asked(TLSName("a.example", A), TLSName("*.a.example", WILD))
    assert asked.ask(name) == [UNRECOGNIZED_NAME]


def test_where_no_service_has_tls_every_handshake_is_refused() -> None:
    assert Asked().ask("") == [UNRECOGNIZED_NAME]
    assert Asked(on_demand=True).ask("") == [UNRECOGNIZED_NAME]


@pytest.mark.parametrize(
    ("offered", "made"),
    [
        ((), HTTP1Connection),
        ((b"http/1.1",), HTTP1Connection),
        ((b"http/1.0",), HTTP1Connection),
        ((b"http/1.1", b"h2"), HTTP2Connection),
        ((b"spdy/3", b"h2"), HTTP2Connection),
    ],
)
def test_the_protocol_follows_what_the_client_offers(offered: Any, made: type) -> None:
    (welcome,) = Asked(TLSName("a.example", A)).ask("a.example", *offered)
    protocol = welcome.factory()
    assert type(protocol) is made
    assert protocol.secure


@pytest.mark.parametrize("offered", [(b"spdy/3",), (b"acme-tls/1",), (b"H2",)])
def test_a_client_that_offers_only_what_is_not_spoken_is_told_so(offered: Any) -> None:
    asked = Asked(TLSName("a.example", A))
    assert asked.ask("a.example", *offered) == [NO_APPLICATION_PROTOCOL]


def test_a_challenge_is_shown_to_who_asks_for_it_alone_and_to_nobody_else() -> None:
    challenge = issue("c.example")
    asked = Asked(TLSName("a.example", A), tls_challenges=(TLSChallenge("c.example", challenge),))
    (welcome,) = asked.ask("c.example", b"acme-tls/1")
    client, _ = handshake(welcome.context, client_context(alpn=["acme-tls/1"]), "c.example")
    assert client.tls.selected_alpn_protocol() == "acme-tls/1"
    assert isinstance(welcome.factory(), NothingMore)
    assert asked.ask("c.example") == [UNRECOGNIZED_NAME]
    assert asked.ask("c.example", b"http/1.1") == [UNRECOGNIZED_NAME]
    assert asked.ask("a.example", b"acme-tls/1") == [NO_APPLICATION_PROTOCOL]


def test_a_challenge_is_answered_for_a_name_whose_certificate_is_not_there_yet() -> None:
    challenge = TLSChallenge("c.example", issue("c.example"))
    asked = Asked(TLSName("c.example"), tls_challenges=(challenge,))
    assert len(asked.ask("c.example", b"acme-tls/1")) == 1
    assert asked.wanted == []


# Certificates that are still to come.


def test_a_handshake_waits_for_its_certificate() -> None:
    asked = Asked(TLSName("a.example", A), TLSName("b.example"))
    waiting = asked.ask("b.example")
    assert waiting == []
    assert asked.wanted == ["b.example"]
    asked.use(TLSName("a.example", A), TLSName("b.example", issue("b.example")))
    assert waiting == []
    asked.promise.callback(None)
    (welcome,) = waiting
    assert shown(welcome, "b.example") == ["b.example"]
    assert asked.clock.getDelayedCalls() == []


def test_while_one_waits_others_are_welcome() -> None:
    asked = Asked(TLSName("a.example", A), TLSName("b.example"))
    asked.ask("b.example")
    assert len(asked.ask("a.example")) == 1


@pytest.mark.parametrize("name", ["", "www.b.example"])
def test_it_is_the_name_of_the_certificate_that_is_asked_for(name: str) -> None:
    asked = Asked(TLSName("*.b.example"))
    asked.ask(name)
    assert asked.wanted == ["*.b.example"]


def test_a_handshake_does_not_wait_for_ever() -> None:
    asked = Asked(TLSName("b.example"))
    waiting = asked.ask("b.example")
    asked.clock.advance(29.9)
    assert waiting == []
    asked.clock.advance(0.1)
    assert waiting == [INTERNAL_ERROR]
    asked.use(TLSName("b.example", issue("b.example")))
    asked.promise.callback(None)
    assert waiting == [INTERNAL_ERROR]


def test_the_last_moment_is_not_too_late() -> None:
    asked = Asked(TLSName("b.example"))
    waiting = asked.ask("b.example")
    asked.use(TLSName("b.example", issue("b.example")))
    asked.clock.advance(30)
    assert not isinstance(waiting[0], int)


def test_a_certificate_that_can_not_be_had_is_an_error() -> None:
    asked = Asked(TLSName("b.example"))
    waiting = asked.ask("b.example")
    asked.promise.errback(Failure(RuntimeError("the CA refuses")))
    assert waiting == [INTERNAL_ERROR]
    assert asked.clock.getDelayedCalls() == []


def test_a_control_plane_that_raises_is_no_worse_than_one_that_fails() -> None:
    clock = Clock()

    def broken(name: str) -> Deferred[None]:
        raise RuntimeError(name)

    server = TLSServer(Site(Echo(), Echo(), clock), clock, broken)
    server.use(Snapshot(tls=(TLSName("b.example"),)))
    failures: list[Any] = []
    server.welcome_later(ClientHello("b.example")).addErrback(failures.append)
    assert failures[0].value.code == INTERNAL_ERROR


def test_a_name_that_is_taken_away_while_it_waits_is_not_served() -> None:
    asked = Asked(TLSName("b.example"))
    waiting = asked.ask("b.example")
    asked.use()
    asked.promise.callback(None)
    assert waiting == [UNRECOGNIZED_NAME]


def test_on_demand_names_that_nobody_listed_are_asked_for() -> None:
    asked = Asked(TLSName("a.example", A), on_demand=True)
    waiting = asked.ask("new.example")
    assert asked.wanted == ["new.example"]
    asked.use(TLSName("a.example", A), TLSName("new.example", issue("new.example")))
    asked.promise.callback(None)
    assert shown(waiting[0], "new.example") == ["new.example"]


def test_on_demand_a_name_that_gets_no_certificate_is_not_served() -> None:
    asked = Asked(TLSName("a.example", A), on_demand=True)
    waiting = asked.ask("new.example")
    asked.promise.errback(Failure(RuntimeError("not allowed")))
    assert waiting == [UNRECOGNIZED_NAME]


@pytest.mark.parametrize("bad", [Certificate(A.chain, WILD.key), Certificate("x", "SECRET")])
def test_a_certificate_that_is_of_no_use_is_an_error_that_shows_no_key(bad: Certificate) -> None:
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        assert Asked(TLSName("a.example", bad)).ask("a.example") == [INTERNAL_ERROR]
    finally:
        globalLogPublisher.removeObserver(events.append)
    (text,) = [eventAsText(event) for event in events]
    assert "'a.example' is of no use" in text
    assert not any(line in text for line in bad.key.splitlines() if line)


def test_a_renewed_certificate_is_shown_from_the_next_handshake_on() -> None:
    asked = Asked(TLSName("a.example", A))
    asked.ask("a.example")
    asked.use(TLSName("a.example", issue("a.example", "renewed.example")))
    (welcome,) = asked.ask("a.example")
    assert shown(welcome, "a.example") == ["a.example", "renewed.example"]
