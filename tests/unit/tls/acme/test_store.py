"""The folder in which certificates are kept."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from txacme.interfaces import ICertificateStore

from kproxy.snapshot import Certificate
from kproxy.threads import at_once
from kproxy.tls.acme.filelock import file_lock
from kproxy.tls.acme.interfaces import Account, Objects
from kproxy.tls.acme.jws import AccountKey
from kproxy.tls.acme.store import (
    FolderStore,
    certificate_of,
    file_name,
    folder_name,
    objects_of,
)
from tests.support.certificates import Authority, Pair, key_pem, new_key

STAGING = "https://ca.test/staging/directory"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> FolderStore:
    return FolderStore(tmp_path / "acme", STAGING, clock, at_once)


def objects(pair: Pair) -> Objects:
    return objects_of(Certificate(pair.chain, pair.key))


def result(deferred: Deferred[Any]) -> Any:
    """What it has fired with; raises what it failed with."""
    results: list[Any] = []
    failures: list[Any] = []
    deferred.addCallbacks(results.append, failures.append)
    if failures:
        raise failures[0].value
    (found,) = results
    return found


def file_of(store: FolderStore, name: str) -> Path:
    return store.folder / "certificates" / f"{name}.pem"


def errors(work: Any) -> tuple[Any, list[str]]:
    """What some work returns, and what it logs as errors."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"].name in ("error", "critical"):
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    try:
        return work(), lines
    finally:
        globalLogPublisher.removeObserver(observe)


def test_it_is_a_store_as_txacme_knows_them(store: FolderStore) -> None:
    assert ICertificateStore.providedBy(store)


def test_what_is_stored_is_found_again(store: FolderStore, authority: Authority) -> None:
    pair = authority.issue("a.test")
    result(store.store("a.test", objects(pair)))
    found = certificate_of(result(store.get("a.test")))
    assert found == Certificate(pair.chain, pair.key)
    assert list(result(store.as_dict())) == ["a.test"]


def test_a_name_that_was_never_stored_is_a_key_error(store: FolderStore) -> None:
    with pytest.raises(KeyError):
        result(store.get("a.test"))


def test_a_file_holds_the_key_and_then_the_chain_and_only_its_owner_may_read_it(
    store: FolderStore, authority: Authority
) -> None:
    pair = authority.issue("a.test")
    result(store.store("a.test", objects(pair)))
    path = file_of(store, "a.test")
    assert path.read_text() == pair.key + pair.chain
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["a.test.pem"]


def test_a_folder_that_others_can_look_into_is_closed(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "acme").mkdir(mode=0o755)
    (tmp_path / "acme").chmod(0o755)
    store = FolderStore(tmp_path / "acme", STAGING, clock, at_once)
    result(store.as_dict())
    folders = [tmp_path / "acme", store.folder, *store.folder.iterdir()]
    assert {oct(folder.stat().st_mode & 0o777) for folder in folders} == {"0o700"}


def test_every_ca_has_a_folder_of_its_own() -> None:
    urls = [STAGING, "https://ca.test/directory", "https://ca.test/staging_directory"]
    names = [folder_name(url) for url in urls]
    assert len(set(names)) == 3
    assert names[0].startswith("ca.test_staging_directory-")
    assert "/" not in folder_name("https://user:x@[::1]:14000/../dir?a=/b")


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", ".a", "A.test", "a.test\n", "a\0b"])
def test_a_name_that_is_no_host_name_never_becomes_a_path(name: str, store: FolderStore) -> None:
    with pytest.raises(ValueError, match="no host name"):
        file_name(name)
    with pytest.raises(ValueError, match="no host name"):
        result(store.get(name))


def test_wildcards_and_the_longest_names_are_kept_too(
    store: FolderStore, authority: Authority
) -> None:
    longest = ".".join(["a" * 63] * 3) + "." + "b" * 61
    other = ".".join(["a" * 63] * 3) + "." + "c" * 61
    for name in ("*.a.test", longest, other):
        result(store.store(name, objects(authority.issue(name, common_name="x"))))
    assert set(result(store.as_dict())) == {"*.a.test", longest, other}
    assert result(store.get(longest)) != result(store.get(other))


def damaged_files(authority: Authority) -> dict[str, str]:
    pair, other = authority.issue("a.test"), authority.issue("b.test")
    return {
        "empty": "",
        "cut off": (pair.key + pair.chain)[:400],
        "without a key": pair.chain,
        "without a certificate": pair.key,
        "with the key of another": other.key + pair.chain,
        "of another name": other.key + other.chain,
        "with nonsense for a certificate": pair.key
        + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "cut off",
        "without a key",
        "without a certificate",
        "with the key of another",
        "of another name",
        "with nonsense for a certificate",
    ],
)
def test_a_damaged_file_is_set_aside_and_reported(
    kind: str, store: FolderStore, authority: Authority
) -> None:
    result(store.store("ok.test", objects(authority.issue("ok.test"))))
    content = damaged_files(authority)[kind]
    path = file_of(store, "a.test")
    path.write_text(content)
    found, logged = errors(lambda: result(store.as_dict()))
    assert list(found) == ["ok.test"]
    assert path.with_name("a.test.pem.damaged-1").read_text() == content
    assert not path.exists()
    (line,) = logged
    assert str(path) in line
    assert "damaged-1" in line
    assert not any(part in line for part in content.splitlines() if part)


def test_what_cannot_be_read_is_no_reason_to_order_again(
    store: FolderStore, authority: Authority
) -> None:
    result(store.as_dict())
    file_of(store, "a.test").mkdir()
    with pytest.raises(OSError, match=r"a\.test"):
        result(store.get("a.test"))


def test_the_account_is_found_again(store: FolderStore) -> None:
    assert result(store.account()) is None
    account = Account(AccountKey.generate().to_pem(), "https://ca.test/1", "ops@a.test")
    result(store.store_account(account))
    assert result(store.account()) == account
    assert "PRIVATE" not in repr(account)
    path = store.folder / "account.json"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "[1]", '{"key": 1}', '{"key": "x"}', '{"url": "https://ca.test/1"}', "\x00"],
)
def test_a_damaged_account_is_set_aside_and_reported(content: str, store: FolderStore) -> None:
    result(store.as_dict())
    path = store.folder / "account.json"
    path.write_text(content)
    found, logged = errors(lambda: result(store.account()))
    assert found is None
    assert path.with_name("account.json.damaged-1").read_text() == content
    assert len(logged) == 1


def test_a_key_that_openssl_wrote_in_its_old_form_is_taken_too(
    store: FolderStore, authority: Authority
) -> None:
    from cryptography.hazmat.primitives import serialization

    key = new_key()
    pair = authority.issue("a.test", key=key)
    old = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()
    result(store.store("a.test", objects_of(Certificate(pair.chain, old))))
    assert certificate_of(result(store.get("a.test"))).key == old
    assert key_pem(key) != old


# Notes.


def test_a_note_is_there_until_it_is_removed(store: FolderStore) -> None:
    assert result(store.notes("failure")) == {}
    for kind, name in (("failure", "a.test"), ("failure", "*.a.test"), ("other", "a.test")):
        result(store.write_note(kind, name, f"{kind} {name}"))
    assert result(store.notes("failure")) == {
        "a.test": "failure a.test",
        "*.a.test": "failure *.a.test",
    }
    result(store.remove_note("failure", "a.test"))
    result(store.remove_note("failure", "a.test"))
    assert list(result(store.notes("failure"))) == ["*.a.test"]
    assert list(result(store.notes("other"))) == ["a.test"]


def test_a_note_takes_the_place_of_another(store: FolderStore) -> None:
    for text in ("old", "new"):
        result(store.write_note("failure", "a.test", text))
    assert result(store.notes("failure")) == {"a.test": "new"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "x"}', "\x00"])
def test_a_damaged_note_does_not_hide_the_others(store: FolderStore, content: str) -> None:
    result(store.write_note("failure", "a.test", "text"))
    (store.folder / "notes" / "failure~x.test.json").write_text(content)
    found, _ = errors(lambda: result(store.notes("failure")))
    assert found == {"a.test": "text"}


# Locks.


def held(store: FolderStore, name: str) -> list[Any]:
    found: list[Any] = []
    store.lock(name).addCallbacks(found.append, lambda failure: None)
    return found


def test_a_lock_is_had_by_one_at_a_time(store: FolderStore, clock: Clock) -> None:
    first, second, other = held(store, "a.test"), held(store, "a.test"), held(store, "b.test")
    assert (len(first), len(second), len(other)) == (1, 0, 1)
    clock.advance(5)
    assert second == []
    first[0]()
    clock.advance(1)
    assert len(second) == 1


def test_nothing_is_left_of_locks_that_were_given_back(store: FolderStore, clock: Clock) -> None:
    first, second = held(store, "a.test"), held(store, "a.test")
    first[0]()
    clock.advance(1)
    second[0]()
    assert list((store.folder / "locks").iterdir()) == []


def test_a_lock_whose_file_was_removed_is_not_the_lock_that_others_take(
    store: FolderStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who had it removes its file just when the next one has opened that."""
    first = held(store, "a.test")
    flock = fcntl.flock

    def late(number: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first[0]()
        flock(number, how)

    monkeypatch.setattr(fcntl, "flock", late)
    second = held(store, "a.test")
    third = held(store, "a.test")
    assert (len(second), len(third)) == (0, 1)
    third[0]()
    clock.advance(1)
    assert len(second) == 1


def test_who_gives_up_while_a_thread_gets_the_lock_gives_it_back(
    tmp_path: Path, clock: Clock
) -> None:
    threads: list[Any] = []

    def in_thread(work: Any, done: Any) -> None:
        threads.append((work, done))

    waiting = file_lock(tmp_path / "a.lock", clock, in_thread)
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    while threads:
        at_once(*threads.pop())
    taken: list[Any] = []
    file_lock(tmp_path / "a.lock", clock, at_once).addCallback(taken.append)
    assert len(taken) == 1


def test_who_waits_for_a_lock_can_give_up(store: FolderStore, clock: Clock) -> None:
    first = held(store, "a.test")
    waiting = store.lock("a.test")
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    assert clock.getDelayedCalls() == []
    first[0]()
    assert len(held(store, "a.test")) == 1


def test_the_lock_of_a_process_that_was_killed_is_free(
    store: FolderStore, clock: Clock, tmp_path: Path
) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from twisted.internet.task import Clock\n"
        "from kproxy.threads import at_once\n"
        "from kproxy.tls.acme.filelock import file_lock\n"
        "held = file_lock(Path(sys.argv[1]), Clock(), at_once)\n"
        "held.addCallback(lambda _: print('held', flush=True))\n"
        "time.sleep(60)\n"
    )
    result(store.as_dict())
    path = store.folder / "locks" / "a.test.lock"
    root = Path(__file__).parents[4]
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        waiting = held(store, "a.test")
        clock.advance(5)
        assert waiting == []
        process.send_signal(signal.SIGKILL)
    clock.advance(1)
    assert len(waiting) == 1


def test_a_lock_that_cannot_be_had_at_all_is_an_error(store: FolderStore) -> None:
    result(store.as_dict())
    (store.folder / "locks" / "a.test.lock").mkdir()
    with pytest.raises(OSError, match="lock"):
        result(store.lock("a.test"))
