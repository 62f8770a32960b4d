"""Connections that become something else: WebSocket, and any other protocol."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target
from tests.e2e.support.websocket import websocket_target
from tests.e2e.support.wire import Request, Wire, request_text, response_text

MIB = 1024 * 1024
ASK = {"Connection": "Upgrade", "Upgrade": "chat/1"}
AGREE = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n"


@pytest.fixture(scope="module")
def target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture(scope="module")
def websocket_port() -> Iterator[int]:
    def talk(socket: ServerConnection) -> None:
        if socket.request is not None and socket.request.path == "/headers":
            socket.send(json.dumps(list(socket.request.headers.raw_items())))
        with contextlib.suppress(ConnectionClosed):
            for message in socket:
                socket.send(message)

    with websocket_target(talk) as port:
        yield port


@pytest.fixture(scope="module")
def running(module_stage: Stage, target: Target, websocket_port: int) -> Proxy:
    roles = {
        "app": {"hosts": [target.address]},
        "ws": {"hosts": [f"127.0.0.1:{websocket_port}"]},
    }
    # Its health is that of the other: a websockets server has no /up.
    config = module_stage.deploy(
        roles, x_kproxy={"roles": {"ws": {"healthcheck_port": target.port}}}
    )
    return module_stage.proxy(config, healthy=("app.example",))


@pytest.fixture
def proxy(running: Proxy, target: Target) -> Proxy:
    target.forget()
    return running


def upgraded(proxy: Proxy) -> Wire:
    wire = proxy.connect()
    wire.send(request_text(path="/chat", headers=ASK))
    response = wire.read_response()
    assert response.status == 101
    assert response.get("upgrade") == "chat/1"
    assert (response.get("connection") or "").lower() == "upgrade"
    return wire


def websocket(proxy: Proxy, path: str = "/") -> object:
    return connect(
        f"ws://ws.example{path}",
        sock=proxy.connect().sock,
        max_size=None,
        compression=None,
        proxy=None,
        ping_interval=None,
    )


def test_a_websocket_carries_messages_both_ways_and_closes_in_order(proxy: Proxy) -> None:
    with websocket(proxy, "/talk?x=1") as socket:
        for message in ("hello", b"\x00\x01", "x" * 100_000, ""):
            socket.send(message)
            assert socket.recv(timeout=20) == message
        socket.close(code=4000, reason="enough")
        assert (socket.close_code, socket.close_reason) == (4000, "enough")
    entry = proxy.logged(path="/talk")
    assert (entry["status"], entry["service"], entry["query"]) == (101, "shop-ws", "x=1")
    assert entry["resp_content_length"] > 100_000


def test_a_websocket_server_hears_who_asks(proxy: Proxy) -> None:
    with websocket(proxy, "/headers") as socket:
        headers = {name.lower(): value for name, value in json.loads(socket.recv(timeout=20))}
    assert headers["host"] == "ws.example"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["upgrade"] == "websocket"


def test_messages_that_are_larger_than_all_buffers_go_through(proxy: Proxy) -> None:
    message = os.urandom(30 * MIB)
    with websocket(proxy) as socket:
        sender = threading.Thread(target=socket.send, args=(message,))
        sender.start()
        assert socket.recv(timeout=60) == message
        sender.join(20)


def test_any_other_protocol_is_tunnelled_byte_for_byte(proxy: Proxy, target: Target) -> None:
    def script(wire: Wire, request: Request) -> None:
        assert request.get("upgrade") == "chat/1"
        assert (request.get("connection") or "").lower() == "upgrade"
        # The first words come in one piece with the answer.
        wire.send(AGREE + "X-Kept: 1\r\n\r\nwelcome\r\n\r\n")
        while data := wire.read_some():
            wire.send(data[::-1])
        wire.close()

    target.script = script
    with upgraded(proxy) as wire:
        assert wire.read_exactly(11) == b"welcome\r\n\r\n"
        for data in (b"\0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256))):
            wire.send(data)
            assert wire.read_exactly(len(data)) == data[::-1]


def test_what_a_client_sends_before_the_answer_is_not_lost(proxy: Proxy, target: Target) -> None:
    def script(wire: Wire, request: Request) -> None:
        wire.send(AGREE + "\r\n")
        assert wire.read_exactly(5) == b"early"
        wire.send("heard")
        wire.close()

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text(headers=ASK) + b"early")
        assert wire.read_response().status == 101
        assert wire.read_to_end() == b"heard"


def test_a_side_that_has_said_all_can_still_listen(proxy: Proxy, target: Target) -> None:
    def script(wire: Wire, request: Request) -> None:
        wire.send(AGREE + "\r\n")
        said = wire.read_to_end()
        wire.send(b"you said " + said)
        wire.close()

    target.script = script
    with upgraded(proxy) as wire:
        wire.send(b"all of it")
        wire.end()
        assert wire.read_to_end() == b"you said all of it"


def test_a_target_that_has_said_all_can_still_listen(proxy: Proxy, target: Target) -> None:
    heard: list[bytes] = []
    done = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.send(AGREE + "\r\nbye")
        wire.end()
        heard.append(wire.read_to_end())
        done.set()
        wire.close()

    target.script = script
    with upgraded(proxy) as wire:
        assert wire.read_to_end() == b"bye"
        wire.send(b"and from me")
        wire.end()
        assert done.wait(20)
    assert heard == [b"and from me"]


@pytest.mark.parametrize("who", ["client", "target"])
def test_a_side_that_is_reset_takes_the_other_with_it(
    proxy: Proxy, target: Target, who: str
) -> None:
    ended = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.send(AGREE + "\r\nhi")
        if who == "target":
            wire.read_exactly(2)
            wire.reset()
        elif wire.at_end():
            ended.set()

    target.script = script
    wire = upgraded(proxy)
    assert wire.read_exactly(2) == b"hi"
    if who == "client":
        wire.reset()
        assert ended.wait(20)
    else:
        wire.send(b"ho")
        assert wire.at_end()
        wire.close()
    proxy.logged(path="/chat", status=101)


@pytest.mark.parametrize("slow", ["client", "target"])
def test_a_slow_side_slows_the_other_and_costs_no_memory(
    proxy: Proxy, target: Target, slow: str
) -> None:
    size = 100 * MIB
    piece = os.urandom(MIB)
    stalled, go_on, done = threading.Event(), threading.Event(), threading.Event()
    received: list[int] = []

    def send_all(wire: Wire) -> None:
        sent = wire.send_until_blocked(piece, size)
        assert sent < size
        stalled.set()
        while sent < size:
            sent += len(piece[: size - sent])
            wire.send(piece[: size - (sent - len(piece))] if sent > size else piece)
        wire.end()

    def read_all(wire: Wire) -> None:
        count = 0
        while data := wire.read_some():
            count += len(data)
        received.append(count)

    def script(wire: Wire, request: Request) -> None:
        wire.send(AGREE + "\r\n")
        if slow == "client":
            send_all(wire)
        else:
            assert go_on.wait(60)
            read_all(wire)
        done.set()
        wire.close()

    target.script = script
    memory = proxy.memory()
    with upgraded(proxy) as wire:
        if slow == "client":
            assert stalled.wait(60)
            read_all(wire)
        else:
            sender = threading.Thread(target=send_all, args=(wire,))
            sender.start()
            assert stalled.wait(60)
            go_on.set()
            sender.join(60)
        assert done.wait(60)
    assert received == [size]
    assert memory.growth() < 2 * MIB


def test_a_target_that_does_not_switch_answers_as_ever(proxy: Proxy, target: Target) -> None:
    target.script = lambda wire, request: wire.send(response_text("no", "426 Upgrade Required"))
    with proxy.connect() as wire:
        for _ in range(2):
            wire.send(request_text(headers=ASK))
            response = wire.read_response()
            assert (response.status, response.body) == (426, b"no")


def test_an_upgrade_that_connection_does_not_name_is_none(proxy: Proxy, target: Target) -> None:
    assert proxy.request(headers={"Upgrade": "chat/1"}).status == 200
    assert not target.requests[0].has("upgrade")


def test_a_tunnel_does_not_keep_the_proxy_from_ending(stage: Stage) -> None:
    def script(wire: Wire, request: Request) -> None:
        wire.send(AGREE + "\r\n")
        wire.at_end()

    target = stage.target(script)
    # Its patience is longer than the test's.
    config = stage.deploy({"app": {"hosts": [target.address]}}, drain_timeout=3600)
    proxy = stage.proxy(config, healthy=("app.example",))
    with upgraded(proxy) as wire:
        proxy.send_signal(15)
        assert wire.at_end()
    assert proxy.join() == 0
