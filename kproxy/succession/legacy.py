"""What the old program leaves to the new one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kproxy.descriptors import anonymous_file
from kproxy.listening import Port
from kproxy.metrics.catalog import Measured
from kproxy.workers.guests import Guest

VARIABLE = "KPROXY_LEGACY"
"""The environment variable with the descriptor of the file that has the `Legacy`, as JSON."""


@dataclass(frozen=True, slots=True)
class Legacy:
    """All that is handed on. The new program may be of any version: it ignores what it does not know,
    and does without what is missing."""

    generation: int = 1
    """How many programs there have been in this process, with the new one."""
    version: str = ""
    """Of the old program."""
    ports: tuple[Port, ...] = ()
    commands: int = -1
    """The descriptor of the socket that the ``kproxy`` command talks to."""
    workers: tuple[Guest, ...] = ()
    healthy: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The targets of each service that get requests."""
    counted: Measured = field(default_factory=dict)
    """What workers that have ended had counted."""
    measured: Mapping[str, Measured] = field(default_factory=dict)
    """What each of the others measured when it was last asked, by its process id."""
    secret: str = ""
    """By which workers resume each other's TLS sessions, in base 16."""
    daemon: bool = False
    """Whether the process is in the background, whatever the command line says now."""
    pidfile: str = ""
    """What is to be removed at the end; empty: nothing."""
    report: int = -1
    """A rehearsal: the descriptor of the file that says how it went."""


def leave(legacy: Legacy) -> int:
    """Write it down.

    @return: the descriptor of the file.
    """
    descriptor = anonymous_file("kproxy-legacy")
    os.write(descriptor, json.dumps(asdict(legacy)).encode("ascii"))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def descriptors(legacy: Legacy) -> list[int]:
    """Those that have to stay open."""
    numbers = [port.descriptor for port in legacy.ports]
    numbers += [worker.descriptor for worker in legacy.workers]
    numbers += [legacy.commands, legacy.report]
    return [number for number in numbers if number >= 0]


def take(environ: MutableMapping[str, str]) -> Legacy | None:
    """What was left to this program; None: it is the first of its process. It can be taken once."""
    number = environ.pop(VARIABLE, None)
    if number is None:
        return None
    with open(int(number), "rb") as file:
        data = json.load(file)
    ports = tuple(_known(Port, each) for each in data.pop("ports", ()))
    workers = tuple(_known(Guest, each) for each in data.pop("workers", ()))
    legacy: Legacy = _known(Legacy, {**data, "ports": ports, "workers": workers})
    for descriptor in descriptors(legacy):
        os.set_inheritable(descriptor, False)
    return legacy


def _known(kind: Any, data: Mapping[str, Any]) -> Any:
    names = {each.name for each in fields(kind)}
    return kind(**{name: value for name, value in data.items() if name in names})
