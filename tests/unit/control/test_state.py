"""The state file: what is written is read again, whatever happens in between."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogLevel

from kproxy.config.model import (
    Buffering,
    CertificateFiles,
    CertificateSecrets,
    Healthcheck,
    Logging,
    Service,
    Target,
    WrapperUse,
)
from kproxy.control.marshal import Unreadable, fingerprint, service_from_json, service_to_json
from kproxy.control.state import (
    Gate,
    Record,
    SavedRollout,
    State,
    StateDirInUse,
    StateFile,
    state_from_json,
    state_to_json,
)
from kproxy.snapshot import Split
from tests.unit.control.support import Log

FULL = Service(
    name="app",
    targets=(Target("a", 1), Target("::1", 2)),
    hosts=("a.example", "*.b.example"),
    path_prefixes=("/api", "/x"),
    ssl=CertificateSecrets("CERT", "KEY"),
    healthcheck=Healthcheck("/health", 0.5, 2.0, 9000, "check.example"),
    buffering=Buffering(False, True, 5, 6, 7),
    logging=Logging(("A",), ("B", "C")),
    error_pages=((404, "<p>none</p>"), (503, "")),
    secrets_files=(Path("/a"),),
    canonical_host="a.example",
    writer_affinity_timeout=1.5,
)


class Threads:
    """Threads that work when they are told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Callable[[], None]]] = []
        self.at_once = True

    def __call__(self, work: Callable[[], Any], done: Callable[[], None]) -> None:
        self.waiting.append((work, done))
        if self.at_once:
            self.run()

    def run(self) -> None:
        work, done = self.waiting.pop(0)
        work()
        done()


FILES = CertificateFiles(Path("/cert.pem"), Path("/key.pem"))


@pytest.mark.parametrize(
    "service",
    [
        FULL,
        Service("x", ()),
        Service("y", (), ssl=True, tls_staging=True, acme_folder=Path("/x")),
        Service("z", (), ssl=FILES),
    ],
)
def test_a_service_survives_json(service: Service) -> None:
    assert service_from_json(json.loads(json.dumps(service_to_json(service)))) == service


def test_options_of_wrappers_are_not_written() -> None:
    service = Service("x", (), wrappers=(WrapperUse("limit", object()),))
    assert service_from_json(service_to_json(service)) == Service("x", ())


def test_an_option_that_is_missing_has_its_default() -> None:
    data = service_to_json(Service("x", ()))
    del data["drain_timeout"]
    assert service_from_json(data) == Service("x", ())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"hosts": "a"}, "service.hosts is no list"),
        ({"hosts": [1]}, r"service.hosts\[0\] is of a wrong kind"),
        ({"targets": [{"host": "a"}]}, r"service.targets\[0\]: .*port"),
        ({"targets": [{"host": "a", "port": True}]}, "port is of a wrong kind"),
        ({"error_pages": [[404]]}, r"error_pages\[0\] is of a wrong length"),
        ({"healthcheck": []}, "service.healthcheck is no map"),
        ({"ssl": 3}, "service.ssl is of a wrong kind"),
    ],
)
def test_what_is_no_service_is_refused(change: Any, complaint: str) -> None:
    with pytest.raises(Unreadable, match=complaint):
        service_from_json({**service_to_json(Service("x", ())), **change})


def test_what_a_later_version_added_is_reported_and_ignored(tmp_path: Path) -> None:
    data = state_to_json(STATE)
    data["later"] = {"a": 1}
    data["services"][0]["later"] = []
    data["services"][0]["service"].update(later=3, wrappers=[])
    data["services"][0]["service"]["healthcheck"]["later"] = None
    with Log(LogLevel.warn) as log:
        assert state_from_json(json.loads(json.dumps(data))) == STATE
    ignored = [text.split()[4].rstrip(",") for text in log.texts]
    assert ignored == [
        "later",
        "services.later",
        "service.later",
        "service.wrappers",
        "service.healthcheck.later",
    ]


def test_what_an_earlier_version_wrote_is_read() -> None:
    data = state_to_json(STATE)
    for record in data["services"]:
        del record["rollout"], record["proven"]
        del record["service"]["read_target_websockets"]
    assert [record.service for record in state_from_json(data).records] == [
        record.service for record in STATE.records
    ]


def test_fingerprints_tell_services_apart_and_are_the_same_in_another_process() -> None:
    class Plain:
        pass

    one = Service("x", (), wrappers=(WrapperUse("limit", Plain()),))
    same = Service("x", (), wrappers=(WrapperUse("limit", Plain()),))
    assert fingerprint(one) == fingerprint(same)
    assert fingerprint(one) != fingerprint(Service("x", ()))
    assert fingerprint(FULL) != fingerprint(Service("app", FULL.targets))


ROLLOUT = SavedRollout((Target("n", 1),), (Target("r", 2),), Split(10, ("qa",)))
STATE = State(
    (
        Record(FULL, Gate("paused", "", 5.0), "mark", ROLLOUT),
        Record(Service("y", (Target("c", 1),)), proven=False),
        Record(Service("z", (Target("c", 1),)), rollout=SavedRollout((Target("n", 1),))),
    ),
    {"gone": "mark"},
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "x" / "state", Threads())
    assert file.load() == State()
    assert file.save(STATE).called
    assert file.load() == STATE
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert sorted(os.listdir(file.path.parent)) == ["lock", "state.json"]


def test_the_file_has_a_version(tmp_path: Path) -> None:
    file = StateFile(tmp_path, Threads())
    file.save(STATE)
    assert json.loads(file.path.read_text())["version"] == 1


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"version": 2}',
        b'{"version": 1}',
        b'{"version": 1, "services": 5, "removed": {}}',
        b'{"version": 1, "services": [{}], "removed": {}}',
        json.dumps(state_to_json(STATE)).replace("paused", "odd").encode(),
        json.dumps(state_to_json(STATE)).encode()[:-30],
    ],
)
def test_a_damaged_file_is_set_aside_and_reported(tmp_path: Path, damaged: bytes) -> None:
    file = StateFile(tmp_path, Threads())
    for name in ("state.json.damaged-1", "state.json.damaged-2"):
        file.path.write_bytes(damaged)
        with Log() as log:
            assert file.load() == State()
        assert len(log.texts) == 1
        assert name in log.texts[0]
        assert (tmp_path / name).read_bytes() == damaged
    file.save(STATE)
    assert file.load() == STATE


def test_a_write_that_fails_leaves_the_old_file_and_is_told(tmp_path: Path) -> None:
    file = StateFile(tmp_path, Threads())
    file.save(STATE)
    (tmp_path / "state.json.new").mkdir()
    errors: list[Any] = []
    file.save(State()).addErrback(errors.append)
    assert errors[0].check(OSError)
    assert file.load() == STATE


def test_saves_that_come_during_a_write_are_one_write_of_the_last_state(tmp_path: Path) -> None:
    threads = Threads()
    threads.at_once = False
    file = StateFile(tmp_path, threads)
    first = file.save(State())
    second, third = file.save(State()), file.save(STATE)
    threads.run()
    assert first.called
    assert not second.called
    threads.run()
    assert second.called
    assert third.called
    assert threads.waiting == []
    assert file.load() == STATE


def test_a_folder_belongs_to_one_proxy(tmp_path: Path) -> None:
    file = StateFile(tmp_path, Threads())
    with pytest.raises(StateDirInUse, match=str(tmp_path)):
        StateFile(tmp_path, Threads())
    file.close()
    StateFile(tmp_path, Threads()).close()
