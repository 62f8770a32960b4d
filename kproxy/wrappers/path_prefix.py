"""The path that a service is mounted at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.web.resource import IResource

from kproxy.streaming import streaming
from kproxy.wrappers.base import Wrapper


@dataclass(frozen=True)
class Options:
    path_prefixes: tuple[str, ...]


class PathPrefix(Wrapper):
    """Strips the prefix that the request came by: ``/api/users?x=1`` goes on as ``/users?x=1``.

    As Twisted has it, the segments of the prefix move from ``postpath`` to ``prepath``.
    """

    def __init__(self, wrapped: IResource, options: Options) -> None:
        super().__init__(wrapped)
        prefixes = sorted(options.path_prefixes, key=len, reverse=True)
        self._prefixes = [prefix.encode() for prefix in prefixes if prefix != "/"]

    def render(self, request: Any) -> Any:
        path = request.path
        for prefix in self._prefixes:
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/"):
                depth = prefix.count(b"/")
                request.prepath = request.prepath + request.postpath[:depth]
                request.postpath = request.postpath[depth:] or [b""]
                request.path = path[len(prefix) :] or b"/"
                rest = request.uri[len(prefix) :]
                request.uri = rest if rest.startswith(b"/") else b"/" + rest
                streaming(request).notes["path_prefix"] = prefix
                break
        return self.wrapped.render(request)
