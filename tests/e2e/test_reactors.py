"""kproxy on every kind of reactor: the one it picks, those that `-r` names, and without uvloop."""

from __future__ import annotations

import importlib.util
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

import kproxy
from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, seen_by
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Gone, Request, Wire, chunk, request_text, response_text
from tests.support.certificates import Authority

MIB = 1024 * 1024
PIECE = os.urandom(MIB)
NO_UVLOOP = "import sys\nsys.modules['uvloop'] = None\n"


class Kind(NamedTuple):
    """A way to start kproxy, and the reactor that its log has to name then."""

    twistd: tuple[str, ...]
    uvloop: bool
    reactor: str


KINDS = {
    "its own choice": Kind((), True, "AsyncioSelectorReactor"),
    "without uvloop": Kind((), False, "AsyncioSelectorReactor"),
    "-r asyncio": Kind(("-r", "asyncio"), True, "AsyncioSelectorReactor"),
    "-r epoll": Kind(("-r", "epoll"), True, "EPollReactor"),
    "-r poll": Kind(("-r", "poll"), True, "PollReactor"),
    "-r select": Kind(("-r", "select"), True, "SelectReactor"),
}


class Running(NamedTuple):
    proxy: Proxy
    target: Target
    kind: Kind


@pytest.fixture(scope="module", params=KINDS)
def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    kind = KINDS[request.param]
    if kind.reactor == "EPollReactor" and not hasattr(select, "epoll"):
        pytest.skip("this platform has no epoll")
    with Stage(tmp_path_factory.mktemp("reactor")) as stage:
        target = stage.target()
        off = {"requests": False, "responses": False}
        roles = {
            "app": {"hosts": [target.address]},
            "streamed": {"hosts": [target.address], "proxy": {"buffering": off}},
        }
        env = {}
        if not kind.uvloop:
            (stage.folder / "sitecustomize.py").write_text(NO_UVLOOP)
            env["PYTHONPATH"] = str(stage.folder)
        healthy = ("app.example", "streamed.example")
        proxy = stage.proxy(stage.deploy(roles), healthy=healthy, twistd=kind.twistd, **env)
        yield Running(proxy, target, kind)
        # The last test of each: it ends in order.
        held = threading.Event()
        target.forget()
        target.script = lambda wire, request: (
            held.wait(20),
            wire.send(response_text("finished")),
        )
        with proxy.connect() as idle, proxy.connect() as busy:
            busy.send(request_text())
            wait_until("the request is under way", lambda: target.requests)
            proxy.send_signal(15)
            assert idle.at_end()
            held.set()
            assert busy.read_response().body == b"finished"
        assert proxy.join() == 0


@pytest.fixture
def running(started: Running) -> Running:
    started.target.forget()
    return started


def test_the_reactor_is_the_one_that_was_asked_for(running: Running) -> None:
    assert running.kind.reactor in running.proxy.said("reactor class")
    maps = Path(f"/proc/{running.proxy.process.pid}/maps").read_text()
    wants_uvloop = running.kind.twistd == () and running.kind.uvloop
    if importlib.util.find_spec("uvloop"):
        assert ("uvloop" in maps) == wants_uvloop


@pytest.mark.parametrize("host", ["app.example", "streamed.example"])
def test_requests_and_large_bodies_pass_in_both_directions(running: Running, host: str) -> None:
    proxy, target, _ = running
    body = PIECE * 5
    with proxy.connect() as wire:
        wire.send(request_text("POST", "/up-and-down", host, body=body))
        seen = seen_by(wire.read_response().body)
        assert seen["sha256"] == sha256(body).hexdigest()
        wire.send(request_text("POST", "/", host, {"Transfer-Encoding": "chunked"}))
        wire.send(chunk(PIECE) + chunk(b"x") + b"0\r\n\r\n")
        assert seen_by(wire.read_response().body)["size"] == MIB + 1
        target.script = lambda wire, request: wire.send(response_text(body))
        wire.send(request_text(host=host))
        assert wire.read_response().body == body
    entry = proxy.logged(path="/up-and-down", host=host)
    assert (entry["status"], entry["client_addr"]) == (200, "127.0.0.1")


def test_a_slow_client_slows_the_target(running: Running) -> None:
    proxy, target, _ = running
    size = 100 * MIB
    stalled = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")
        sent = wire.send_until_blocked(PIECE, size)
        assert sent < size
        stalled.set()
        while sent < size:
            piece = PIECE[: size - sent]
            wire.send(piece)
            sent += len(piece)

    target.script = script
    memory = proxy.memory()
    with proxy.connect() as wire:
        wire.send(request_text(host="streamed.example"))
        assert stalled.wait(60)
        wire.read_response_head()
        assert len(wire.read_exactly(size)) == size
    assert memory.growth() < 4 * MIB


@pytest.mark.parametrize("host", ["app.example", "streamed.example"])
def test_large_bodies_that_come_at_the_same_time_do_not_mix(running: Running, host: str) -> None:
    proxy, target, _ = running
    sizes = (20_000, 100_000, 3_000_000)

    def body(number: int, size: int) -> bytes:
        return (b"%d." % number) * (size // 4)

    def script(wire: Wire, request: Request) -> None:
        number, size = map(int, request.target[1:].split("/"))
        wire.send(response_text(body(number, size)))

    target.script = script
    wrong: list[str] = []
    alone = threading.Event()

    def client(number: int) -> None:
        asked = [sizes[(number + turn) % len(sizes)] for turn in range(12)]
        texts = [request_text("GET", f"/{number}/{size}", host) for size in asked]
        with proxy.connect() as wire:
            if number % 2:  # this one is slow: it reads nothing while there are others
                wire.send(b"".join(texts))
                assert alone.wait(60)
            for text, size in zip(texts, asked, strict=True):
                if not number % 2:
                    wire.send(text)
                if wire.read_response().body != body(number, size):
                    wrong.append(f"{number}/{size}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads[::2]:
        thread.join(60)
    alone.set()
    for thread in threads[1::2]:
        thread.join(60)
    assert not wrong
    assert len(target.requests) == 8 * 12


def test_a_tunnel_may_follow_large_bodies_on_the_same_connection(running: Running) -> None:
    proxy, target, _ = running
    used: list[Wire] = []

    def script(wire: Wire, request: Request) -> None:
        used.append(wire)
        if not request.has("upgrade"):
            wire.send(response_text(PIECE))
            return
        wire.send("HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        wire.send(PIECE)
        wire.send(wire.read_to_end()[::-1])
        wire.close()

    target.script = script
    with proxy.connect() as wire:
        for _ in range(2):
            wire.send(request_text(host="streamed.example"))
            assert wire.read_response().body == PIECE
        wire.send(
            request_text(
                host="streamed.example", headers={"Connection": "Upgrade", "Upgrade": "chat"}
            )
        )
        assert wire.read_response().status == 101
        assert wire.read_exactly(MIB) == PIECE
        wire.send(PIECE)
        wire.end()
        assert wire.read_to_end() == PIECE[::-1]
    assert len(set(used)) == 1


def test_an_upgraded_connection_is_a_tunnel_that_can_be_half_closed(running: Running) -> None:
    proxy, target, _ = running

    def script(wire: Wire, request: Request) -> None:
        wire.send("HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhello")
        wire.send(wire.read_to_end()[::-1])
        wire.close()

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text(headers={"Connection": "Upgrade", "Upgrade": "chat"}))
        assert wire.read_response().status == 101
        assert wire.read_exactly(5) == b"hello"
        wire.send(PIECE)
        wire.end()
        assert wire.read_to_end() == PIECE[::-1]


def test_a_client_that_leaves_cancels_the_request(running: Running) -> None:
    proxy, target, _ = running
    arrived, cancelled = threading.Event(), threading.Event()

    def script(wire: Wire, request: Request) -> None:
        arrived.set()
        if wire.at_end():
            cancelled.set()

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text(path="/left"))
        assert arrived.wait(20)
    assert cancelled.wait(20)
    assert proxy.logged(path="/left")["status"] == 499


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_target_that_dies_in_mid_body_cuts_the_client(running: Running, version: str) -> None:
    proxy, target, _ = running
    go_on = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        assert go_on.wait(20)
        wire.close()

    target.script = script
    with proxy.connect() as wire:
        wire.send(f"GET / HTTP/{version}\r\nHost: streamed.example\r\n\r\n")
        head = wire.read_response_head()
        assert (wire.read_chunk() if version == "1.1" else wire.read_exactly(4)) == b"half"
        go_on.set()
        read = wire.read_chunk if head.has("transfer-encoding") else wire.read_to_end
        with pytest.raises((Gone, ConnectionResetError)):
            read()


def test_a_target_that_refuses_is_502_and_nonsense_is_400(running: Running) -> None:
    proxy, target, _ = running
    target.script = lambda wire, request: wire.reset()
    assert proxy.request("POST", body=b"x").status == 502
    assert proxy.refuse(b"nonsense\r\n\r\n" + PIECE).status == 400


def test_a_reload_works(running: Running) -> None:
    proxy, _, _ = running
    proxy.send_signal(1)
    proxy.said("the configuration was read again")
    assert proxy.get().status == 200


def test_a_command_that_leaves_without_its_answer_is_forgotten(running: Running) -> None:
    proxy = running.proxy

    def connections() -> int:
        return Path("/proc/net/unix").read_text().count(str(proxy.socket)) - 1

    assert connections() == 0
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(proxy.socket))
        sock.sendall(b"GET /services HTTP/1.1\r\nHost: kproxy\r\n\r\n")
        assert sock.recv(1, socket.MSG_PEEK) == b"H"
        with proxy.stopped():
            # What the proxy sees next is half a question, and that the connection has been reset.
            sock.sendall(b"GET /ser")
            sock.close()
    wait_until("the connection is closed", lambda: connections() == 0)


TWISTED_TLS = """
import sys
from kproxy.reactors import install_fastest_reactor

install_fastest_reactor()
from twisted.internet import protocol, reactor, ssl

PEM, DIRECTLY = sys.argv[1], sys.argv[2] == "directly"
with open(PEM) as file:
    server_context = ssl.PrivateCertificate.loadPEM(file.read()).options()
client_context = ssl.CertificateOptions()


class Server(protocol.Protocol):
    def connectionMade(self):
        if not DIRECTLY:
            self.transport.startTLS(server_context)

    def dataReceived(self, data):
        self.transport.write(data.upper())
        self.transport.loseConnection()


class Client(protocol.Protocol):
    def connectionMade(self):
        if not DIRECTLY:
            self.transport.startTLS(client_context)
        self.transport.write(b"hello")

    def dataReceived(self, data):
        print(data.decode(), self.transport.getPeerCertificate() is not None)

    def connectionLost(self, reason):
        reactor.stop()


reactor.callLater(20, reactor.stop)
server = protocol.Factory.forProtocol(Server)
client = protocol.ClientFactory.forProtocol(Client)
if DIRECTLY:
    port = reactor.listenSSL(0, server, server_context, interface="127.0.0.1").getHost().port
    reactor.connectSSL("127.0.0.1", port, client, client_context)
else:
    port = reactor.listenTCP(0, server, interface="127.0.0.1").getHost().port
    reactor.connectTCP("127.0.0.1", port, client)
reactor.run()
"""


@pytest.mark.parametrize("how", ["directly", "by startTLS"])
def test_a_wrapper_can_speak_twisteds_tls_on_the_reactor_that_kproxy_has_picked(
    tmp_path: Path, how: str
) -> None:
    pair = Authority().issue("a.example")
    (tmp_path / "server.pem").write_text(pair.key + pair.certificate)
    done = subprocess.run(
        [sys.executable, "-c", TWISTED_TLS, "server.pem", how],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(kproxy.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("HELLO True\n", "")
