"""The store that the page on HTTPS shows, and the one that comes with kproxy, keep the contract."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from kproxy.config.model import Acme, WrapperUse
from kproxy.plugins import CertificateStorePlugin
from kproxy.snapshot import Certificate
from kproxy.threads import at_once
from kproxy.tls.acme.interfaces import Account, CertificateStore
from kproxy.tls.acme.jws import AccountKey
from kproxy.tls.acme.store import certificate_of, objects_of
from kproxy.tls.acme.stores import FolderOptions, make_store, shared_folder
from tests.docs.pages import DOCS, blocks
from tests.support.certificates import Authority

DIRECTORY = "https://ca.test/dir"
PAIR = Authority().issue("a.test")
CERTIFICATE = Certificate(PAIR.chain, PAIR.key)
MakeStore = Callable[..., CertificateStore]


def shown(folder: Path) -> Any:
    """The module of the page."""
    (text,) = (each.text for each in blocks(DOCS / "tls.md") if each.name == "sql_store.py")
    (folder / "sql_store.py").write_text(text)
    spec = importlib.util.spec_from_file_location("sql_store", folder / "sql_store.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sql_store"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1_800_000_000)
    return clock


@pytest.fixture(params=["folder", "sql"])
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> MakeStore:
    """A function that makes one more store of the same place, as another server has it."""
    options: Any
    if request.param == "folder":
        options, factory = FolderOptions(str(tmp_path / "shared")), shared_folder
    else:
        module = shown(tmp_path)
        options, factory = module.Options(str(tmp_path / "shared.db")), module.SQLStore
    plugins = {request.param: CertificateStorePlugin(request.param, "", factory)}

    def store(directory: str = DIRECTORY) -> CertificateStore:
        acme = Acme(directory=directory, store=WrapperUse(request.param, options))
        made = make_store(acme, clock, at_once, plugins)
        assert made is not None
        return made

    return store


def result(deferred: Deferred[Any]) -> Any:
    """What it has fired with; raises what it failed with."""
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    (found,) = outcome
    if hasattr(found, "raiseException"):
        found.raiseException()
    return found


def test_what_one_server_stores_the_others_find(make: MakeStore) -> None:
    result(make().store("a.test", objects_of(CERTIFICATE)))
    assert certificate_of(result(make().get("a.test"))) == CERTIFICATE
    found = result(make().as_dict())
    assert {name: certificate_of(each) for name, each in found.items()} == {"a.test": CERTIFICATE}


def test_a_renewed_certificate_takes_the_place_of_the_old_one(make: MakeStore) -> None:
    store, new = make(), Authority().issue("a.test")
    for each in (CERTIFICATE, Certificate(new.chain, new.key)):
        result(store.store("a.test", objects_of(each)))
    assert certificate_of(result(make().get("a.test"))).key == new.key


def test_what_is_not_there_is_a_key_error(make: MakeStore) -> None:
    with pytest.raises(KeyError):
        result(make().get("a.test"))
    assert result(make().as_dict()) == {}


def test_each_ca_has_what_is_its_own(make: MakeStore) -> None:
    store = make()
    result(store.store("a.test", objects_of(CERTIFICATE)))
    result(store.store_account(Account("key", "https://ca.test/1")))
    result(store.write_note("failure", "a.test", "text"))
    release = result(store.lock("a.test"))
    other = make("https://other.test/dir")
    assert result(other.as_dict()) == {}
    assert result(other.account()) is None
    assert result(other.notes("failure")) == {}
    for each in (release, result(other.lock("a.test"))):
        result(maybeDeferred(each))


def test_there_is_one_account(make: MakeStore) -> None:
    assert result(make().account()) is None
    key = AccountKey.generate().to_pem()
    for account in (Account(key), Account(key, "https://ca.test/1", "ops@a.test")):
        result(make().store_account(account))
        assert result(make().account()) == account


def test_notes_are_there_until_they_are_removed(make: MakeStore) -> None:
    for kind, name in (("failure", "a.test"), ("challenge", "a.test"), ("failure", "*.a.test")):
        result(make().write_note(kind, name, f"{kind} {name}"))
    assert result(make().notes("failure")) == {
        "a.test": "failure a.test",
        "*.a.test": "failure *.a.test",
    }
    for _ in range(2):
        result(make().remove_note("failure", "a.test"))
    assert list(result(make().notes("failure"))) == ["*.a.test"]
    assert list(result(make().notes("challenge"))) == ["a.test"]


def test_a_note_takes_the_place_of_another(make: MakeStore) -> None:
    for text in ("old", "new"):
        result(make().write_note("failure", "a.test", text))
    assert result(make().notes("failure")) == {"a.test": "new"}


def test_a_lock_is_had_by_one_server_at_a_time(make: MakeStore, clock: Clock) -> None:
    release = result(make().lock("a.test"))
    had: list[Any] = []
    make().lock("a.test").addCallback(had.append)
    clock.pump([1] * 5)
    assert had == []
    result(maybeDeferred(result(make().lock("b.test"))))
    result(maybeDeferred(release))
    clock.pump([1] * 5)
    assert len(had) == 1
    result(maybeDeferred(had[0]))


def test_who_waits_for_a_lock_can_give_up(make: MakeStore, clock: Clock) -> None:
    release = result(make().lock("a.test"))
    waiting = make().lock("a.test")
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    assert clock.getDelayedCalls() == []
    result(maybeDeferred(release))
    result(maybeDeferred(result(make().lock("a.test"))))


def test_the_lock_of_a_server_that_died_is_free_after_its_lease(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a folder is free at once: `tests/unit/tls/acme/test_store.py`."""
    module = shown(tmp_path)
    around = SimpleNamespace(directory=DIRECTORY, reactor=clock, in_thread=at_once)
    store = module.SQLStore(module.Options(str(tmp_path / "shared.db")), around)
    dead, alive = (Deferred.fromCoroutine(store.lock("a.test")) for _ in range(2))
    assert (dead.called, alive.called) == (True, False)
    now = time.time()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now + module.LEASE + 1))
    clock.advance(1)
    assert alive.called
