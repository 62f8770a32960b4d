"""X-Request-ID: the client's own, else a new UUID."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.web.resource import IResource

from kproxy.wrappers.base import Wrapper

_BATCH = 256


@dataclass(frozen=True)
class Options:
    random: Callable[[int], bytes] = os.urandom
    """Gives so many random bytes."""


class RequestID(Wrapper):
    """Gives every request an ID that the log, the target and its own logs can share."""

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:  # noqa: B008
        super().__init__(wrapped)
        self._random = options.random
        self._ids: list[bytes] = []

    def render(self, request: Any) -> Any:
        headers = request.requestHeaders
        if not headers.hasHeader(b"x-request-id"):
            headers.setRawHeaders(b"x-request-id", [self._ids.pop() if self._ids else self._refill()])
        return self.wrapped.render(request)

    def _refill(self) -> bytes:
        """Make a batch of version 4 UUIDs (RFC 9562): one call to the kernel serves many requests."""
        digits = self._random(16 * _BATCH).hex()
        for start in range(0, len(digits), 32):
            d = digits[start : start + 32]
            variant = "89ab"[int(d[16], 16) & 3]
            text = f"{d[:8]}-{d[8:12]}-4{d[13:16]}-{variant}{d[17:20]}-{d[20:]}"
            self._ids.append(text.encode("ascii"))
        return self._ids.pop()
