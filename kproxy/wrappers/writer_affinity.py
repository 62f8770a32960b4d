"""Whoever writes reads what they wrote, although read targets may learn of it later."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.web.resource import IResource

from kproxy.affinity import reads, writer_cookie
from kproxy.streaming import streaming
from kproxy.wrappers.base import Filter, Wrapper

OPT_OUT = b"x-writer-affinity"


@dataclass(frozen=True)
class Options:
    timeout: float = 3.0
    """Seconds."""
    websockets: bool = False
    """Whether read targets get WebSockets, so that one is no write."""
    now: Callable[[], float] = time.time
    """Seconds since the epoch."""


class WriterAffinity(Wrapper):
    """Marks the clients of writes by a cookie (`kproxy.affinity`), unless the application's answer
    says ``X-Writer-Affinity: false``; clients never see that header."""

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:
        super().__init__(wrapped)
        self._options = options

    def render(self, request: Any) -> Any:
        streaming(request)
        if not reads(request, self._options.websockets):
            request.add_filter(self._filter)
        return self.wrapped.render(request)

    def _filter(self, request: Any, sink: Any) -> _Marked:
        return _Marked(self._options, request, sink)


class _Marked(Filter):
    def __init__(self, options: Options, request: Any, sink: Any) -> None:
        super().__init__(request, sink)
        self._options = options

    def begin(self) -> None:
        headers = self.request.responseHeaders
        if headers.getRawHeaders(OPT_OUT, [b""])[0] != b"false":
            options = self._options
            headers.addRawHeader(b"set-cookie", writer_cookie(options.now(), options.timeout))
        headers.removeHeader(OPT_OUT)
        super().begin()
