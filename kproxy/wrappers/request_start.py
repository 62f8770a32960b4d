"""X-Request-Start: when the request reached the first proxy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.web.resource import IResource

from kproxy.http.lifecycle import request_fields
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
        self._millisecond = -1
        self._field = (b"", b"")

    def render(self, request: Any) -> Any:
        fields = request_fields(request)
        if b"x-request-start" not in fields:
            now = int(self._now() * 1000)
            if now != self._millisecond:  # under load, many requests come in one
                text = b"t=%d" % now
                self._millisecond = now
                self._field = (b"X-Request-Start: " + text, text)
            fields[b"x-request-start"] = self._field
        return self.wrapped.render(request)
