"""Which names may have a certificate on demand: what can be said without asking."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from kproxy.tls.acme.ondemand import (
    ALLOWED_FOR,
    REFUSED_FOR,
    REMEMBERED,
    Answers,
    PerMinute,
    Refused,
    check_name,
    question,
)


@pytest.mark.parametrize(
    "name",
    [
        "example.com",
        "www.example.com",
        "xn--bcher-kva.example",
        "1.example.com",
        "a-b.c.example.com",
        f"{'a' * 63}.example.com",
        ".".join(["a" * 63] * 3) + "." + "b" * 61,
    ],
)
def test_a_host_name_may_be_asked_for(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "localhost",
        ".",
        ".example.com",
        "example.com.",
        "a..example.com",
        "-a.example.com",
        "a-.example.com",
        "*.example.com",
        "a_b.example.com",
        "Example.com",
        "bücher.example",
        "a b.example.com",
        "a.example.com/x",
        "a.example.com?x=1",
        "a.example.com\r\n",
        "a.example.com\n",
        "../../etc/passwd",
        "127.0.0.1",
        "1.2.3",
        "::1",
        "2001:db8::1",
        f"{'a' * 64}.example.com",
        ".".join(["a" * 63] * 4),
    ],
)
def test_nonsense_and_addresses_are_refused_unasked(name: str) -> None:
    with pytest.raises(Refused):
        check_name(name)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://app.test/may", "http://app.test/may?host=a.test"),
        ("http://app.test/may?x=1&y=%20", "http://app.test/may?x=1&y=%20&host=a.test"),
        ("https://app.test:8443", "https://app.test:8443/?host=a.test"),
        ("http://[::1]:80/may#part", "http://[::1]:80/may?host=a.test"),
        ("http://app.test/may?", "http://app.test/may?host=a.test"),
    ],
)
def test_the_name_is_appended_to_the_query(url: str, asked: str) -> None:
    assert question(url, "a.test") == asked


def test_no_more_than_so_many_pass_in_a_minute() -> None:
    clock = Clock()
    limit = PerMinute(2, clock)
    assert [limit.take(), limit.take(), limit.take()] == [True, True, False]
    clock.advance(59)
    assert not limit.take()
    clock.advance(1)
    assert [limit.take(), limit.take(), limit.take()] == [True, True, False]


@pytest.mark.parametrize(("allowed", "seconds"), [(True, ALLOWED_FOR), (False, REFUSED_FOR)])
def test_an_answer_is_good_for_a_while(allowed: bool, seconds: float) -> None:
    clock = Clock()
    answers = Answers(clock)
    answers.put("a.test", allowed)
    clock.advance(seconds - 1)
    assert answers.get("a.test") is allowed
    clock.advance(1)
    assert answers.get("a.test") is None


def test_answers_that_nobody_asked_for_lately_are_forgotten_first() -> None:
    answers = Answers(Clock())
    for number in range(REMEMBERED):
        answers.put(f"{number}.test", True)
    assert answers.get("0.test")
    answers.put("one-more.test", True)
    assert answers.get("0.test")
    assert answers.get("1.test") is None
    assert answers.get("one-more.test")
