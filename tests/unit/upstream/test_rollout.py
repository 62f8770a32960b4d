"""Who is in a rollout: kamal-proxy's rule, value for value."""

from __future__ import annotations

import pytest

from kproxy.snapshot import Split
from kproxy.upstream.rollout import LONGEST, fnv1a_32, in_rollout

VALUES = [b"%05d" % number for number in range(1000)]


@pytest.mark.parametrize(
    ("data", "digest"),
    # The reference vectors of the hash's authors.
    [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"b", 0xE70C2DE5), (b"foobar", 0xBF9CF968)],
)
def test_the_hash_is_fnv_1a_of_32_bits(data: bytes, digest: int) -> None:
    assert fnv1a_32(data) == digest


def test_a_share_of_all_values_is_in_the_rollout() -> None:
    for percent in (10, 60, 90):
        inside = sum(in_rollout(value, Split(percent)) for value in VALUES)
        assert abs(inside - percent * 10) <= 20


def test_who_is_in_a_small_share_is_in_every_larger_one() -> None:
    for value in VALUES[:100]:
        told = [in_rollout(value, Split(percent)) for percent in range(101)]
        assert told == sorted(told)


def test_the_hash_that_is_just_at_the_share_is_in() -> None:
    value = b"foobar"
    share = fnv1a_32(value) / 0xFFFFFFFF * 100
    assert not in_rollout(value, Split(int(share)))
    assert in_rollout(value, Split(int(share) + 1))


def test_0_percent_is_nobody_and_100_percent_everybody_with_a_cookie() -> None:
    assert not any(in_rollout(value, Split(0)) for value in VALUES)
    assert all(in_rollout(value, Split(100)) for value in VALUES)


def test_those_of_the_list_are_in_whatever_the_share() -> None:
    split = Split(0, ("qa", "zürich"))
    assert in_rollout(b"qa", split)
    assert in_rollout("zürich".encode(), split)
    assert not in_rollout(b"QA", split)
    assert not in_rollout(b"\xff", split)


def test_without_a_value_nobody_is_in() -> None:
    assert not in_rollout(b"", Split(100, ("",)))


def test_a_value_that_no_browser_would_send_is_not_even_hashed() -> None:
    assert in_rollout(b"x" * LONGEST, Split(100))
    assert not in_rollout(b"x" * (LONGEST + 1), Split(100))
