"""Which event loop a process of kproxy runs on."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

TWISTED_TLS = ("twisted.internet.ssl", "twisted.protocols.tls")


def install_fastest_reactor(modules: Any = sys.modules) -> None:
    """Install a reactor on uvloop's event loop, or the standard library's; not if there is one."""
    if "twisted.internet.reactor" in modules:
        return
    make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    try:
        from kproxy.loop import Loop

        make_loop = Loop
    except ImportError:
        pass
    with _without_twisted_tls():
        from twisted.internet import asyncioreactor

    asyncioreactor.install(make_loop())


@contextmanager
def _without_twisted_tls() -> Iterator[None]:
    """What is imported meanwhile imports Twisted's TLS when it first makes use of it.

    A reactor can speak TLS by pyOpenSSL (``connectSSL``, ``startTLS``), which kproxy has no need of: its
    own is the standard library's. pyOpenSSL, cryptography and service-identity would be a fifth of what
    a worker holds. Whoever imports these modules afterwards, a wrapper for one, gets them and not what
    stood for them here.
    """
    standing_in = {name: _Later(name) for name in TWISTED_TLS if name not in sys.modules}
    sys.modules.update(standing_in)
    try:
        yield
    finally:
        for each in standing_in.values():
            each.make_way()


class _Later(ModuleType):
    """Stands for a module until something of it is wanted."""

    def make_way(self) -> None:
        """Let the module itself be imported by whoever does so."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the machinery of imports looks for these
            raise AttributeError(name)
        self.make_way()
        return getattr(importlib.import_module(self.__name__), name)

    def TLSMemoryBIOFactory(self, *arguments: Any) -> Any:
        """The one name of `twisted.protocols.tls` that reactors import, to call it."""
        self.make_way()
        return importlib.import_module(self.__name__).TLSMemoryBIOFactory(*arguments)
