"""Renewal information (RFC 9773), which Debian's pebble does not have yet."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509

from kproxy.tls.acme.chains import renewal_id
from kproxy.tls.acme.client import AcmeClient, RenewalWindow
from kproxy.tls.acme.errors import AcmeError, BadAnswer
from kproxy.tls.acme.renewal import read_time
from tests.support.certificates import Authority
from tests.unit.tls.acme.scripted_ca import BASE, CA, Answer, Case, problem

START, END = "2026-11-23T08:00:00Z", "2026-11-24T08:00:00.123456789+02:00"
UTC = timezone.utc


class Renewals(Case):
    """A CA with an opinion about one certificate."""

    def __init__(self, *says: Answer) -> None:
        super().__init__(CA(renewalInfo=f"{BASE}/renewals"))
        self.certificate = Authority().issue("a.example").chain
        leaf = x509.load_pem_x509_certificate(self.certificate.encode())
        self.identifier = renewal_id(leaf)
        self.path = f"/renewals/{self.identifier}"
        self.ca.says[self.path] = list(says)
        self.client = AcmeClient(
            f"{BASE}/dir",
            self.key,
            reactor=self.clock,
            account_url=self.session.account_url,
            http=self.http,
        )

    def window(self) -> RenewalWindow | None:
        return self.result(self.client.renewal_window(self.certificate))


def window(start: object = START, end: object = END, **more: Any) -> dict[str, Any]:
    return {"suggestedWindow": {"start": start, "end": end}, **more}


def test_the_window_is_asked_for_without_signing() -> None:
    case = Renewals(Answer(window(explanationURL="https://ca.example/why"), retry_after="21600"))
    assert case.window() == RenewalWindow(
        start=datetime(2026, 11, 23, 8, tzinfo=UTC),
        end=datetime(2026, 11, 24, 6, tzinfo=UTC),
        explanation="https://ca.example/why",
        retry_after=21600.0,
    )
    assert case.ca.asked[-1] == ("GET", case.path, None)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 21600.0), ("0", 60.0), ("100", 100.0), ("99999999", 86400.0)],
)
def test_when_to_ask_again_stays_within_what_the_rfc_recommends(
    header: str | None, seconds: float
) -> None:
    headers = {} if header is None else {"retry_after": header}
    found = Renewals(Answer(window(), **headers)).window()
    assert found is not None
    assert found.retry_after == seconds


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"suggestedWindow": []},
        window(start=None),
        window(end="tomorrow"),
        window(start="2026-11-23T08:00:00"),
        window(start="2026-13-23T08:00:00Z"),
        window(start=END, end=START),
    ],
)
def test_a_window_that_makes_no_sense_is_an_error(document: dict[str, Any]) -> None:
    with pytest.raises(BadAnswer):
        Renewals(Answer(document)).window()


def test_a_ca_that_does_not_know_the_certificate_says_so() -> None:
    with pytest.raises(AcmeError, match=r"^unknown \(malformed\)$"):
        Renewals(problem("malformed", "unknown", 404)).window()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T08:00:00Z", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23t08:00:00.5z", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        (
            "2026-11-23T08:00:00-05:30",
            datetime(2026, 11, 23, 8, tzinfo=timezone(-timedelta(hours=5, minutes=30))),
        ),
    ],
)
def test_times_are_read_as_rfc_3339_writes_them(text: str, expected: datetime) -> None:
    assert read_time(text) == expected


class TestOrdersThatReplace:
    def order(self, *answers: Answer) -> Renewals:
        case = Renewals()
        case.ca.says["/newOrder"] = list(answers)
        issuing = case.client.issue(["a.example"], b"", [], replaces=case.certificate)
        with pytest.raises(AcmeError):
            # The order itself leads nowhere here.
            case.result(issuing)
        return case

    def orders(self, case: Renewals) -> list[Any]:
        return [
            payload.get("replaces") for _, path, payload in case.ca.asked if path == "/newOrder"
        ]

    def test_a_renewal_names_the_certificate_that_it_replaces(self) -> None:
        case = self.order(Answer(location=f"{BASE}/order"))
        assert self.orders(case) == [case.identifier]

    @pytest.mark.parametrize("kind", ["alreadyReplaced", "malformed", "unauthorized"])
    def test_a_ca_that_has_no_use_for_that_is_asked_without(self, kind: str) -> None:
        case = self.order(problem(kind, status=409), Answer(location=f"{BASE}/order"))
        assert self.orders(case) == [case.identifier, None]

    def test_any_other_refusal_is_one(self) -> None:
        case = self.order(problem("rateLimited", status=429))
        assert self.orders(case) == [case.identifier]
