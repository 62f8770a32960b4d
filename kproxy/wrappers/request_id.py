"""X-Request-ID: the client's own, else a new UUID."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.web.resource import IResource

from kproxy.http.lifecycle import request_fields
from kproxy.wrappers.base import Wrapper

_BATCH = 256


@dataclass(frozen=True)
class Options:
    random: Callable[[int], bytes] = os.urandom
    """Gives so many random bytes."""


class RequestID(Wrapper):
    """Gives every request an ID that the log, the target and its own logs can share."""

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:
        super().__init__(wrapped)
        self._random = options.random
        self._ids: list[bytes] = []

    def render(self, request: Any) -> Any:
        fields = request_fields(request)
        if b"x-request-id" not in fields:
            new = self._ids.pop() if self._ids else self._refill()
            fields[b"x-request-id"] = (b"X-Request-Id: " + new, new)
        return self.wrapped.render(request)

    def _refill(self) -> bytes:
        """Make a batch of version 4 UUIDs (RFC 9562). Those of one batch share 72 random bits, and
        have 48 of their own: they are to be told apart, not to be kept secret."""
        d = self._random(10).hex()
        shared = f"{d[:8]}-{d[8:12]}-4{d[12:15]}-8{d[15:18]}-".encode("ascii")
        ends = self._random(6 * _BATCH).hex().encode("ascii")
        self._ids = [shared + ends[at : at + 12] for at in range(0, 12 * _BATCH, 12)]
        return self._ids.pop()
