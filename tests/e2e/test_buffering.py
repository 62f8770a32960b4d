"""Bodies that are collected before they are passed on (behaviour.md section 2: buffering)."""

from __future__ import annotations

import os
import signal
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, seen_by
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Request, Wire, chunk, request_text, response_text

KIB, MIB = 1024, 1024 * 1024
LIMIT = 100 * KIB
PIECE = os.urandom(MIB)


@pytest.fixture(scope="module")
def target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture(scope="module")
def running(module_stage: Stage, target: Target) -> Proxy:
    limits = {"max_request_body": LIMIT, "max_response_body": LIMIT, "memory": 10 * KIB}
    options = {
        "limited": limits,
        "streamed": {**limits, "requests": False},
        "large": {"memory": 64 * KIB},
        "unlimited": {"max_request_body": 0},
        "passing": {"responses": False},
    }
    roles = {
        name: {"hosts": [target.address], "proxy": {"buffering": buffering}}
        for name, buffering in options.items()
    }
    healthy = tuple(f"{name}.example" for name in options)
    return module_stage.proxy(module_stage.deploy(roles), healthy=healthy)


@pytest.fixture
def proxy(running: Proxy, target: Target) -> Proxy:
    target.forget()
    return running


def temporary_files(proxy: Proxy) -> int:
    """How many files without a name the proxy holds in its own temporary folder."""
    count = 0
    links = [link for pid in proxy.pids() for link in Path(f"/proc/{pid}/fd").iterdir()]
    for link in links:
        try:
            name = os.readlink(link)
        except OSError:
            continue
        count += name.startswith(str(proxy.temp)) and name.endswith("(deleted)")
    return count


# Limits.

both = pytest.mark.parametrize("host", ["limited.example", "streamed.example"])


@both
def test_a_body_of_exactly_the_limit_is_served(proxy: Proxy, target: Target, host: str) -> None:
    body = PIECE[:LIMIT]
    assert seen_by(proxy.request("POST", "/", host, body=body).body)["size"] == LIMIT
    with proxy.connect() as wire:
        wire.send(request_text("POST", host=host, headers={"Transfer-Encoding": "chunked"}))
        wire.send(chunk(body) + b"0\r\n\r\n")
        assert seen_by(wire.read_response().body)["size"] == LIMIT


@both
def test_a_larger_content_length_is_413_before_the_body_is_read(
    proxy: Proxy, target: Target, host: str
) -> None:
    with proxy.connect() as wire:
        wire.send(request_text("POST", host=host, headers={"Content-Length": str(LIMIT + 1)}))
        response = wire.read_response()
        assert response.status == 413
        assert response.get("connection") == "close"
        assert wire.at_end()
    assert not target.requests


@both
def test_a_larger_content_length_is_413_without_an_invitation_to_send_it(
    proxy: Proxy, target: Target, host: str
) -> None:
    headers = {"Content-Length": str(LIMIT + 1), "Expect": "100-continue"}
    with proxy.connect() as wire:
        wire.send(request_text("POST", host=host, headers=headers))
        response = wire.read_response()
        assert (response.status, response.interim) == (413, [])
        assert wire.at_end()
    assert not target.requests


def test_a_larger_chunked_body_is_413_when_it_turns_out_to_be(proxy: Proxy, target: Target) -> None:
    with proxy.connect() as wire:
        headers = {"Transfer-Encoding": "chunked"}
        wire.send(request_text("POST", host="limited.example", headers=headers))
        wire.send(chunk(PIECE[: LIMIT + 1]))
        assert wire.read_response().status == 413
        assert wire.at_end()
    assert not target.requests


def test_a_larger_chunked_body_is_413_while_it_is_streamed_and_cut_at_the_target(
    proxy: Proxy, target: Target
) -> None:
    cut = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        try:
            wire.read_body(request)
        except OSError:
            cut.set()

    target.script = script
    with proxy.connect() as wire:
        headers = {"Transfer-Encoding": "chunked"}
        wire.send(request_text("POST", host="streamed.example", headers=headers))
        wire.send(chunk(PIECE[:1000]))
        wait_until("the target is asked", lambda: target.requests)
        wire.send(chunk(PIECE[:LIMIT]))
        assert wire.read_response().status == 413
        assert wire.at_end()
    assert cut.wait(20)


def test_a_client_that_sends_its_large_body_all_the_same_can_read_the_413(proxy: Proxy) -> None:
    with proxy.connect() as wire:
        wire.send(
            request_text("POST", host="limited.example", headers={"Content-Length": "2000000"})
        )
        wire.send(PIECE)
        assert wire.read_response().status == 413


@pytest.mark.parametrize("chunked", [False, True])
def test_a_response_over_its_limit_is_500_and_not_half_a_body(
    proxy: Proxy, target: Target, chunked: bool
) -> None:
    def script(wire: Wire, request: Request) -> None:
        body = PIECE[: LIMIT + 1]
        if chunked:
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Secret: 1\r\n\r\n")
            wire.send(chunk(body) + b"0\r\n\r\n")
        else:
            wire.send(response_text(body, x_secret="1"))

    target.script = script
    response = proxy.get(host="limited.example")
    assert response.status == 500
    assert not response.has("x-secret")
    assert response.text.startswith("<!DOCTYPE html>")


def test_a_response_of_exactly_the_limit_is_served(proxy: Proxy, target: Target) -> None:
    target.script = lambda wire, request: wire.send(response_text(PIECE[:LIMIT]))
    assert proxy.get(host="limited.example").body == PIECE[:LIMIT]


def test_a_limit_of_zero_is_none(proxy: Proxy) -> None:
    body = PIECE * 3
    seen = seen_by(proxy.request("POST", "/", "unlimited.example", body=body).body)
    assert seen["sha256"] == sha256(body).hexdigest()


# What does not fit into memory.


def test_large_bodies_go_through_a_file_that_has_no_name_and_come_out_whole(
    proxy: Proxy, target: Target
) -> None:
    halfway = threading.Event()
    answer = PIECE * 5

    def script(wire: Wire, request: Request) -> None:
        seen.append(wire.read_body(request))
        wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n")
        wire.send(answer[: 3 * MIB])
        assert halfway.wait(20)
        wire.send(answer[3 * MIB :])

    seen: list[bytes] = []
    target.script = script
    upload = PIECE[::-1] * 5
    with proxy.connect() as wire:
        headers = {"Content-Length": str(len(upload))}
        wire.send(request_text("POST", "/spill", "large.example", headers) + upload[: 3 * MIB])
        wait_until("the request is spilled", lambda: temporary_files(proxy) == 1)
        assert os.listdir(proxy.temp) == []
        wire.send(upload[3 * MIB :])
        wait_until("the response is spilled too", lambda: temporary_files(proxy) == 2)
        assert os.listdir(proxy.temp) == []
        halfway.set()
        assert wire.read_response().body == answer
    assert seen == [upload]
    wait_until("the files are closed", lambda: temporary_files(proxy) == 0)


@pytest.mark.parametrize("clients", [1, 6])
def test_connections_bring_one_large_body_after_the_other(
    proxy: Proxy, target: Target, clients: int
) -> None:
    wires = set()
    whole: list[bool] = []

    def script(wire: Wire, request: Request) -> None:
        wires.add(wire)
        wire.send(response_text(PIECE * int(request.target.strip("/"))))

    def client() -> None:
        with proxy.connect() as wire:
            for size in (1, 20, 3, 40, 2):
                wire.send(request_text("GET", f"/{size}", "large.example"))
                whole.append(wire.read_response().body == PIECE * size)

    target.script = script
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert whole == [True] * 5 * clients
    assert len(wires) <= clients


@pytest.mark.parametrize("reset", [False, True])
def test_a_target_that_breaks_off_a_large_body_is_502(
    proxy: Proxy, target: Target, reset: bool
) -> None:
    def script(wire: Wire, request: Request) -> None:
        wire.send(response_text(PIECE * 10)[: -2 * MIB])
        wire.reset() if reset else wire.close()

    target.script = script
    assert proxy.get(host="large.example").status == 502
    wait_until("the file is closed", lambda: temporary_files(proxy) == 0)


def test_a_small_body_needs_no_file(proxy: Proxy, target: Target) -> None:
    counts = []

    def script(wire: Wire, request: Request) -> None:
        wire.read_body(request)
        counts.append(temporary_files(proxy))
        wire.send(response_text(PIECE[: 64 * KIB]))

    target.script = script
    assert proxy.request("POST", "/", "large.example", body=PIECE[: 64 * KIB]).status == 200
    assert counts == [0]


def test_a_client_that_leaves_lets_go_of_what_was_spilled(proxy: Proxy) -> None:
    with proxy.connect() as wire:
        headers = {"Content-Length": str(10 * MIB)}
        wire.send(request_text("POST", "/left", "large.example", headers) + PIECE)
        wait_until("the request is spilled", lambda: temporary_files(proxy) == 1)
    wait_until("the file is closed", lambda: temporary_files(proxy) == 0)


def test_a_slow_client_keeps_no_target_busy(proxy: Proxy, target: Target) -> None:
    answered = threading.Event()
    answer = PIECE * 20

    def script(wire: Wire, request: Request) -> None:
        wire.send(response_text(answer))
        answered.set()

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text(host="large.example"))
        # It reads nothing, and the target gets rid of all of its answer.
        assert answered.wait(20)
        assert wire.read_response().body == answer


def test_a_client_that_leaves_before_it_has_read_lets_go_of_the_answer(
    proxy: Proxy, target: Target
) -> None:
    target.script = lambda wire, request: wire.send(response_text(PIECE * 20))
    with proxy.connect() as wire:
        wire.send(request_text(host="large.example"))
        wire.read_response_head()
        assert temporary_files(proxy) == 1
    wait_until("the file is closed", lambda: temporary_files(proxy) == 0)


def test_nothing_is_left_on_disk_when_the_proxy_is_killed(stage: Stage) -> None:
    proxy = stage.app(stage.target(), buffering={"memory": 1000})
    with proxy.connect() as wire:
        wire.send(request_text("POST", headers={"Content-Length": str(10 * MIB)}) + PIECE)
        wait_until("the request is spilled", lambda: temporary_files(proxy) == 1)
        assert proxy.stop(signal.SIGKILL) == -signal.SIGKILL
    assert os.listdir(proxy.temp) == []


DISK = """
import os, time


def on_disk(descriptor):
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    return name.startswith(os.environ["TMPDIR"]) and name.endswith("(deleted)")


def instead_of(name, number=0):
    write = getattr(os, name)

    def other(*arguments):
        if on_disk(arguments[number]):
            FAULT
        return write(*arguments)

    setattr(os, name, other)


for name in ("write", "writev", "pwrite", "pwritev"):
    instead_of(name)
instead_of("splice", 1)
"""
HANGS = """while not os.path.exists(os.environ["GO_ON"]):
                time.sleep(0.01)"""
FULL = """raise OSError(28, "No space left on device")"""


def proxy_with_disk(stage: Stage, target: Target, fault: str, **env: str) -> Proxy:
    """A proxy whose calls to the kernel fail or hang where they are about its temporary files."""
    plugs = stage.folder / "site"
    plugs.mkdir()
    (plugs / "sitecustomize.py").write_text(DISK.replace("FAULT", fault))
    config = stage.deploy({"app": {"hosts": [target.address]}})
    return stage.proxy(config, healthy=("app.example",), PYTHONPATH=str(plugs), **env)


def test_a_disk_that_hangs_stalls_only_who_needs_it(stage: Stage) -> None:
    go_on = stage.folder / "go-on"
    proxy = proxy_with_disk(stage, stage.target(), HANGS, GO_ON=str(go_on))
    size = 40 * MIB
    with proxy.connect() as wire:
        wire.send(request_text("POST", "/big", headers={"Content-Length": str(size)}))
        sent = wire.send_until_blocked(PIECE, size)
        assert sent < size, "the client was not slowed"
        # The disk has taken nothing yet, and everybody else is served, with a body or without.
        for number in range(20):
            body = PIECE[: number * KIB]
            assert seen_by(proxy.request("POST", "/small", body=body).body)["size"] == len(body)
        go_on.touch()
        wire.send(bytes(size - sent))
        seen = seen_by(wire.read_response().body)
    assert (seen["target"], seen["size"]) == ("/big", size)


def test_a_disk_that_is_full_is_500(stage: Stage) -> None:
    target = stage.target()
    proxy = proxy_with_disk(stage, target, FULL)
    assert proxy.request("POST", body=PIECE * 3).status == 500
    assert not target.requests
    target.script = lambda wire, request: wire.send(response_text(PIECE * 3))
    assert proxy.get().status == 500
    target.forget()
    assert proxy.request("POST", body=b"small").status == 200


def test_a_temporary_folder_that_is_gone_is_500(stage: Stage) -> None:
    target = stage.target()
    proxy = stage.app(target)
    assert proxy.request("POST", body=PIECE * 3).status == 200
    target.forget()
    proxy.temp.rmdir()
    assert proxy.request("POST", body=PIECE * 3).status == 500
    assert not target.requests
    target.script = lambda wire, request: wire.send(response_text(PIECE * 3))
    assert proxy.get().status == 500
    target.forget()
    assert proxy.request("POST", body=b"small").status == 200
