"""Certificates in a folder: one file each, with its key.

    FOLDER/                              0700
        acme-v02.api.letsencrypt.org_directory-1a2b3c4d/
            account.json                 the account: its key, and where the CA has it
            failures.json                what failed, and when it may be tried again
            certificates/www.example.com.pem    key, certificate, chain; 0600
            locks/                       of who is asking the CA just now
            notes/                       what servers that share the folder tell each other

Each CA, that is each directory URL, has a folder of its own: what the staging CA of Let's Encrypt
issues must never take the place of a certificate that browsers trust.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pem
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from txacme.interfaces import ICertificateStore
from zope.interface import implementer

from kproxy.durable import replace_file, set_aside
from kproxy.snapshot import Certificate
from kproxy.threads import InThread, result_of
from kproxy.tls.acme.filelock import file_lock
from kproxy.tls.acme.interfaces import Account, CertificateStore, Objects, Release
from kproxy.tls.acme.jws import AccountKey
from kproxy.tls.acme.keys import Kept, understood

T = TypeVar("T")
LONGEST_NAME = 200
"""Characters of a file's name, to which others are added; Linux takes 255."""
_log = Logger()


def certificate_of(objects: Objects) -> Certificate:
    """What a store keeps, as what a TLS server shows.

    @raise ValueError: there is not exactly one key, or no certificate.
    """
    keys = [each for each in objects if isinstance(each, pem.Key)]
    chain = [each for each in objects if isinstance(each, pem.Certificate)]
    if len(keys) != 1 or not chain:
        raise ValueError("it does not hold one private key and a certificate")
    return Certificate("".join(map(str, chain)), str(keys[0]))


def objects_of(certificate: Certificate) -> Objects:
    """The other way round."""
    return [*pem.parse(certificate.key), *pem.parse(certificate.chain)]


def kept_of(objects: Objects) -> Kept:
    """@raise ValueError: they are not a certificate with its key."""
    return understood(certificate_of(objects))


async def find(store: CertificateStore, name: str, now: float) -> Kept | None:
    """What a store has for a name, if it is still good.

    @raise OSError: that can't be told.
    """
    try:
        return good(await store.get(name), now)
    except KeyError:
        return None


def good(objects: Objects, now: float) -> Kept | None:
    """What a store keeps, if it is a certificate with its key that has not ended."""
    try:
        kept = kept_of(objects)
    except ValueError:
        return None
    return kept if now < kept.ends else None


def folder_name(directory: str) -> str:
    """The name of a CA's folder: readable, and unlike that of any other directory URL."""
    url = urlsplit(directory)
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", url.netloc + url.path).strip("_.")
    return f"{readable[:100]}-{hashlib.sha256(directory.encode()).hexdigest()[:8]}"


def file_name(name: str) -> str:
    """The name of a host's file, without an ending.

    @raise ValueError: it is no host name.
    """
    if not re.fullmatch(r"(\*\.)?[a-z0-9_-][a-z0-9._-]*", name):
        raise ValueError(f"{name!r} is no host name")
    text = name.replace("*", "wildcard~")  # which no host name can be
    if len(text) > LONGEST_NAME:
        text = f"{text[:150]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return text


def _note_file(kind: str, name: str) -> str:
    return f"notes/{kind}~{file_name(name)}.json"


@implementer(ICertificateStore)
class FolderStore:
    """A `CertificateStore` and `FailureMemory` in a folder, which only the owner can look into."""

    def __init__(
        self, folder: Path, directory: str, clock: IReactorTime, in_thread: InThread
    ) -> None:
        """@param folder: made when it is first needed; every CA has a folder in it.
        @param directory: the CA's directory URL."""
        self.folder = folder / folder_name(directory)
        self._above = folder
        self._clock = clock
        self._in_thread = in_thread

    # Certificates.

    def get(self, server_name: str) -> Deferred[Objects]:
        return self._in_folder(lambda: self._get(server_name))

    def store(self, server_name: str, pem_objects: Objects) -> Deferred[None]:
        data = b"".join(each.as_bytes() for each in pem_objects)
        return self._in_folder(lambda: replace_file(self._path(server_name), data))

    def as_dict(self) -> Deferred[dict[str, Objects]]:
        return self._in_folder(self._as_dict)

    def _path(self, name: str) -> Path:
        return self.folder / "certificates" / f"{file_name(name)}.pem"

    def _get(self, name: str) -> Objects:
        path = self._path(name)
        found = self._read(path)
        if found is None:
            raise KeyError(name)
        return found[1]

    def _as_dict(self) -> dict[str, Objects]:
        found = {}
        for path in sorted((self.folder / "certificates").glob("*.pem")):
            read = self._read(path)
            if read is not None:
                found[read[0]] = read[1]
        return found

    def _read(self, path: Path) -> tuple[str, Objects] | None:
        """The name that a file is for, and what it holds; None: there is no such file, or it is
        damaged, and is not there any more."""
        try:
            objects = pem.parse(path.read_bytes())
            kept = kept_of(objects)
            if self._path(kept.name) != path:
                raise ValueError(f"it is for {kept.name}")
        except FileNotFoundError:
            return None
        except ValueError as error:
            self._set_aside(path, error)
            return None
        return kept.name, objects

    # What belongs to them.

    def account(self) -> Deferred[Account | None]:
        return self._in_folder(self._account)

    def _account(self) -> Account | None:
        data = self._read_json("account.json")
        if not data:
            return None
        key, url, email = data.get("key"), data.get("url"), data.get("email")
        try:
            AccountKey.from_pem(key if isinstance(key, str) else "")
        except ValueError as error:
            self._set_aside(self.folder / "account.json", error)
            return None
        return Account(
            str(key),
            url if isinstance(url, str) else None,
            email if isinstance(email, str) else None,
        )

    def store_account(self, account: Account) -> Deferred[None]:
        data = {"key": account.key, "url": account.url, "email": account.email}
        return self._in_folder(lambda: self._write_json("account.json", data))

    def failures(self) -> Deferred[Mapping[str, Any]]:
        return self._in_folder(lambda: self._read_json("failures.json"))

    def store_failures(self, failures: Mapping[str, Any]) -> Deferred[None]:
        return self._in_folder(lambda: self._write_json("failures.json", failures))

    def _read_json(self, file: str) -> dict[str, Any]:
        path = self.folder / file
        try:
            data = json.loads(path.read_text("utf-8"))
            if not isinstance(data, dict):
                raise ValueError("it is no map")
        except FileNotFoundError:
            return {}
        except ValueError as error:
            self._set_aside(path, error)
            return {}
        return data

    def _write_json(self, file: str, data: Mapping[str, Any]) -> None:
        replace_file(self.folder / file, json.dumps(data, indent=1).encode())

    # What servers tell each other.

    def notes(self, kind: str) -> Deferred[Mapping[str, str]]:
        return self._in_folder(lambda: self._notes(kind))

    def _notes(self, kind: str) -> dict[str, str]:
        paths = sorted((self.folder / "notes").glob(f"{kind}~*.json"))
        read = (self._read_json(f"notes/{path.name}") for path in paths)
        # Nothing: it has just been removed, or was damaged, which has been told.
        return {
            str(each["name"]): str(each["text"]) for each in read if {"name", "text"} <= {*each}
        }

    def write_note(self, kind: str, name: str, text: str) -> Deferred[None]:
        data = {"name": name, "text": text}
        return self._in_folder(lambda: self._write_json(_note_file(kind, name), data))

    def remove_note(self, kind: str, name: str) -> Deferred[None]:
        return self._in_folder(
            lambda: (self.folder / _note_file(kind, name)).unlink(missing_ok=True)
        )

    # Who may ask the CA.

    def lock(self, name: str) -> Deferred[Release]:
        path = self.folder / "locks" / f"{file_name(name)}.lock"
        made: Deferred[None] = self._in_folder(lambda: None)
        return made.addCallback(lambda _: file_lock(path, self._clock, self._in_thread))

    # Private.

    def _in_folder(self, work: Callable[[], T]) -> Deferred[T]:
        """Do some work in another thread, with the folders made."""

        def run() -> T:
            self._above.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self._above, self.folder):
                folder.mkdir(mode=0o700, exist_ok=True)
                if folder.stat().st_mode & 0o077:
                    folder.chmod(0o700)
            for name in ("certificates", "locks", "notes"):
                (self.folder / name).mkdir(mode=0o700, exist_ok=True)
            return work()

        return result_of(run, self._in_thread)

    def _set_aside(self, path: Path, error: Exception) -> None:
        _log.error(
            "{path} is damaged, and is now {other}: {error}",
            path=path,
            other=set_aside(path),
            error=error,
        )
