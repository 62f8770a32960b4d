"""A rate limit per client address, as a wrapper for kproxy."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Any

from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET

from kproxy.errors import answer_error
from kproxy.streaming import streaming
from kproxy.wrappers.base import Wrapper

_ROUNDING = 1e-6
"""Seconds by which sums of times may be off."""
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Limits:
    """How much is too much."""

    requests: int
    per: float = 60.0
    """Seconds."""
    burst: int | None = None
    """How many requests may come at once; None: as many as `requests`."""
    trusted_proxies: int = 0
    """How many proxies of one's own stand before kproxy, and say in X-Forwarded-For who asks."""
    clients: int = 100_000
    """How many are remembered at most: what bounds the memory."""
    now: Callable[[], float] = field(default=time.monotonic, compare=False, repr=False)
    """Seconds of a clock that never jumps."""


class RateLimit(Wrapper):
    """Answers 429 with Retry-After to a client that has used up what it may."""

    def __init__(self, wrapped: IResource, limits: Limits) -> None:
        super().__init__(wrapped)
        self._buckets = Buckets(limits)
        self._trusted_proxies = limits.trusted_proxies

    def render(self, request: Any) -> Any:
        wait = self._buckets.take(client_of(request, self._trusted_proxies))
        if not wait:
            return self.wrapped.render(request)
        seconds = ceil(wait)
        answer_error(
            streaming(request),
            429,
            f"You sent too many requests. Try again in {seconds} s.",
            [(b"retry-after", b"%d" % seconds)],
        )
        return NOT_DONE_YET


class Buckets:
    """A token bucket for each client.

    A bucket holds `burst` tokens at most, and `requests` of them drip in during each `per`. That is
    kept as one number, the time at which the bucket will be full: so many tokens are missing as can
    drip in until then. A bucket that is full now need not be kept at all.
    """

    def __init__(self, limits: Limits) -> None:
        burst = limits.requests if limits.burst is None else limits.burst
        self._drip = limits.per / limits.requests
        self._all_but_one = (burst - 1) * self._drip
        self._most = limits.clients
        self._now = limits.now
        # The client that was heard of longest ago comes first.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, client: str) -> float:
        """Take a token from a client's bucket.

        @return: 0 if there was one, else the seconds until there will be one.
        """
        now = self._now()
        full_at = max(self._full_at.pop(client, now), now)
        wait = full_at - now - self._all_but_one
        if wait > _ROUNDING:
            self._full_at[client] = full_at
            return wait
        self._full_at[client] = full_at + self._drip
        self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop buckets that are full, and the oldest if there are too many. No request adds more
        than one, so that looking at two keeps up, and never takes long."""
        for _ in range(2):
            client, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= self._most:
                break
            del self._full_at[client]


def client_of(request: Any, trusted_proxies: int) -> str:
    """Whose request it is: an IPv4 address, or an IPv6 network of the size that one client has.

    @param trusted_proxies: how many of the last entries of X-Forwarded-For were made by proxies
        that are trusted, besides that of kproxy itself.
    """
    client: str = getattr(request.getClientAddress(), "host", None) or ""
    if trusted_proxies:
        values = request.requestHeaders.getRawHeaders(b"x-forwarded-for", [])
        entries = b",".join(values).decode("latin-1").split(",")
        client = entries[max(0, len(entries) - 1 - trusted_proxies)].strip() or client
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client[:_LONGEST_NAME]
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{address.packed[:8].hex()}/64"
    return str(address)
