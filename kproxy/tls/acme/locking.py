"""To hold a lock of a store for as long as a block of code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from kproxy.tls.acme.interfaces import CertificateStore

_log = Logger()


@asynccontextmanager
async def locked(store: CertificateStore, name: str) -> AsyncIterator[None]:
    """Wait for a lock, and give it back at the end of the block, however that is left.

    @raise OSError: it can't be had.
    """
    release = await store.lock(name)
    try:
        yield
    finally:
        try:
            await maybeDeferred(release)
        except Exception as error:
            _log.error("the lock of {name} can't be given back: {error}", name=name, error=error)
