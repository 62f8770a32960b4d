"""The leaf for requests that the engine could not read."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.errors import answer_error
from kproxy.streaming import streaming

_log = Logger()


class Refusal(Resource):
    """Answers with the status that the engine has for the request, and logs its reason."""

    isLeaf = True
    streams = True

    def render(self, request: Any) -> int:
        error = streaming(request).notes["refusal"]
        _log.info(
            "refused a request from {client}: {error}",
            client=getattr(request.getClientAddress(), "host", ""),
            error=error,
        )
        answer_error(request, error.status, error.message)
        return NOT_DONE_YET
