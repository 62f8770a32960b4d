"""Which event loop a process of kproxy runs on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any


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
    from twisted.internet import asyncioreactor

    asyncioreactor.install(make_loop())
