"""What a CA looks for over plain HTTP before it gives a certificate (RFC 8555 section 8.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.web.resource import IResource

from kproxy.wrappers.base import Wrapper

PREFIX = "/.well-known/acme-challenge/"


@dataclass(frozen=True)
class Options:
    answers: tuple[tuple[str, str], ...] = ()
    """Token and key authorization of each challenge."""


class AcmeChallenge(Wrapper):
    """Answers challenges, for whichever host, and passes on all the rest: an application may have
    challenges of its own."""

    def __init__(self, wrapped: IResource, options: Options = Options()) -> None:
        super().__init__(wrapped)
        self._answers: Mapping[bytes, bytes] = {}
        self.answer(options.answers)

    def answer(self, challenges: Iterable[tuple[str, str]]) -> None:
        """Answer these from now on: token and key authorization of each."""
        self._answers = {f"{PREFIX}{token}".encode(): text.encode() for token, text in challenges}

    def render(self, request: Any) -> Any:
        answer = self._answers.get(request.path)
        if answer is None:
            return self.wrapped.render(request)
        request.setHeader(b"content-type", b"application/octet-stream")
        return answer
