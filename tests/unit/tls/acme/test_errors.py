"""Problem documents (RFC 7807, RFC 8555 section 6.7) in sentences."""

from __future__ import annotations

from typing import Any

import pytest

from kproxy.tls.acme.errors import RATE_LIMITED, AcmeError, one_line, problem_of

URN = "urn:ietf:params:acme:error:"


def test_a_problem_is_told_in_the_cas_own_words_with_its_type() -> None:
    error = problem_of(
        {"type": RATE_LIMITED, "detail": "too many certificates already issued"},
        status=429,
        retry_after=3600.0,
    )
    assert str(error) == "too many certificates already issued (rateLimited)"
    assert (error.type, error.status, error.retry_after) == (RATE_LIMITED, 429, 3600.0)
    assert error.detail == "too many certificates already issued"


def test_subproblems_are_told_for_each_name() -> None:
    error = problem_of(
        {
            "type": f"{URN}malformed",
            "detail": "Some of the identifiers were rejected",
            "subproblems": [
                {
                    "type": f"{URN}rejectedIdentifier",
                    "detail": "not this one",
                    "identifier": {"type": "dns", "value": "a.example"},
                },
                {"type": f"{URN}caa", "detail": "CAA forbids it"},
            ],
        }
    )
    assert str(error) == (
        "Some of the identifiers were rejected (malformed): "
        "a.example: not this one (rejectedIdentifier); in general: CAA forbids it (caa)"
    )


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, "the CA refused without saying why"),
        ({"title": "Nope"}, "Nope"),
        ({"type": f"{URN}caa"}, "the CA refused without saying why (caa)"),
        ({"type": "about:blank", "detail": "x"}, "x (about:blank)"),
        ({"type": 3, "detail": ["x"], "subproblems": "x"}, "the CA refused without saying why"),
        ({"detail": "x", "subproblems": [1, {"identifier": 2}]}, "x: in general: the CA refused"),
    ],
)
def test_whatever_a_problem_holds_there_is_a_sentence(
    document: dict[str, Any], expected: str
) -> None:
    assert str(problem_of(document)).startswith(expected)


def test_what_a_ca_writes_is_fit_for_a_log() -> None:
    assert one_line("two\r\nlines\x1b[31m\u2028end") == "two lines [31m end"
    assert len(one_line("x" * 10**6)) == 1000
    error = AcmeError("a\nb", subproblems=(("n\n", "w\x00"),))
    assert str(error) == "a b: n: w"
