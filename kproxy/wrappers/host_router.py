"""Host and path to the chain of a service."""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from kproxy.errors import answer_error
from kproxy.http.lifecycle import request_fields
from kproxy.routing import AmbiguousPath, Table
from kproxy.streaming import streaming

_NO_HOST = (b"", b"")


class HostRouter(Resource):
    """Passes each request to the resource that the table has for it; 404 if it has none.

    @ivar table: may be replaced at any time, and every request from then on follows the new one.
    """

    isLeaf = True
    streams = True

    def __init__(self, table: Table[tuple[str, IResource]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.table = table

    def render(self, request: Any) -> Any:
        try:
            host = request_fields(request).get(b"host", _NO_HOST)
            route = self.table.find(host[-1], request.path)
        except AmbiguousPath:
            return self._refuse(request, 400)
        if route is None:
            return self._refuse(request, 404)
        streaming(request).notes["service"] = route.value[0]
        return route.value[1].render(request)

    def _refuse(self, request: Any, code: int) -> int:
        answer_error(streaming(request), code)
        return NOT_DONE_YET
