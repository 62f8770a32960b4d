"""The store that a configuration names, and what a third party's may do wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from kproxy.config.model import Acme, WrapperUse
from kproxy.plugins import CertificateStorePlugin, find_stores
from kproxy.snapshot import Certificate
from kproxy.threads import at_once
from kproxy.tls.acme.interfaces import CertificateStore
from kproxy.tls.acme.store import folder_name, objects_of
from kproxy.tls.acme.stores import FolderOptions, StoreSurroundings, make_store
from tests.support.certificates import Authority
from tests.unit.tls.acme.fake_ca import outcome

DIRECTORY = "https://ca.test/dir"
METHODS: list[tuple[str, tuple[Any, ...]]] = [
    ("get", ("a.test",)),
    ("store", ("a.test", [])),
    ("as_dict", ()),
    ("account", ()),
    ("store_account", (None,)),
    ("notes", ("failure",)),
    ("write_note", ("failure", "a.test", "text")),
    ("remove_note", ("failure", "a.test")),
    ("lock", ("a.test",)),
]


class Theirs:
    """A third party's store, of which all methods do the same."""

    def __init__(self, work: Any) -> None:
        self._work = work

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._work()


def made(factory: Any) -> CertificateStore:
    acme = Acme(directory=DIRECTORY, store=WrapperUse("theirs", "options"))
    plugins = {"theirs": CertificateStorePlugin("theirs", "", factory)}
    store = make_store(acme, Clock(), at_once, plugins)
    assert store is not None
    return store


def doing(work: Any) -> CertificateStore:
    return made(lambda options, around: Theirs(work))


def raising(error: Exception) -> CertificateStore:
    def work() -> None:
        raise error

    return doing(work)


def test_there_is_none_unless_it_is_named() -> None:
    assert make_store(Acme(), Clock(), at_once) is None


def test_the_one_that_comes_with_kproxy_keeps_cas_apart_in_its_folder(tmp_path: Path) -> None:
    acme = Acme(directory=DIRECTORY, store=WrapperUse("folder", FolderOptions(str(tmp_path / "a"))))
    store = make_store(acme, Clock(), at_once)
    assert store is not None
    pair = Authority().issue("a.test")
    assert outcome(store.store("a.test", objects_of(Certificate(pair.chain, pair.key)))) == [None]
    assert (tmp_path / "a" / folder_name(DIRECTORY) / "certificates" / "a.test.pem").exists()
    assert "folder" in find_stores()


def test_a_store_is_made_when_it_is_first_needed_with_its_options_and_surroundings() -> None:
    given: list[Any] = []

    def factory(options: object, around: StoreSurroundings) -> Theirs:
        given.append((options, around.directory))
        return Theirs(lambda: succeed(None))

    store = made(factory)
    assert given == []
    assert outcome(store.account()) == outcome(store.account()) == [None]
    assert given == [("options", DIRECTORY)]


def test_a_store_that_cannot_be_made_is_an_error_of_every_use_until_it_can() -> None:
    broken = [OSError("no database")]

    def factory(options: object, around: object) -> Theirs:
        if broken:
            raise broken.pop()
        return Theirs(lambda: succeed(None))

    store = made(factory)
    assert outcome(store.account()) == ["the certificate store theirs: no database"]
    assert outcome(store.account()) == [None]


def test_a_store_that_is_not_installed_any_more_is_said() -> None:
    store = make_store(Acme(store=WrapperUse("gone", None)), Clock(), at_once, {})
    assert store is not None
    assert outcome(store.account()) == ["the certificate store gone: it is not installed any more"]


@pytest.mark.parametrize(("method", "arguments"), METHODS)
def test_what_it_raises_is_an_oserror_that_tells_no_secret(
    method: str, arguments: tuple[Any, ...]
) -> None:
    store = raising(RuntimeError("password s3cret"))
    failures: list[Any] = []
    with capturedLogs() as logs:
        getattr(store, method)(*arguments).addErrback(failures.append)
    assert isinstance(failures[0].value, OSError)
    assert str(failures[0].value) == "the certificate store theirs failed: RuntimeError"
    assert any("log_failure" in event for event in logs)


def test_what_it_raises_again_and_again_is_logged_once_until_it_has_worked() -> None:
    answers: list[Any] = [RuntimeError("down")] * 3 + [None, RuntimeError("down")]

    def work() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    store = doing(work)
    logged = []
    while answers:
        with capturedLogs() as logs:
            outcome(store.notes("challenge"))
        logged.append(sum("log_failure" in event for event in logs))
    assert logged == [1, 0, 0, 0, 1]


def test_a_lock_that_it_can_not_give_back_tells_no_secret() -> None:
    def release() -> None:
        raise RuntimeError("password s3cret")

    (given,) = outcome(doing(lambda: succeed(release)).lock("a.test"))
    assert outcome(given()) == ["the certificate store theirs failed: RuntimeError"]


def test_how_it_gives_a_lock_back_may_be_a_coroutine() -> None:
    async def release() -> str:
        return "free"

    async def lock() -> Any:
        return release

    (given,) = outcome(doing(lock).lock("a.test"))
    assert outcome(given()) == ["free"]


@pytest.mark.parametrize(("method", "arguments"), METHODS[:-1])
def test_its_methods_may_be_coroutines(method: str, arguments: tuple[Any, ...]) -> None:
    async def work() -> str:
        return "answer"

    assert outcome(getattr(doing(work), method)(*arguments)) == ["answer"]


def test_a_name_that_it_does_not_have_is_a_key_error() -> None:
    failures: list[Any] = []
    raising(KeyError("a.test")).get("a.test").addErrback(failures.append)
    assert isinstance(failures[0].value, KeyError)


def test_who_waits_for_its_lock_can_give_up() -> None:
    cancelled: list[Any] = []
    waiting = doing(lambda: Deferred(cancelled.append)).lock("a.test")
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    assert len(cancelled) == 1
