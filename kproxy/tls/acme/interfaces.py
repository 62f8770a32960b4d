"""What automatic certificates need of others: where they are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pem import AbstractPEMObject
from twisted.internet.defer import Deferred

Objects = list[AbstractPEMObject]
"""As in txacme: one private key, the certificate that belongs to it, those that vouch for it."""


class NoCertificate(Exception):
    """A certificate can't be had now; the text says why, in the CA's own words where it was the CA."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who we are to a CA."""

    key: str = field(repr=False)
    """PEM."""
    url: str | None = None
    """None: the CA has not been told of it yet."""
    email: str | None = None
    """What the CA was told."""


class CertificateStore(Protocol):
    """Where the certificates of one CA are kept, and all that belongs to them.

    The first three methods are txacme's `ICertificateStore`. Several servers may share one: a CA is
    only asked by who holds the lock of a name, and has looked since then for what others got.
    """

    def get(self, server_name: str) -> Deferred[Objects]:
        """@return: fails with `KeyError` if there is none (or none that is of any use), and with
        `OSError` if that can't be told."""

    def store(self, server_name: str, pem_objects: Objects) -> Deferred[None]:
        """@return: fires when it is safe; fails with `OSError`."""

    def as_dict(self) -> Deferred[dict[str, Objects]]:
        """All of them, by name. @return: fails with `OSError`."""

    def account(self) -> Deferred[Account | None]:
        """@return: fails with `OSError`."""

    def store_account(self, account: Account) -> Deferred[None]:
        """@return: fires when it is safe; fails with `OSError`."""

    def failures(self) -> Deferred[Mapping[str, Any]]:
        """What was last given to `store_failures`. @return: fails with `OSError`."""

    def store_failures(self, failures: Mapping[str, Any]) -> Deferred[None]:
        """@param failures: as plain as JSON.
        @return: fires when it is safe; fails with `OSError`."""

    def lock(self, name: str) -> Deferred[Callable[[], None]]:
        """Wait until nobody else holds a lock of this name, in this process or another.

        @param name: a host name, or another word.
        @return: fires with what gives it back, which has to be called; when a process ends in
            whatever way, the store does that by itself. Can be cancelled. Fails with `OSError`.
        """
