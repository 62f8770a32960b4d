"""X-Request-Start: when the request reached the first proxy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.web.resource import IResource

from kproxy.wrappers.base import Wrapper


@dataclass(frozen=True)
class Options:
    now: Callable[[], float] = time.time
    """Seconds since the epoch."""


class RequestStart(Wrapper):
    """Sets ``t=MILLISECONDS`` since the epoch, unless a proxy before this one has set it."""

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:
        super().__init__(wrapped)
        self._now = options.now

    def render(self, request: Any) -> Any:
        headers = request.requestHeaders
        if not headers.hasHeader(b"x-request-start"):
            headers.setRawHeaders(b"x-request-start", [b"t=%d" % (self._now() * 1000)])
        return self.wrapped.render(request)
