"""What a body may cost in memory, whoever is slow (issue: the HTTP engine)."""

from __future__ import annotations

import hashlib
import os
import sys
import threading

import pytest

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, seen_by
from tests.e2e.support.wire import Request, Wire, request_text, response_text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

MIB = 1024 * 1024
PIECE = os.urandom(MIB)
SLACK = MIB
"""Most that the memory of the whole process may grow by, whatever the size of a body."""

SIZES = [200, pytest.param(1024, marks=pytest.mark.slow)]
STREAMED, BUFFERED = "streamed.example", "buffered.example"


@pytest.fixture(scope="module")
def target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture(scope="module")
def running(module_stage: Stage, target: Target) -> Proxy:
    off = {"requests": False, "responses": False, "max_request_body": 0}
    roles = {
        "streamed": {"hosts": [target.address], "proxy": {"buffering": off}},
        "buffered": {"hosts": [target.address]},
    }
    return module_stage.proxy(module_stage.deploy(roles), healthy=(STREAMED, BUFFERED))


@pytest.fixture
def proxy(running: Proxy, target: Target) -> Proxy:
    """It has done everything once, so that what is measured is not what it keeps ready."""
    for host in (STREAMED, BUFFERED):
        target.script = download(2, threading.Event())
        with running.connect() as wire:
            wire.send(request_text(host=host))
            wire.read_response()
        target.forget()
        assert running.request("POST", host=host, body=PIECE * 2).status == 200
    return running


def digest(mebibytes: int) -> str:
    whole = hashlib.sha256()
    for _ in range(mebibytes):
        whole.update(PIECE)
    return whole.hexdigest()


def download(mebibytes: int, stalled: threading.Event) -> object:
    """A script that sends as fast as it can, and says when nobody takes any more."""

    def script(wire: Wire, request: Request) -> None:
        size = mebibytes * MIB
        wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")
        sent = wire.send_until_blocked(PIECE, size)
        stalled.set()
        send_rest(wire, sent, size)

    return script


def send_rest(wire: Wire, sent: int, size: int) -> None:
    while sent < size:
        piece = PIECE[sent % MIB :][: size - sent]
        wire.send(piece)
        sent += len(piece)


def receive(wire: Wire, size: int) -> str:
    whole = hashlib.sha256()
    while size:
        data = wire.read_some(min(size, MIB))
        assert data, "closed too early"
        whole.update(data)
        size -= len(data)
    return whole.hexdigest()


@pytest.mark.parametrize("mebibytes", SIZES)
def test_an_upload_to_a_slow_target_is_not_held_in_memory(
    proxy: Proxy, target: Target, mebibytes: int
) -> None:
    go_on = threading.Event()
    digests = []

    def script(wire: Wire, request: Request) -> None:
        assert go_on.wait(60)
        digests.append(receive(wire, mebibytes * MIB))
        wire.send(response_text("done"))

    target.script = script
    size = mebibytes * MIB
    memory = proxy.memory()
    with proxy.connect() as wire:
        wire.send(request_text("POST", host=STREAMED, headers={"Content-Length": str(size)}))
        sent = wire.send_until_blocked(PIECE, size)
        assert sent < size, "the client was not slowed"
        go_on.set()
        send_rest(wire, sent, size)
        assert wire.read_response().body == b"done"
    assert digests == [digest(mebibytes)]
    assert memory.growth() < SLACK


@pytest.mark.parametrize("mebibytes", SIZES)
def test_a_download_by_a_slow_client_is_not_held_in_memory(
    proxy: Proxy, target: Target, mebibytes: int
) -> None:
    stalled = threading.Event()
    target.script = download(mebibytes, stalled)
    memory = proxy.memory()
    with proxy.connect() as wire:
        wire.send(request_text(host=STREAMED))
        assert stalled.wait(60), "the target was not slowed"
        wire.read_response_head()
        assert receive(wire, mebibytes * MIB) == digest(mebibytes)
    assert memory.growth() < SLACK


def test_a_buffered_upload_of_300_mb_arrives_whole_and_is_not_held_in_memory(
    proxy: Proxy, target: Target
) -> None:
    size = 300 * MIB

    def script(wire: Wire, request: Request) -> None:
        assert request.get("content-length") == str(size)
        wire.send(response_text(receive(wire, size)))

    target.script = script
    memory = proxy.memory()
    with proxy.connect() as wire:
        wire.send(request_text("POST", host=BUFFERED, headers={"Content-Length": str(size)}))
        send_rest(wire, 0, size)
        assert wire.read_response().text == digest(300)
    # buffering.memory is 1 MiB; what waits for the disk, and what comes back from it, are as much.
    assert memory.growth() < 4 * MIB
    assert os.listdir(proxy.temp) == []


def test_a_buffered_download_of_300_mb_arrives_whole_and_is_not_held_in_memory(
    proxy: Proxy, target: Target
) -> None:
    target.script = download(300, threading.Event())
    memory = proxy.memory()
    with proxy.connect() as wire:
        wire.send(request_text(host=BUFFERED))
        wire.read_response_head()
        assert receive(wire, 300 * MIB) == digest(300)
    assert memory.growth() < 4 * MIB
    assert os.listdir(proxy.temp) == []


def test_many_slow_uploads_cost_no_more_than_what_buffering_allows(
    proxy: Proxy, target: Target
) -> None:
    size = 10 * MIB
    memory = proxy.memory()
    wires = [proxy.connect() for _ in range(20)]
    for wire in wires:
        wire.send(request_text("POST", host=BUFFERED, headers={"Content-Length": str(size)}))
        send_rest(wire, 0, size - 1)
    for wire in wires:
        wire.send(PIECE[-1:])
        assert seen_by(wire.read_response().body)["sha256"] == digest(10)
        wire.close()
    assert memory.growth() < 20 * 2 * MIB


def test_what_a_client_sends_ahead_waits_outside_of_the_proxy(proxy: Proxy, target: Target) -> None:
    go_on = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        assert go_on.wait(60)
        wire.send(response_text("x"))

    target.script = script
    memory = proxy.memory()
    ahead = request_text(path="/" + "x" * 4000, host=STREAMED)
    with proxy.connect() as wire:
        wire.send(request_text(host=STREAMED))
        sent = wire.send_until_blocked(ahead * 200, 100 * MIB)
        assert sent < 100 * MIB, "the client was not slowed"
        assert memory.growth() < SLACK
    go_on.set()
