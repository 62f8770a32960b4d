"""A limit for request bodies that are passed on while they arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET

from kproxy.errors import answer_error
from kproxy.streaming import streaming
from kproxy.wrappers.base import BodyFilter, Wrapper


@dataclass(frozen=True)
class Options:
    max_body: int
    """Bytes, past which the answer is 413."""


class RequestLimit(Wrapper):
    """Answers 413 to a body that is announced as, or turns out to be, larger than the limit."""

    def __init__(self, wrapped: IResource, options: Options) -> None:
        super().__init__(wrapped)
        self._limit = options.max_body

    def render(self, request: Any) -> Any:
        body = streaming(request).body
        if body.length is None:
            request.body = _Counted(request, body, self._limit)
        elif body.length > self._limit:
            answer_error(request, 413)
            return NOT_DONE_YET
        return self.wrapped.render(request)


class TooLarge(Exception):
    """The body went over its limit; the client has been told."""


class _Counted(BodyFilter):
    """A chunked body on its way, with what is left of its limit."""

    def __init__(self, request: Any, body: Any, limit: int) -> None:
        super().__init__(body)
        self._request = request
        self._left = limit

    def body_data(self, data: bytes) -> None:
        receiver = self.receiver
        self._left -= len(data)
        if self._left >= 0:
            super().body_data(data)
        elif receiver is not None:
            self.stop()
            receiver.body_lost(TooLarge())
            answer_error(self._request, 413)
