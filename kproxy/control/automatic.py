"""Who has certificates of a CA, as far as the control plane knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred, fail, succeed

from kproxy.config.model import Acme
from kproxy.snapshot import Certificate, HTTPChallenge, TLSChallenge


class Status(Protocol):
    """How a name fares with its CA; see `kproxy.tls.acme.automatic.Status`."""

    @property
    def expires(self) -> datetime | None: ...
    @property
    def failure(self) -> str: ...
    @property
    def next_try(self) -> datetime | None: ...


class Automatic(Protocol):
    """What has certificates of one CA; see `kproxy.tls.acme.automatic.AutomaticCertificates`."""

    def want(self, names: Iterable[str]) -> None: ...
    def names(self) -> tuple[str, ...]: ...
    def certificate(self, name: str) -> Certificate | None: ...
    def obtain(self, name: str) -> Deferred[None]: ...
    def http_challenges(self) -> tuple[HTTPChallenge, ...]: ...
    def tls_challenges(self) -> tuple[TLSChallenge, ...]: ...
    def status(self, name: str) -> Status | None: ...
    def retry(self, name: str) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> Deferred[None]: ...


MakeAutomatic = Callable[
    [Acme, Path, Callable[[], object], Callable[[str], "str | None"]], Automatic
]
"""(where certificates come from, folder to keep them, to be called when one has changed, where to ask
whether a name may have one): the arguments of `AutomaticCertificates` that differ."""


class Nobody:
    """For a proxy that has no certificates from a CA (`Automatic`)."""

    def __init__(self, *wanted: object) -> None: ...
    def want(self, names: Iterable[str]) -> None: ...
    def names(self) -> tuple[str, ...]:
        return ()

    def certificate(self, name: str) -> Certificate | None:
        return None

    def obtain(self, name: str) -> Deferred[None]:
        return fail(LookupError(f"nobody gets certificates for {name}"))

    def http_challenges(self) -> tuple[HTTPChallenge, ...]:
        return ()

    def tls_challenges(self) -> tuple[TLSChallenge, ...]:
        return ()

    def status(self, name: str) -> Status | None:
        return None

    def retry(self, name: str) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> Deferred[None]:
        return succeed(None)
