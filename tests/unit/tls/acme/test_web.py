"""Requests to a CA: what is followed, what is bounded, and what headers mean."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from kproxy import __version__
from kproxy.tls.acme.errors import AcmeError, BadAnswer, Unreachable
from kproxy.tls.acme.web import Web, https_url, links, seconds_until
from tests.unit.tls.acme.scripted_ca import BASE, CA, Answer, Case, result_of


def test_links_are_found_by_their_relation() -> None:
    values = [
        '<https://a/1>;rel="alternate", <https://a/2>; rel=alternate; title="x, <y>; rel=up"',
        '<https://a/dir>;rel="index"',
        '<https://a/3>; title="a"; rel="up alternate",<https://a/4>',
    ]
    assert links(values, "alternate") == ["https://a/1", "https://a/2", "https://a/3"]
    assert links(values, "index") == ["https://a/dir"]
    assert links(values, "terms-of-service") == links([], "index") == []


@pytest.mark.parametrize(
    "text", ["", "<", "<>;rel=index", "<a>rel=index", "junk", '<a>;rel="', ","]
)
def test_a_link_that_is_nonsense_does_no_harm(text: str) -> None:
    assert links([text], "alternate") == []


@pytest.mark.parametrize(
    ("retry_after", "date", "expected"),
    [
        (None, None, None),
        ("120", None, 120.0),
        (" 0 ", None, 0.0),
        ("Mon, 23 Nov 2026 08:00:30 GMT", "Mon, 23 Nov 2026 08:00:00 GMT", 30.0),
        ("Mon, 23 Nov 2026 07:00:00 GMT", "Mon, 23 Nov 2026 08:00:00 GMT", 0.0),
        ("Mon, 23 Nov 2026 08:00:30 GMT", None, None),
        ("-5", None, None),
        ("soon", "now", None),
        ("9" * 400, None, None),
    ],
)
def test_retry_after_in_seconds(
    retry_after: str | None, date: str | None, expected: float | None
) -> None:
    assert seconds_until(retry_after, date) == expected


@pytest.mark.parametrize(
    "url", ["http://ca.example/", "ftp://x", "https://", "", None, 3, "https://[x"]
)
def test_only_https_is_spoken(url: object) -> None:
    with pytest.raises(BadAnswer, match=r"^the order should be an https URL"):
        https_url(url, "the order")


def test_a_request_says_who_asks() -> None:
    seen: dict[str, Any] = {}

    class Curious(CA):
        def render(self, request: Any) -> bytes:
            seen.update(request.getAllHeaders())
            return super().render(request)

    case = Case(Curious())
    case.result(case.web.get(f"{BASE}/dir"))
    assert seen[b"user-agent"] == f"kproxy/{__version__}".encode()
    assert seen[b"accept-language"] == b"en"


def test_a_get_is_redirected_to_other_https_urls() -> None:
    case = Case()
    case.ca.says["/old"] = [Answer(status=301, location="/dir")]
    answer = case.result(case.web.get(f"{BASE}/old"))
    assert answer.url == f"{BASE}/dir"
    assert "newNonce" in answer.json()


@pytest.mark.parametrize("location", ["http://ca.example/dir", "/old", ""])
def test_redirects_to_http_or_in_circles_are_refused(location: str) -> None:
    case = Case()
    case.ca.says["/old"] = [Answer(status=307, location=location)]
    with pytest.raises(BadAnswer):
        case.result(case.web.get(f"{BASE}/old"))
    assert len(case.ca.asked) <= 6


def test_what_is_signed_is_not_redirected() -> None:
    case = Case()
    case.ca.says["/newOrder"] = [Answer(status=308, location=f"{BASE}/dir")]
    with pytest.raises(AcmeError, match=r"^ca\.example answered 308 Permanent Redirect$"):
        case.result(case.session.post(f"{BASE}/newOrder", {}))


def test_an_answer_may_not_be_endless() -> None:
    case = Case()
    case.ca.says["/big"] = [Answer(b"x" * (1 << 20))]
    assert len(case.result(case.web.get(f"{BASE}/big")).body) == 1 << 20
    case.ca.says["/big"] = [Answer(b"x" * ((1 << 20) + 1))]
    with pytest.raises(Unreachable, match=r"^ca\.example answered more than 1048576 bytes$"):
        case.result(case.web.get(f"{BASE}/big"))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"3", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_json_object_is_told(body: bytes) -> None:
    case = Case()
    case.ca.says["/x"] = [Answer(body)]
    with pytest.raises(
        BadAnswer, match=r"^ca\.example answered something that is not a JSON object"
    ):
        case.result(case.web.get(f"{BASE}/x")).json()


class Mute:
    """A way to send requests to which there is no answer."""

    def __init__(self) -> None:
        self.cancelled = False

    def request(self, *args: Any, **options: Any) -> Deferred[Any]:
        def cancel(_: object) -> None:
            self.cancelled = True

        return Deferred(cancel)


def test_a_request_has_a_time_limit_and_is_ended_by_it() -> None:
    clock, http = Clock(), Mute()
    results: list[Any] = []
    web: Any = Web(clock, time_limit=7.0, http=http)  # type: ignore[arg-type]
    Deferred.fromCoroutine(web.get(f"{BASE}/dir")).addBoth(results.append)
    clock.advance(6.9)
    assert not results
    clock.advance(0.2)
    with pytest.raises(Unreachable, match=r"^ca\.example did not answer within 7 s$"):
        result_of(results[0])
    assert http.cancelled
    assert not clock.getDelayedCalls()


def test_a_request_that_is_cancelled_says_so() -> None:
    clock, http = Clock(), Mute()
    results: list[Any] = []
    web: Any = Web(clock, http=http)  # type: ignore[arg-type]
    request = Deferred.fromCoroutine(web.get(f"{BASE}/dir")).addBoth(results.append)
    request.cancel()
    with pytest.raises(CancelledError):
        result_of(results[0])
    assert http.cancelled
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize(
    "content", [None, "", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_a_file_of_roots_that_can_not_be_used_is_told(tmp_path: Any, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AcmeError, match=r"ca\.pem (can't be read|does not hold certificates)"):
        Web(Clock(), ca_file=path)
