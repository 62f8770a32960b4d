"""What automatic certificates need of others: where they are kept.

Third parties write stores too (`kproxy.interfaces.ICertificateStorePlugin`), so that this is theirs as
well.
"""

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


Release = Callable[[], object]
"""What gives a lock back. It may return a Deferred, which fires when the lock is free."""


class CertificateStore(Protocol):
    """Where the certificates of one CA are kept, and all that belongs to them.

    The first three methods are txacme's `ICertificateStore`. Several servers may share one: a CA is
    only asked by who holds the lock of a name, and has looked since then for what others got. What
    was stored has to be seen by who gets a lock later.
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

    def notes(self, kind: str) -> Deferred[Mapping[str, str]]:
        """What servers tell each other, by name. Asked for every second, if the store is shared.

        @return: fails with `OSError`.
        """

    def write_note(self, kind: str, name: str, text: str) -> Deferred[None]:
        """It takes the place of one of the same kind and name.

        @param kind: a word.
        @param name: as that of a host.
        @return: fires when `notes` has it, wherever it is asked; fails with `OSError`.
        """

    def remove_note(self, kind: str, name: str) -> Deferred[None]:
        """No harm if there is none. @return: fails with `OSError`."""

    def lock(self, name: str) -> Deferred[Release]:
        """Wait until nobody else holds a lock of this name, in this process or another.

        It is held for as long as an order takes, which is minutes where DNS is slow.

        @param name: a host name, or another word.
        @return: fires with what gives it back, which has to be called; when a process ends in
            whatever way, the store does that by itself. Can be cancelled. Fails with `OSError`.
        """


class FailureMemory(Protocol):
    """Where is kept what failed, for this server."""

    def failures(self) -> Deferred[Mapping[str, Any]]:
        """What was last given to `store_failures`. @return: fails with `OSError`."""

    def store_failures(self, failures: Mapping[str, Any]) -> Deferred[None]:
        """@param failures: as plain as JSON.
        @return: fires when it is safe; fails with `OSError`."""
