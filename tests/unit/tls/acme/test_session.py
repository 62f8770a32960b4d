"""Nonces, errors and the CA's pace (RFC 8555 sections 6.5 to 6.7, 7.5.1)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from kproxy.tls.acme.errors import RATE_LIMITED, AcmeError, BadAnswer
from tests.unit.tls.acme.scripted_ca import BASE, CA, Answer, Case, problem, result_of

ORDER = f"{BASE}/newOrder"
WAITING = frozenset(("pending", "processing"))


def test_the_first_nonce_is_asked_for_and_the_others_come_with_the_answers() -> None:
    case = Case()
    case.ca.says["/newOrder"] = [Answer()]
    for _ in range(3):
        case.result(case.session.post(ORDER, {}))
    assert case.ca.paths() == ["/dir", "/newNonce", *["/newOrder"] * 3]
    assert [head["nonce"] for head in case.ca.heads] == ["nonce1", "nonce2", "nonce3"]


def test_a_nonce_is_used_once_even_by_requests_side_by_side() -> None:
    case = Case()
    case.ca.says["/newOrder"] = [Answer()]
    for _ in range(5):
        case.start(case.session.post(ORDER, {}))
    nonces = [head["nonce"] for head in case.ca.heads]
    assert len(set(nonces)) == len(nonces) == 5


def test_a_bad_nonce_is_tried_again_with_the_one_that_came_with_the_refusal() -> None:
    case = Case()
    case.ca.says["/newOrder"] = [problem("badNonce"), problem("badNonce"), Answer({"ok": 1})]
    assert case.result(case.session.post(ORDER, {"a": 1})).json() == {"ok": 1}
    assert case.ca.paths().count("/newNonce") == 1
    assert [payload for _, path, payload in case.ca.asked if path == "/newOrder"] == [{"a": 1}] * 3


def test_a_ca_that_finds_every_nonce_bad_is_given_up() -> None:
    case = Case()
    case.ca.says["/newOrder"] = [problem("badNonce")]
    with pytest.raises(AcmeError, match="badNonce"):
        case.result(case.session.post(ORDER, {}))
    assert case.ca.paths().count("/newOrder") == 12


def test_a_ca_without_nonces_is_told() -> None:
    class Stingy(CA):
        def render(self, request: Any) -> bytes:
            body = super().render(request)
            request.responseHeaders.removeHeader("Replay-Nonce")
            return body

    case = Case(Stingy())
    with pytest.raises(BadAnswer, match=r"^ca\.example gives no nonces$"):
        case.result(case.session.post(ORDER, {}))


def test_a_rate_limit_has_the_time_after_which_to_come_again() -> None:
    case = Case()
    case.ca.says["/newOrder"] = [
        problem("rateLimited", "too many new orders", 429, retry_after="3600")
    ]
    with pytest.raises(AcmeError, match=r"^too many new orders \(rateLimited\)$") as refused:
        case.result(case.session.post(ORDER, {}))
    assert (refused.value.type, refused.value.status) == (RATE_LIMITED, 429)
    assert refused.value.retry_after == 3600.0
    assert case.ca.paths().count("/newOrder") == 1, "and is not asked again before that"


def test_a_refusal_that_is_no_problem_document_has_its_status() -> None:
    case = Case()
    case.ca.says["/newOrder"] = [Answer(b"<h1>busy</h1>", 503, retry_after="7")]
    with pytest.raises(
        AcmeError, match=r"^ca\.example answered 503 Service Unavailable$"
    ) as refused:
        case.result(case.session.post(ORDER, {}))
    assert refused.value.retry_after == 7.0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"newAccount": f"{BASE}/x"}, "is not the directory of an ACME server: no newNonce in it"),
        (
            {"newNonce": "http://ca.example/x"},
            "newNonce in the directory .* should be an https URL",
        ),
        ({"newNonce": 3}, "newNonce in the directory .* should be an https URL"),
    ],
)
def test_a_directory_that_is_none_is_told(body: Any, message: str) -> None:
    case = Case()
    case.ca.says["/dir"] = [Answer(body)]
    with pytest.raises(BadAnswer, match=message):
        case.result(case.session.post(ORDER, {}))


def test_the_directory_is_read_again_after_an_hour() -> None:
    case = Case()
    for seconds, times in ((0, 1), (3600, 1), (1, 2)):
        case.clock.advance(seconds)
        case.result(case.session.directory())
        assert case.ca.paths().count("/dir") == times


class TestPolling:
    def poll(self, case: Case, *answers: Answer, limit: float = 60.0) -> list[Any]:
        case.ca.says["/order"] = list(answers)
        return case.start(case.session.poll(f"{BASE}/order", WAITING, limit, "it did not come"))

    def test_it_ends_with_the_first_other_status(self) -> None:
        case = Case()
        results = self.poll(
            case,
            Answer({"status": "pending"}),
            Answer({"status": "processing"}),
            Answer({"status": "valid"}),
        )
        case.clock.pump([0.5] * 4)
        assert result_of(results[0]).json() == {"status": "valid"}
        assert case.ca.paths().count("/order") == 3
        assert case.ca.asked[-1][2] == "GET"

    def test_the_cas_own_pace_is_kept(self) -> None:
        case = Case()
        self.poll(case, Answer({"status": "pending"}, retry_after="10"))
        for seconds, times in ((9.9, 1), (0.2, 2), (9.7, 2), (0.4, 3)):
            case.clock.advance(seconds)
            assert case.ca.paths().count("/order") == times

    def test_without_a_pace_it_grows_slower(self) -> None:
        case = Case()
        self.poll(case, Answer({"status": "pending"}), limit=300.0)
        case.clock.pump([0.1] * 2990)
        assert case.ca.paths().count("/order") < 70

    def test_a_ca_that_says_at_once_is_not_hammered(self) -> None:
        case = Case()
        self.poll(case, Answer({"status": "pending"}, retry_after="0"))
        case.clock.pump([0.01] * 100)
        assert case.ca.paths().count("/order") <= 5

    def test_it_is_given_up_at_its_limit(self) -> None:
        case = Case()
        results = self.poll(case, Answer({"status": "pending"}), limit=5.0)
        case.clock.pump([0.1] * 50)
        with pytest.raises(AcmeError, match=r"^it did not come within 5 s$"):
            result_of(results[0])
        assert not case.clock.getDelayedCalls()

    def test_a_ca_that_wants_to_be_asked_after_the_limit_is_not_waited_for(self) -> None:
        case = Case()
        results = self.poll(case, Answer({"status": "pending"}, retry_after="600"))
        with pytest.raises(AcmeError) as refused:
            result_of(results[0])
        assert refused.value.retry_after == 600.0

    def test_cancelling_ends_it(self) -> None:
        case = Case()
        case.ca.says["/order"] = [Answer({"status": "pending"})]
        results: list[Any] = []
        polling = Deferred.fromCoroutine(case.session.poll(f"{BASE}/order", WAITING, 60.0, "x"))
        polling.addBoth(results.append)
        polling.cancel()
        with pytest.raises(CancelledError):
            result_of(results[0])
        assert not case.clock.getDelayedCalls()
