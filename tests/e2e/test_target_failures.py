"""What clients get when a target fails (behaviour.md section 3)."""

from __future__ import annotations

import socket
import threading
from functools import partial

import pytest

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Script, Target, raw, seen_by
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Gone, Request, Wire, chunk, request_text, response_text

STREAMED, BUFFERED, HASTY = "streamed.example", "buffered.example", "hasty.example"
both = pytest.mark.parametrize("host", [BUFFERED, STREAMED])


@pytest.fixture(scope="module")
def target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture(scope="module")
def running(module_stage: Stage, target: Target) -> Proxy:
    off = {"requests": False, "responses": False}
    roles = {
        "streamed": {"hosts": [target.address], "proxy": {"buffering": off}},
        "buffered": {"hosts": [target.address]},
        "hasty": {
            "hosts": [target.address],
            "proxy": {"buffering": off, "response_timeout": 0.3},
        },
    }
    return module_stage.proxy(module_stage.deploy(roles), healthy=(STREAMED, BUFFERED, HASTY))


@pytest.fixture
def proxy(running: Proxy, target: Target) -> Proxy:
    target.forget()
    return running


def closes(wire: Wire, request: Request) -> None:
    wire.close()


def resets(wire: Wire, request: Request) -> None:
    wire.reset()


def resets_in_its_headers(wire: Wire, request: Request) -> None:
    wire.send("HTTP/1.1 200 OK\r\nContent-")
    wire.close()


@both
@pytest.mark.parametrize(
    "script",
    [closes, resets, resets_in_its_headers, raw(b"\x00\xff garbage \r\n\r\n"), raw(b"\r\n\r\n")],
    ids=["closes", "resets", "headers", "garbage", "empty"],
)
def test_a_target_that_fails_before_its_headers_is_502(
    proxy: Proxy, target: Target, host: str, script: Script
) -> None:
    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text("POST", host=host, body=b"not to be repeated"))
        assert wire.read_response().status == 502
        assert len(target.requests) == 1
        # The client did nothing wrong: its connection lives on.
        target.forget()
        wire.send(request_text(host=host))
        assert wire.read_response().status == 200


def test_a_target_that_refuses_connections_is_502(stage: Stage) -> None:
    target = stage.target()
    proxy = stage.app(target)
    target.close()
    assert proxy.get("/refused").status == 502
    assert proxy.logged(path="/refused")["target"] == target.address
    proxy.said(f"{target.address} failed")


BEGINNINGS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 50_000),
}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("end", [b"", b"nonsense\r\n"], ids=["closes", "nonsense"])
@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_target_that_dies_in_mid_body_cuts_the_clients_connection(
    proxy: Proxy, target: Target, name: str, version: str, end: bytes
) -> None:
    go_on = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.send(BEGINNINGS[name])
        assert go_on.wait(20)
        wire.send(end)
        wire.close()

    target.script = script
    with proxy.connect() as wire:
        wire.send(f"GET /half HTTP/{version}\r\nHost: {STREAMED}\r\n\r\n")
        head = wire.read_response_head()
        assert head.status == 200
        read = wire.read_to_end
        if head.has("transfer-encoding"):
            assert wire.read_chunk()
            read = wire.read_chunk
        elif head.has("content-length"):
            wire.read_exactly(50_000)
            read = partial(wire.read_exactly, 50_000)
        go_on.set()
        # Nobody may take half a body for a whole one, whichever way its end is told.
        with pytest.raises((Gone, ConnectionResetError)):
            read()
    assert proxy.logged(path="/half")["status"] == 200


@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_target_that_dies_in_mid_body_is_502_while_nothing_was_passed_on(
    proxy: Proxy, target: Target, name: str
) -> None:
    target.script = raw(BEGINNINGS[name], close=True)
    with proxy.connect() as wire:
        wire.send(request_text(host=BUFFERED))
        response = wire.read_response()
        assert response.status == 502
        assert response.text.startswith("<!DOCTYPE html>")
        target.forget()
        wire.send(request_text(host=BUFFERED))
        assert wire.read_response().status == 200


# Connections that a target closed while they waited for the next request.


def dies_when_used_again(answer: bytes) -> Script:
    """A target whose connections end, unheard, with the second request on them."""
    served: set[Wire] = set()

    def script(wire: Wire, request: Request) -> None:
        wire.read_body(request)
        if wire in served:
            wire.close()
        else:
            served.add(wire)
            wire.send(answer)

    return script


@both
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_request_that_meets_a_closed_connection_is_repeated_on_a_fresh_one(
    proxy: Proxy, target: Target, host: str, method: str
) -> None:
    target.script = dies_when_used_again(response_text("" if method == "HEAD" else "here"))
    body = b"body" if method == "PUT" and host == BUFFERED else b""
    for _ in range(4):
        assert proxy.request(method, "/again", host, body=body).status == 200


@both
def test_a_post_that_meets_a_closed_connection_is_not_repeated(
    proxy: Proxy, target: Target, host: str
) -> None:
    target.script = dies_when_used_again(response_text("here"))
    statuses = []
    with proxy.connect() as wire:  # one client connection, and so one pool
        for _ in range(4):
            wire.send(request_text("POST", "/once", host, body=b"x"))
            statuses.append(wire.read_response("POST").status)
    # Whatever the state of the pool before: each connection answers one, and fails with the next.
    assert statuses in ([200, 502, 200, 502], [502, 200, 502, 200])
    assert len(target.requests) == 4


def test_a_connection_that_closed_while_it_was_idle_is_not_used(
    proxy: Proxy, target: Target
) -> None:
    closed: list[Wire] = []

    def script(wire: Wire, request: Request) -> None:
        wire.read_body(request)
        wire.send(response_text("bye"))
        wire.end()
        wire.at_end()
        closed.append(wire)

    target.script = script
    for number in range(1, 4):
        assert proxy.request("POST", "/idle", STREAMED, body=b"x").status == 200
        # Not before the proxy has closed its side too.
        wait_until("both sides closed", lambda number=number: len(closed) == number)


def test_a_request_is_repeated_once_and_no_more(stage: Stage) -> None:
    count = 0

    def script(wire: Wire, request: Request) -> None:
        nonlocal count
        count += 1
        if count == 1:
            wire.send(response_text("first"))
        else:
            wire.close()

    proxy = stage.app(stage.target(script))
    assert proxy.get().body == b"first"
    assert proxy.get().status == 502
    assert count == 3


# Targets that take their time.


def test_a_response_that_does_not_begin_in_time_is_504(proxy: Proxy, target: Target) -> None:
    cancelled = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        if wire.at_end():
            cancelled.set()

    target.script = script
    assert proxy.get("/late", HASTY).status == 504
    assert cancelled.wait(20)


def test_interim_responses_and_half_a_header_do_not_stop_the_clock(
    proxy: Proxy, target: Target
) -> None:
    def script(wire: Wire, request: Request) -> None:
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nX: ")
        wire.at_end()

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text(host=HASTY))
        assert wire.read_response().status == 504


def test_the_clock_starts_when_the_request_has_been_sent(proxy: Proxy, target: Target) -> None:
    """A slow upload is not the target's fault."""
    begun = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        begun.set()
        wire.send(response_text(wire.read_body(request)))

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text("POST", "/upload", HASTY, {"Content-Length": "8"}) + b"half")
        assert begun.wait(20)
        # Two other requests time out one after the other, so that the limit has passed for sure.
        target.script = lambda wire, request: wire.at_end()
        for _ in range(2):
            assert proxy.get("/late", HASTY).status == 504
        wire.send(b"half")
        assert wire.read_response().body == b"halfhalf"


def test_a_response_that_has_begun_is_never_cut_by_the_timeout(
    proxy: Proxy, target: Target
) -> None:
    go_on = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        if request.target != "/slow":
            wire.at_end()
            return
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        assert go_on.wait(20)
        wire.send("later")

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text(path="/slow", host=HASTY))
        wire.read_response_head()
        assert wire.read_exactly(5) == b"first"
        for _ in range(2):
            assert proxy.get("/late", HASTY).status == 504
        go_on.set()
        assert wire.read_exactly(5) == b"later"


@pytest.mark.slow
def test_a_target_that_does_not_answer_the_handshake_is_502(stage: Stage) -> None:
    """Its backlog is full: a connection takes 5 s to be given up."""
    target = stage.target()
    roles = {"app": {"hosts": ["127.0.0.1"]}}
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        address = silent.getsockname()
        roles["app"]["hosts"] = [f"127.0.0.1:{address[1]}"]
        # Its health is asked for elsewhere.
        config = stage.deploy(roles, x_kproxy={"healthcheck_port": target.port})
        proxy = stage.proxy(config)
        proxy.said("is healthy")
        fillers = []
        try:
            while True:
                filler = socket.socket()
                fillers.append(filler)
                filler.settimeout(0.5)
                filler.connect(address)
        except TimeoutError:
            pass
        assert proxy.get().status == 502
        for filler in fillers:
            filler.close()


def test_a_body_of_a_target_may_be_slow_and_large(proxy: Proxy, target: Target) -> None:
    target.script = raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * 3_000_000, close=True)
    assert len(proxy.get("/large", HASTY).body) == 3_000_000
    target.forget()
    assert seen_by(proxy.get("/", HASTY).body)["target"] == "/"
