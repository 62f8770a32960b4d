"""HTTPS to a service without TLS: the certificate that was shown is another's."""

from __future__ import annotations

from typing import Any

from twisted.web.server import NOT_DONE_YET

from kproxy.errors import answer_error
from kproxy.streaming import streaming
from kproxy.wrappers.base import Wrapper


class RefuseTLS(Wrapper):
    """Answers 503 to what came by TLS."""

    def render(self, request: Any) -> Any:
        if not request.isSecure():
            return self.wrapped.render(request)
        answer_error(streaming(request), 503)
        return NOT_DONE_YET
