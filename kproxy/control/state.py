"""What survives a restart: the services as their last finished operations left them.

The file is JSON with a version number. It is replaced as a whole: written under another name,
synced, renamed; so that after a crash at any moment it is the old one or the new one. One that
can't be read is set aside, and the proxy starts without it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from kproxy.config.model import Service, Target
from kproxy.control.marshal import (
    Unreadable,
    from_json,
    service_from_json,
    service_to_json,
    to_json,
    warn_of_unknown,
)
from kproxy.durable import replace_file, set_aside
from kproxy.snapshot import GateState, Split
from kproxy.threads import InThread

VERSION = 1
FILE = "state.json"

_log = Logger()


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a service takes requests; see `kproxy.snapshot.ServiceState`."""

    state: GateState = "running"
    message: str = ""
    max_pause: float = 30.0


@dataclass(frozen=True, slots=True)
class SavedRollout:
    """A second set of targets; see `kproxy.snapshot.Rollout`."""

    targets: tuple[Target, ...]
    read_targets: tuple[Target, ...] = ()
    split: Split | None = None
    """None: nobody goes there."""


@dataclass(frozen=True, slots=True)
class Record:
    """One service as it was served."""

    service: Service
    gate: Gate = Gate()
    heeded: str | None = None
    """The fingerprint of what the configuration file had said of it by then; None: nothing."""
    rollout: SavedRollout | None = None
    proven: bool = True
    """Whether all its targets had been healthy once; if not, only `gate` and `rollout` count, for
    what the configuration file says of it."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that is remembered."""

    records: tuple[Record, ...] = ()
    removed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Services that were removed although the configuration file has them, with its fingerprint."""


class Store(Protocol):
    """Where state is kept."""

    def save(self, state: State) -> Deferred[None]:
        """Keep this from now on.

        @return: fires when it is safe; fails with `OSError`.
        """


class NoStore:
    """Forgets everything."""

    def save(self, state: State) -> Deferred[None]:
        return succeed(None)


class StateDirInUse(Exception):
    """Another proxy keeps its state there; the text says so."""


class StateFile:
    """The state in a folder of its own."""

    def __init__(self, folder: Path, in_thread: InThread) -> None:
        """@raise StateDirInUse: another process has it.
        @raise OSError: the folder can't be had."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / FILE
        self._in_thread = in_thread
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StateDirInUse(f"another kproxy has its state in {folder}") from None
        self._next: bytes | None = None
        self._waiting: list[Deferred[None]] = []
        self._writing = False

    def load(self) -> State:
        """What was saved last; nothing, if nothing was, or if it can't be read."""
        try:
            return read_state(self.path.parent)
        except (OSError, ValueError) as error:
            self._set_aside(error)
            return State()

    def _set_aside(self, error: Exception) -> None:
        try:
            other = set_aside(self.path)
        except OSError as why:
            _log.error("{path} can't be read: {error}; {why}", path=self.path, error=error, why=why)
            return
        _log.error(
            "{path} can't be read, and is now {other}: {error}",
            path=self.path,
            other=other,
            error=error,
        )

    def save(self, state: State) -> Deferred[None]:
        saved: Deferred[None] = Deferred()
        self._next = json.dumps(state_to_json(state), indent=1).encode()
        self._waiting.append(saved)
        if not self._writing:
            self._write()
        return saved

    def _write(self) -> None:
        """Write the newest state, for everybody who waits; one write at a time."""
        data, self._next = self._next, None
        waiting, self._waiting = self._waiting, []
        if data is None:
            return
        failed: list[OSError] = []

        def work(data: bytes = data) -> None:
            try:
                replace_file(self.path, data)
            except OSError as error:
                failed.append(error)

        def done() -> None:
            self._writing = False
            self._write()
            for saved in waiting:
                if failed:
                    saved.errback(failed[0])
                else:
                    saved.callback(None)

        self._writing = True
        self._in_thread(work, done)

    def close(self) -> None:
        """Let another process have the folder."""
        os.close(self._lock)


def read_state(folder: Path) -> State:
    """What was saved there last; nothing, if nothing was.

    @raise OSError: it can't be read.
    @raise ValueError: it is not what `StateFile` writes.
    """
    try:
        text = (folder / FILE).read_text("utf-8")
    except FileNotFoundError:
        return State()
    return state_from_json(json.loads(text))


def state_to_json(state: State) -> dict[str, Any]:
    return {
        "version": VERSION,
        "services": [
            {
                "service": service_to_json(record.service),
                "state": record.gate.state,
                "message": record.gate.message,
                "max_pause": record.gate.max_pause,
                "file": record.heeded,
                "rollout": to_json(record.rollout),
                "proven": record.proven,
            }
            for record in state.records
        ],
        "removed": dict(state.removed),
    }


def state_from_json(data: Any) -> State:
    """@raise Unreadable: it is not what `state_to_json` makes."""
    if not isinstance(data, dict):
        raise Unreadable("it is no map")
    if data.get("version") != VERSION:
        raise Unreadable(f"its version is {data.get('version')!r}, which is not known")
    warn_of_unknown(data, ("version", "services", "removed"), "")
    try:
        records = tuple(_record(each) for each in data["services"])
        removed = {str(name): str(mark) for name, mark in data["removed"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    return State(records, removed)


def _record(data: dict[str, Any]) -> Record:
    state, heeded = data["state"], data["file"]
    if state not in ("running", "paused", "stopped"):
        raise Unreadable(f"there is no state {state!r}")
    gate = Gate(state, str(data["message"]), float(data["max_pause"]))
    known = ("service", "state", "message", "max_pause", "file", "rollout", "proven")
    warn_of_unknown(data, known, "services")
    rollout = from_json(SavedRollout | None, data.get("rollout"), "rollout")
    return Record(
        service_from_json(data["service"]),
        gate,
        None if heeded is None else str(heeded),
        rollout,
        bool(data.get("proven", True)),
    )
