"""One name for a service that has several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.web.resource import IResource

from kproxy.routing import normalize_host
from kproxy.wrappers.base import Wrapper
from kproxy.wrappers.redirect import redirect


@dataclass(frozen=True)
class Options:
    host: str


class CanonicalHost(Wrapper):
    """Redirects (301) to the same URL on the canonical host when it was asked for by another name."""

    def __init__(self, wrapped: IResource, options: Options) -> None:
        super().__init__(wrapped)
        self._host = options.host.encode("ascii")

    def render(self, request: Any) -> Any:
        if normalize_host(request.getHeader(b"host") or b"") == self._host:
            return self.wrapped.render(request)
        scheme = b"https://" if request.isSecure() else b"http://"
        return redirect(request, scheme + self._host)
