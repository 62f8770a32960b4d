"""Who is served by the targets of a rollout: a decision of the cookie's value alone, so that a
visitor who has been given a value stays on one side, in every process and after every restart."""

from __future__ import annotations

from kproxy.snapshot import Split

COOKIE = b"kamal-rollout"
LONGEST = 4096
"""Bytes of a value; no browser sends a longer one, and hashing costs time for each."""


def in_rollout(value: bytes, split: Split) -> bool:
    """Whether a request goes to the rollout's targets; as kamal-proxy decides it.

    @param value: of the cookie; without one (empty) a request never does.
    """
    if not value or len(value) > LONGEST:
        return False
    if value.decode("utf-8", "surrogateescape") in split.allowed:
        return True
    # 0 % is nobody, not even a value whose hash is 0.
    return split.percent > 0 and fnv1a_32(value) <= 0xFFFFFFFF * (split.percent / 100)


def fnv1a_32(data: bytes) -> int:
    """The FNV-1a hash of 32 bits (RFC 9923)."""
    digest = 0x811C9DC5
    for byte in data:
        digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
    return digest
