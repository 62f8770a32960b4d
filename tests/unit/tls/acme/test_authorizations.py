"""Which responder is chosen, and what becomes of those that fail (RFC 8555 section 7.5)."""

from __future__ import annotations

from typing import Any

import pytest
from acme.challenges import DNS01, HTTP01
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import globalLogPublisher

from kproxy.tls.acme.authorizations import authorize
from kproxy.tls.acme.errors import AcmeError, BadAnswer, ChallengeFailed
from tests.unit.tls.acme.scripted_ca import BASE, Answer, Case, problem, result_of

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
URL = f"{BASE}/authz"


class Responder:
    """Remembers what it was asked for, and does what a test has it do."""

    def __init__(self, challenge_type: str = "http-01") -> None:
        self.challenge_type = challenge_type
        self.calls: list[tuple[str, str]] = []
        self.given: list[Any] = []
        self.on_start: Any = lambda: succeed(None)
        self.on_stop: Any = lambda: None

    def start_responding(self, server_name: str, challenge: Any, response: Any) -> Any:
        self.calls.append(("start", server_name))
        self.given = [challenge, response]
        return self.on_start()

    def stop_responding(self, server_name: str, challenge: Any, response: Any) -> Any:
        self.calls.append(("stop", server_name))
        assert self.given == [challenge, response]
        return self.on_stop()


def challenge(kind: str = "http-01", status: str = "pending", **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "url": f"{BASE}/chall", "token": TOKEN, **more}


def authorization(status: str = "pending", *challenges: Any, **more: Any) -> Answer:
    return Answer(
        {
            "status": status,
            "identifier": {"type": "dns", "value": "a.example"},
            "challenges": list(challenges or (challenge(),)),
            **more,
        }
    )


def attempt(*answers: Answer, on_challenge: Answer | None = None) -> Case:
    case = Case()
    case.ca.says["/authz"] = list(answers)
    case.ca.says["/chall"] = [on_challenge or Answer(challenge(status="processing"))]
    return case


def work(case: Case, *responders: Any) -> Any:
    return authorize(case.session, [URL], responders, 60.0)


def test_a_responder_starts_before_the_ca_is_told_and_stops_when_it_has_seen() -> None:
    case, responder = attempt(authorization(), authorization("valid")), Responder()
    responder.on_start = lambda: succeed(case.ca.asked.append(("", "started", None)))
    responder.on_stop = lambda: case.ca.asked.append(("", "stopped", None))
    case.result(work(case, responder))
    paths = [path for path in case.ca.paths() if path not in ("/dir", "/newNonce")]
    assert paths == ["/authz", "started", "/chall", "/authz", "stopped"]
    assert ("POST", "/chall", {}) in case.ca.asked


def test_a_responder_gets_what_txacmes_get() -> None:
    for kind, expected in (("http-01", HTTP01), ("dns-01", DNS01)):
        case = attempt(authorization("pending", challenge(kind)), authorization("valid"))
        responder = Responder(kind)
        case.result(work(case, responder))
        given, response = responder.given
        assert isinstance(given, expected)
        assert given.encode("token") == TOKEN
        assert response.key_authorization.startswith(f"{TOKEN}.")
        assert response.verify(given, case.key.jwk)


def test_a_wildcard_is_told_to_responders_without_it_and_to_people_with_it() -> None:
    refused = challenge("dns-01", "invalid", error={"detail": "no TXT record"})
    case = attempt(
        authorization("pending", challenge("dns-01"), wildcard=True),
        authorization("invalid", refused, wildcard=True),
    )
    responder = Responder("dns-01")
    with pytest.raises(ChallengeFailed) as failed:
        case.result(work(case, responder))
    assert failed.value.subproblems == (("*.a.example", "no TXT record"),)
    assert responder.calls == [("start", "a.example"), ("stop", "a.example")]


def test_an_authorization_that_is_valid_needs_nothing() -> None:
    case, responder = attempt(authorization("valid")), Responder()
    case.result(work(case, responder))
    assert responder.calls == []


def test_a_challenge_that_the_ca_is_at_already_is_not_begun_again() -> None:
    case = attempt(authorization("pending", challenge(status="processing")), authorization("valid"))
    responder = Responder()
    case.result(work(case, responder))
    assert "/chall" not in case.ca.paths()
    assert responder.calls == [("start", "a.example"), ("stop", "a.example")]


@pytest.mark.parametrize("status", ["invalid", "expired", "revoked", "deactivated"])
def test_an_authorization_that_has_failed_before_is_told(status: str) -> None:
    case = attempt(authorization(status))
    with pytest.raises(ChallengeFailed, match=f"a.example: the authorization is {status}"):
        case.result(work(case, Responder()))


def test_a_responder_that_can_not_start_is_told_before_the_ca_looks_and_is_stopped() -> None:
    case, responder = attempt(authorization()), Responder()

    def refuse() -> None:
        raise AcmeError("the name server said REFUSED")

    responder.on_start = refuse
    with pytest.raises(ChallengeFailed) as failed:
        case.result(work(case, responder))
    assert str(failed.value).endswith(
        "a.example: http-01 can't be answered: the name server said REFUSED"
    )
    assert "/chall" not in case.ca.paths()
    assert responder.calls[-1] == ("stop", "a.example")


def test_of_a_third_partys_exception_only_the_type_is_shown() -> None:
    case, responder = attempt(authorization()), Responder()

    async def fail() -> None:
        raise LookupError("with password=secret")

    responder.on_start = fail
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        with pytest.raises(ChallengeFailed, match=r"can't be answered: LookupError$"):
            case.result(work(case, responder))
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert any(event.get("log_failure") for event in events), "its author finds it in the log"


def test_a_responder_that_can_not_stop_does_not_cost_the_certificate() -> None:
    case, responder = attempt(authorization(), authorization("valid")), Responder()

    def refuse() -> None:
        raise AcmeError("gone")

    responder.on_stop = refuse
    case.result(work(case, responder))


def test_a_ca_that_refuses_the_challenge_has_the_responder_stopped() -> None:
    case = attempt(authorization(), on_challenge=problem("malformed", "not this way"))
    responder = Responder()
    with pytest.raises(AcmeError, match="not this way"):
        case.result(work(case, responder))
    assert responder.calls[-1] == ("stop", "a.example")


def test_cancelling_waits_until_the_responder_has_stopped() -> None:
    case, responder = attempt(authorization()), Responder()
    stopped: Deferred[None] = Deferred()
    responder.on_stop = lambda: stopped
    results: list[Any] = []
    authorizing = Deferred.fromCoroutine(work(case, responder)).addBoth(results.append)
    assert case.ca.paths()[-1] == "/authz", "it is being polled"
    authorizing.cancel()
    assert responder.calls[-1] == ("stop", "a.example")
    assert not results
    stopped.callback(None)
    with pytest.raises(CancelledError):
        result_of(results[0])
    assert not case.clock.getDelayedCalls()


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"status": "pending"}),
        Answer({"status": "pending", "identifier": {"value": 3}, "challenges": []}),
        authorization("pending", challenge(token="../../etc/passwd")),
        authorization("pending", challenge(token=3)),
        authorization("pending", {"type": "http-01", "status": "pending"}),
        authorization("pending", challenge(url="http://ca.example/chall")),
    ],
)
def test_an_authorization_that_makes_no_sense_is_an_error(answer: Answer) -> None:
    case, responder = attempt(answer), Responder()
    with pytest.raises(BadAnswer):
        case.result(work(case, responder))
    assert responder.calls == []
