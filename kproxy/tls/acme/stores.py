"""How the store of a configuration is made, and what is asked of those that third parties write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from kproxy.config.model import Acme, WrapperUse
from kproxy.interfaces import ICertificateStorePlugin
from kproxy.threads import InThread
from kproxy.tls.acme.dns01 import Surroundings, secrets_of
from kproxy.tls.acme.interfaces import Account, CertificateStore, Objects, Release
from kproxy.tls.acme.store import FolderStore

_log = Logger()


@dataclass(frozen=True, slots=True)
class StoreSurroundings(Surroundings):
    """What a store may use of kproxy, and what it is for."""

    directory: str
    """The CA's directory URL. What one CA has issued must never be taken for that of another."""


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """Options of the store ``folder``."""

    path: str


def shared_folder(options: FolderOptions, around: StoreSurroundings) -> FolderStore:
    """A folder that several servers have mounted."""
    return FolderStore(Path(options.path), around.directory, around.reactor, around.in_thread)


def make_store(
    acme: Acme,
    reactor: Any,
    in_thread: InThread,
    stores: Mapping[str, ICertificateStorePlugin] | None = None,
) -> CertificateStore | None:
    """The store that ``x-kproxy.acme.store`` names; None: it names none.

    @param stores: those that there are; by default, those that are installed.
    """
    use = acme.store
    if use is None:
        return None
    around = StoreSurroundings(reactor, in_thread, secrets_of(acme, in_thread), acme.directory)

    def make() -> CertificateStore:
        return _plugin(use, stores).store(use.options, around)

    return Guarded(use.name, make)


def _plugin(
    use: WrapperUse, stores: Mapping[str, ICertificateStorePlugin] | None
) -> ICertificateStorePlugin:
    if stores is None:
        from kproxy.plugins import find_stores

        stores = find_stores()
    plugin = stores.get(use.name)
    if plugin is None:
        raise OSError("it is not installed any more")
    return plugin


class Guarded:
    """A third party's store, of which every error is an `OSError` whose text can be shown.

    It is made when it is first used, and again if that failed. Without it no certificate is ordered,
    since others may have it.
    """

    def __init__(self, name: str, make: Callable[[], CertificateStore]) -> None:
        self._name = name
        self._make = make
        self._store: CertificateStore | None = None
        self._broken = False

    def get(self, server_name: str) -> Deferred[Objects]:
        return self._ask("get", server_name, expected=KeyError)

    def store(self, server_name: str, pem_objects: Objects) -> Deferred[None]:
        return self._ask("store", server_name, pem_objects)

    def as_dict(self) -> Deferred[dict[str, Objects]]:
        return self._ask("as_dict")

    def account(self) -> Deferred[Account | None]:
        return self._ask("account")

    def store_account(self, account: Account) -> Deferred[None]:
        return self._ask("store_account", account)

    def notes(self, kind: str) -> Deferred[Mapping[str, str]]:
        return self._ask("notes", kind)

    def write_note(self, kind: str, name: str, text: str) -> Deferred[None]:
        return self._ask("write_note", kind, name, text)

    def remove_note(self, kind: str, name: str) -> Deferred[None]:
        return self._ask("remove_note", kind, name)

    def lock(self, name: str) -> Deferred[Release]:
        def guarded(release: Release) -> Release:
            return lambda: maybeDeferred(release).addErrback(self._failed, CancelledError)

        return self._ask("lock", name).addCallback(guarded)

    def _ask(
        self, method: str, *arguments: Any, expected: type[Exception] = CancelledError
    ) -> Deferred[Any]:
        def ask() -> Any:
            if self._store is None:
                self._store = self._make()
            return getattr(self._store, method)(*arguments)

        return maybeDeferred(ask).addCallbacks(self._worked, self._failed, errbackArgs=(expected,))

    def _worked(self, result: Any) -> Any:
        self._broken = False
        return result

    def _failed(self, failure: Failure, expected: type[Exception]) -> Any:
        if failure.check(CancelledError, expected):
            return failure
        what = f"the certificate store {self._name}"
        if failure.check(OSError):
            raise OSError(f"{what}: {failure.getErrorMessage()}")
        # Its text may quote what is secret. The log is for its author, who need not read the same
        # again and again: notes are asked for every second.
        if not self._broken:
            self._broken = True
            _log.failure("{what} failed", failure, what=what)
        raise OSError(f"{what} failed: {type(failure.value).__name__}")
