"""What one program leaves to the next."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from kproxy.descriptors import anonymous_file
from kproxy.listening import Port
from kproxy.succession.legacy import VARIABLE, Legacy, descriptors, leave, take
from kproxy.workers.channel import Memory
from kproxy.workers.guests import Guest

MEMORY = Memory(unread="AAEC", said=7, unanswered=[{"do": "certificate", "id": 3, "name": "x"}])


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Two descriptors that another program would get."""
    ends = os.pipe()
    for end in ends:
        os.set_inheritable(end, True)
    yield ends
    for end in ends:
        os.close(end)


def taken(data: dict[str, Any]) -> Legacy:
    """What a program of this version makes of what another one has left."""
    descriptor = anonymous_file("test")
    os.write(descriptor, json.dumps(data).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    legacy = take({VARIABLE: str(descriptor)})
    assert legacy is not None
    return legacy


def test_all_that_is_left_is_taken(pipe: tuple[int, int]) -> None:
    one, two = pipe
    legacy = Legacy(
        generation=4,
        version="1.2",
        ports=(Port("0.0.0.0", 80, one), Port("::", 80, two)),
        commands=one,
        workers=(Guest(11, two, 3, 1.5, "serving", MEMORY),),
        healthy={"app": ["a:80"]},
        counted={"kproxy_tls_handshakes_total": [[["failed"], [4]]]},  # type: ignore[list-item]
        measured={"11": {}},
        daemon=True,
        pidfile="/run/kproxy.pid",
    )
    environ = {VARIABLE: str(leave(legacy)), "PATH": "/bin"}
    assert take(environ) == legacy
    assert environ == {"PATH": "/bin"}


def test_it_is_taken_once_and_the_first_program_finds_nothing() -> None:
    descriptor = leave(Legacy())
    environ = {VARIABLE: str(descriptor)}
    assert take(environ) == Legacy()
    assert take(environ) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_what_is_taken_is_not_handed_on_by_accident(pipe: tuple[int, int]) -> None:
    one, two = pipe
    legacy = Legacy(
        ports=(Port("::", 80, one),), workers=(Guest(1, two, 0, 0.0, "serving", MEMORY),)
    )
    take({VARIABLE: str(leave(legacy))})
    assert not os.get_inheritable(one)
    assert not os.get_inheritable(two)


def test_what_a_later_version_leaves_beside_that_is_ignored() -> None:
    guest = {"pid": 1, "descriptor": -1, "slot": 0, "seconds": 2.0, "state": "serving"}
    legacy = taken(
        {
            "generation": 2,
            "mood": "good",
            "ports": [{"address": "::", "port": 80, "descriptor": -1, "colour": "red"}],
            "workers": [{**guest, "memory": MEMORY, "rank": 1}],
        }
    )
    assert legacy.generation == 2
    assert legacy.ports == (Port("::", 80, -1),)
    assert legacy.workers == (Guest(1, -1, 0, 2.0, "serving", MEMORY),)


def test_what_another_version_does_not_leave_is_as_if_there_were_nothing() -> None:
    assert taken({}) == Legacy()


def test_descriptors_are_those_that_are_there() -> None:
    legacy = Legacy(
        ports=(Port("::", 80, 5),),
        workers=(Guest(1, 7, 0, 0.0, "serving", MEMORY),),
        commands=6,
        report=-1,
    )
    assert descriptors(legacy) == [5, 7, 6]
    assert descriptors(Legacy()) == []
