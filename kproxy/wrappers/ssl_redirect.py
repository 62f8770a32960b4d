"""Plain HTTP to a service with TLS: go to HTTPS."""

from __future__ import annotations

from typing import Any

from kproxy.routing import strip_port
from kproxy.wrappers.base import Wrapper
from kproxy.wrappers.redirect import redirect


class SSLRedirect(Wrapper):
    """Redirects (301) to the same URL under ``https://``, without a port, and closes the connection."""

    def render(self, request: Any) -> Any:
        if request.isSecure():
            return self.wrapped.render(request)
        request.setHeader(b"connection", b"close")
        host = strip_port(request.getHeader(b"host") or b"")
        return redirect(request, b"https://" + host)
