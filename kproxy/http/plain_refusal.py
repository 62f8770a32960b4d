"""Plain HTTP on the port for HTTPS."""

from __future__ import annotations

from kproxy.http.heads import BadHead
from kproxy.http.http1 import HTTP1Connection

MESSAGE = "This port speaks HTTPS, and the request came in plain HTTP: try https://."


class PlainRefusal(HTTP1Connection):
    """Answers whatever comes, so that who has mistyped a URL reads why it does not work."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        if self._request is None and not self._closing:
            self._refuse(BadHead("plain HTTP was spoken to the port for HTTPS", 400, MESSAGE))
