"""HTTPS on real sockets, with real clients: curl, openssl, and Python's ssl."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection

from tests.e2e.support.https import client, https_proxy, secrets, trusted_file
from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, says, seen_by
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.websocket import websocket_target
from tests.e2e.support.wire import Request, Wire, request_text, response_text

MIB = 1024 * 1024
PIECE = os.urandom(MIB)
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
OFF = {"requests": False, "responses": False, "max_request_body": 0}


@pytest.fixture(scope="module")
def target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture(scope="module")
def websocket_port() -> Iterator[int]:
    def talk(socket: ServerConnection) -> None:
        for message in socket:
            socket.send(message)

    with websocket_target(talk) as port:
        yield port


@pytest.fixture(scope="module")
def running(module_stage: Stage, target: Target, websocket_port: int) -> Proxy:
    hosts = [target.address]
    roles = {
        "app": {"hosts": hosts, "proxy": {"ssl": True, "buffering": OFF}},
        "wild": {"hosts": hosts, "proxy": {"ssl": True, "host": "*.wild.example"}},
        "both": {"hosts": hosts, "proxy": {"ssl": True, "ssl_redirect": False}},
        "plain": {"hosts": hosts},
        "ws": {"hosts": [f"127.0.0.1:{websocket_port}"], "proxy": {"ssl": True}},
    }
    top = {"x_kproxy": {"roles": {"ws": {"healthcheck_port": target.port}}}}
    return https_proxy(module_stage, roles, top=top)


@pytest.fixture
def proxy(running: Proxy, target: Target) -> Proxy:
    target.forget()
    return running


def names_in(wire: Wire) -> list[str]:
    """Whom the certificate is for that was shown."""
    assert isinstance(wire.sock, ssl.SSLSocket)
    certificate: Any = wire.sock.getpeercert()
    return [value for _, value in certificate["subjectAltName"]]


def ask(
    proxy: Proxy, path: str = "/", host: str = "app.example", name: str | None = None, **more: Any
) -> Any:
    """One request over HTTPS, on a connection of its own."""
    with proxy.connect_tls(client(), name or host) as wire:
        wire.send(request_text(path=path, host=host, **more))
        return wire.read_response()


# Who gets which certificate.


@pytest.mark.parametrize("version", [V12, V13])
def test_a_request_reaches_the_application_by_https(proxy: Proxy, version: ssl.TLSVersion) -> None:
    with proxy.connect_tls(client(version=version)) as wire:
        for path in ("/one", "/two"):
            wire.send(request_text(path=path))
            assert seen_by(wire.read_response().body)["target"] == path
        assert names_in(wire) == ["app.example"]


def test_a_wildcard_serves_one_label(proxy: Proxy) -> None:
    with proxy.connect_tls(client(), "any.wild.example") as wire:
        assert names_in(wire) == ["*.wild.example"]
        wire.send(request_text(host="any.wild.example"))
        assert wire.read_response().status == 200


def test_a_client_that_names_no_host_gets_the_first_certificate(proxy: Proxy) -> None:
    with proxy.connect_tls(client(check_host=False), None) as wire:
        assert names_in(wire) == ["app.example"]


@pytest.mark.parametrize("name", ["other.example", "a.b.wild.example", "plain.example"])
def test_an_unknown_name_gets_an_alert_and_no_certificate(proxy: Proxy, name: str) -> None:
    with pytest.raises(ssl.SSLError) as caught:
        proxy.connect_tls(client(), name)
    assert "UNRECOGNIZED_NAME" in str(caught.value.reason)


def openssl(proxy: Proxy, *options: str, said: bytes = b"") -> str:
    """What ``openssl s_client`` says when it connects."""
    address = f"127.0.0.1:{proxy.https_port}"
    done = subprocess.run(
        ["openssl", "s_client", "-connect", address, *options],
        input=said,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=20,
        check=False,
    )
    return done.stdout.decode("utf-8", "replace")


def test_openssl_sees_the_chain_the_protocol_and_no_renegotiation(
    proxy: Proxy, require_tool: Callable[[str], str], tmp_path: Path
) -> None:
    require_tool("openssl")
    root = str(trusted_file(tmp_path))
    options = ("-servername", "app.example", "-CAfile", root, "-verify_hostname", "app.example")
    said = openssl(proxy, *options, "-alpn", "h2,http/1.1")
    assert "Verify return code: 0 (ok)" in said
    assert "ALPN protocol: h2" in said
    assert "Compression: NONE" in said
    said = openssl(proxy, *options, "-alpn", "http/1.1", "-tls1_2")
    assert "ALPN protocol: http/1.1" in said
    assert "Secure Renegotiation IS supported" in said  # the fix of RFC 5746, not the feature
    assert "Cipher    : ECDHE-" in said


def test_renegotiation_is_refused(proxy: Proxy, require_tool: Callable[[str], str]) -> None:
    require_tool("openssl")
    said = openssl(proxy, "-servername", "app.example", "-tls1_2", said=b"R\n")
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(
    proxy: Proxy, require_tool: Callable[[str], str], version: str
) -> None:
    require_tool("openssl")
    said = openssl(proxy, "-servername", "app.example", version, "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in said


def test_a_client_with_no_cipher_in_common_is_told_so(
    proxy: Proxy, require_tool: Callable[[str], str]
) -> None:
    require_tool("openssl")
    said = openssl(proxy, "-servername", "app.example", "-tls1_2", "-cipher", "AES128-GCM-SHA256")
    assert "alert handshake failure" in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(
    ("curve", "agreed"),
    [
        ("X25519", "X25519"),
        ("P-256", "prime256v1"),
        ("P-384", "secp384r1"),
        ("P-224", "prime256v1"),
        ("secp256k1", "prime256v1"),
    ],
)
def test_keys_are_agreed_upon_by_modern_curves_alone(
    proxy: Proxy, require_tool: Callable[[str], str], version: str, curve: str, agreed: str
) -> None:
    require_tool("openssl")
    # In TLS 1.2, whoever does not know P-256 can't have a certificate with such a key either.
    curves = ":".join(dict.fromkeys((curve, "P-256")))
    said = openssl(proxy, "-servername", "app.example", "-groups", curves, version)
    assert re.search(rf"Temp Key: .*{agreed}", said), said


@pytest.mark.parametrize("version", [V12, V13])
def test_sessions_are_resumed(proxy: Proxy, version: ssl.TLSVersion) -> None:
    context = client(version=version)
    session = None
    for resumed in (False, True, True):
        with proxy.connect_tls(context, session=session) as wire:
            assert isinstance(wire.sock, ssl.SSLSocket)
            wire.send(request_text())
            assert wire.read_response().status == 200  # TLS 1.3 has sent its tickets by now
            assert wire.sock.session_reused == resumed
            session = wire.sock.session


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        (["h2", "http/1.1"], "h2"),
        (["http/1.1", "h2"], "h2"),
        (["http/1.1"], "http/1.1"),
        (["spdy/3", "http/1.1"], "http/1.1"),
        ([], None),
    ],
)
def test_the_protocol_is_agreed_upon(proxy: Proxy, offered: list[str], agreed: str) -> None:
    with proxy.connect_tls(client(alpn=offered)) as wire:
        assert isinstance(wire.sock, ssl.SSLSocket)
        assert wire.sock.selected_alpn_protocol() == agreed


@pytest.mark.parametrize("offered", ["spdy/3", "acme-tls/1"])
def test_a_client_that_offers_nothing_that_is_spoken_is_told_so(proxy: Proxy, offered: str) -> None:
    with pytest.raises(ssl.SSLError) as caught:
        proxy.connect_tls(client(alpn=[offered]))
    assert "no application protocol" in str(caught.value)


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_is_content(
    proxy: Proxy, require_tool: Callable[[str], str], tmp_path: Path, version: str
) -> None:
    curl = require_tool("curl")
    done = subprocess.run(
        [
            *(curl, "-sS", version, "--cacert", str(trusted_file(tmp_path))),
            *("--connect-to", f"::127.0.0.1:{proxy.https_port}", "-w", "%{stderr}%{http_version}"),
            "https://app.example/curl?x=1",
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    seen = seen_by(done.stdout.encode())
    assert seen["target"] == "/curl?x=1"
    assert seen["fields"]["x-forwarded-proto"] == "https"
    assert done.stderr == version.removeprefix("--http").replace("2", "2")


# What HTTPS changes about requests.


def test_the_application_is_told_that_it_is_https(proxy: Proxy) -> None:
    # What Django's SECURE_PROXY_SSL_HEADER goes by: nobody else can say it, nor unsay it.
    told = ask(proxy, headers={"X-Forwarded-Proto": "http", "X-Forwarded-For": "1.2.3.4"})
    fields = seen_by(told.body)["fields"]
    assert fields["x-forwarded-proto"] == "https"
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert fields["x-forwarded-host"] == "app.example"
    told = proxy.get(host="both.example", x_forwarded_proto="https")
    assert seen_by(told.body)["fields"]["x-forwarded-proto"] == "http"


def test_the_access_log_says_https(proxy: Proxy) -> None:
    assert ask(proxy, "/logged").status == 200
    line = proxy.logged(path="/logged")
    assert line["scheme"] == "https"
    assert line["proto"] == "HTTP/1.1"
    assert line["port"] == proxy.https_port
    assert line["client_addr"] == "127.0.0.1"


def test_plain_http_is_sent_to_https(proxy: Proxy, target: Target) -> None:
    with proxy.connect() as wire:
        wire.send(request_text(path="/a%20b?c=d", host="app.example:8080"))
        response = wire.read_response()
        assert wire.at_end()
    assert response.status == 301
    assert response.get("location") == "https://app.example/a%20b?c=d"
    assert response.get("connection") == "close"
    assert target.requests == []


def test_without_the_redirect_both_are_served(proxy: Proxy) -> None:
    assert proxy.get(host="both.example").status == 200
    assert ask(proxy, host="both.example").status == 200


def test_hsts_is_the_applications_business(proxy: Proxy, target: Target) -> None:
    hsts = "max-age=63072000; includeSubDomains"
    target.script = lambda wire, request: wire.send(
        response_text("x", Strict_Transport_Security=hsts)
    )
    assert ask(proxy).get("strict-transport-security") == hsts
    target.script = says("x")
    assert not ask(proxy).has("strict-transport-security")


def test_https_to_a_service_without_ssl_is_refused(proxy: Proxy, target: Target) -> None:
    response = ask(proxy, host="plain.example", name="app.example")
    assert response.status == 503
    assert target.requests == []
    assert proxy.get(host="plain.example").status == 200


def test_plain_http_on_the_port_for_https_gets_a_readable_answer(proxy: Proxy) -> None:
    with Wire(proxy.connect_raw_tls()) as wire:
        wire.send(request_text("POST", path="/upload", body=bytes(100_000)))
        response = wire.read_response()
        assert wire.at_end()
    assert response.status == 400
    assert "This port speaks HTTPS" in response.text


# Clients that are slow, odd, or many.


class Manual:
    """A TLS client whose bytes the test carries."""

    def __init__(self, name: str = "app.example") -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client().wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.hello = self.outgoing.read()


def test_a_hello_in_many_small_pieces_is_as_good_as_any(proxy: Proxy) -> None:
    manual = Manual()
    with Wire(proxy.connect_raw_tls()) as wire:
        for at in range(0, len(manual.hello), 7):
            wire.send(manual.hello[at : at + 7])
        while True:
            try:
                manual.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                wire.send(manual.outgoing.read())
                manual.incoming.write(wire.read_some())
        wire.send(manual.outgoing.read())
        manual.tls.write(request_text())
        wire.send(manual.outgoing.read())
        got = b""
        while b"sha256" not in got:
            manual.incoming.write(wire.read_some())
            try:
                got += manual.tls.read(65536)
            except ssl.SSLWantReadError:
                continue


def test_noise_gets_an_alert_and_the_end(proxy: Proxy) -> None:
    for noise in (b"\x00" * 100, b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", b"hello\r\n"):
        with Wire(proxy.connect_raw_tls()) as wire:
            wire.send(noise)
            assert wire.read_to_end()[:1] == b"\x15"
    assert ask(proxy).status == 200


def test_a_thousand_clients_that_never_finish_their_handshake_hold_up_nobody(
    proxy: Proxy,
) -> None:
    hello = Manual().hello
    wires = []
    try:
        for number in range(1000):
            wire = Wire(proxy.connect_raw_tls())
            # Some say nothing, some a part, and some all but the end.
            wire.send((b"", hello[:1], hello[:200], hello[:-1], hello)[number % 5])
            wires.append(wire)
        assert ask(proxy).status == 200
        assert proxy.get(host="plain.example").status == 200
        # After ten seconds all of them are gone.
        for wire in wires:
            while True:
                try:
                    if not wire.read_some():
                        break
                except ConnectionError:
                    break
    finally:
        for wire in wires:
            wire.close()
    assert ask(proxy).status == 200


# Bodies.


def upload(wire: Wire, mebibytes: int) -> None:
    wire.send(f"POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: {mebibytes * MIB}\r\n\r\n")
    for _ in range(mebibytes):
        wire.send(PIECE)


def digest(mebibytes: int) -> str:
    whole = sha256()
    for _ in range(mebibytes):
        whole.update(PIECE)
    return whole.hexdigest()


def hash_body(wire: Wire, request: Request) -> None:
    """Answer with the hash of the body, which is not kept."""
    whole, left = sha256(), int(request.get("content-length") or 0)
    while left:
        data = wire.read_exactly(min(left, MIB))
        whole.update(data)
        left -= len(data)
    wire.send(response_text(whole.hexdigest()))


def send_pieces(mebibytes: int) -> Any:
    def script(wire: Wire, request: Request) -> None:
        wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: {mebibytes * MIB}\r\n\r\n")
        for _ in range(mebibytes):
            wire.send(PIECE)

    return script


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_large_bodies_stream_both_ways_and_memory_stays_bounded(
    proxy: Proxy, target: Target
) -> None:
    size = 100

    def both(mebibytes: int) -> None:
        target.script = hash_body
        with proxy.connect_tls(client()) as wire:
            upload(wire, mebibytes)
            assert wire.read_response().text == digest(mebibytes)
        target.script = send_pieces(mebibytes)
        with proxy.connect_tls(client()) as wire:
            wire.send(request_text())
            head = wire.read_response_head()
            whole, left = sha256(), int(head.get("content-length") or 0)
            while left:
                data = wire.read_exactly(min(left, 65536))
                whole.update(data)
                left -= len(data)
            assert whole.hexdigest() == digest(mebibytes)

    both(4)  # what is measured is not what the process keeps ready
    memory = proxy.memory()
    both(size)
    assert memory.growth() < 4 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_client_that_does_not_read_holds_up_the_application_and_not_the_memory(
    proxy: Proxy, target: Target
) -> None:
    stalled = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: {100 * MIB}\r\n\r\n")
        sent = wire.send_until_blocked(PIECE, 100 * MIB)
        stalled.set()
        while sent < 100 * MIB:
            piece = PIECE[sent % MIB :]
            wire.send(piece)
            sent += len(piece)

    target.script = script
    memory = proxy.memory()
    with proxy.connect_tls(client()) as wire:
        wire.send(request_text())
        assert stalled.wait(20)
        assert memory.growth() < 4 * MIB
        assert sha256(wire.read_response().body).hexdigest() == digest(100)


def test_files_of_held_bodies_are_encrypted_like_all_the_rest(proxy: Proxy, target: Target) -> None:
    # A buffered response is kept in a file, which plain HTTP lets the kernel send as it is.
    target.script = send_pieces(20)
    with proxy.connect_tls(client(), "both.example") as wire:
        wire.send(request_text(host="both.example"))
        assert sha256(wire.read_response().body).hexdigest() == digest(20)


def test_an_answer_before_the_end_of_an_upload_is_readable(
    module_stage: Stage, target: Target, tmp_path: Path
) -> None:
    with Stage(tmp_path) as stage:
        hosts = [stage.target(says("x")).address]
        limited = {"ssl": True, "buffering": {"max_request_body": 1000, "requests": False}}
        proxy = https_proxy(stage, {"app": {"hosts": hosts, "proxy": limited}})
        with proxy.connect_tls(client()) as wire:
            wire.send(request_text(headers={"Content-Length": str(50 * MIB)}))
            sent = 0
            try:
                while sent < 10 * MIB:
                    wire.send(PIECE)
                    sent += MIB
            except OSError:
                pass  # it does not have to take all of it
            response = wire.read_response()
        assert response.status == 413
        assert response.get("connection") == "close"


# Upgrades.


def test_websockets_work_over_tls(proxy: Proxy) -> None:
    sock = proxy.connect_raw_tls()
    with connect("wss://ws.example/", sock=sock, ssl=client(), max_size=None) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
        for _ in range(5):
            websocket.send(PIECE)
            assert websocket.recv() == PIECE


ASK = {"Connection": "Upgrade", "Upgrade": "chat/1"}
AGREE = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n"


def test_an_upgraded_connection_carries_bytes_both_ways_and_ends_with_the_client(
    proxy: Proxy, target: Target
) -> None:
    heard: list[bytes] = []

    def script(wire: Wire, request: Request) -> None:
        wire.send(AGREE)
        wire.send(b"early")
        heard.append(wire.read_exactly(5 * MIB))
        wire.send(PIECE * 5)
        heard.append(wire.read_to_end())

    target.script = script
    with proxy.connect_tls(client()) as wire:
        wire.send(request_text(path="/tunnel", headers=ASK))
        assert wire.read_response().status == 101
        assert wire.read_exactly(5) == b"early"
        wire.send(PIECE * 5)
        assert wire.read_exactly(5 * MIB) == PIECE * 5
        wire.send(b"last words")
        assert isinstance(wire.sock, ssl.SSLSocket)
        wire.sock.unwrap()
    wait_until("the target has heard the end", lambda: len(heard) == 2)
    assert heard == [PIECE * 5, b"last words"]
    line = proxy.logged(path="/tunnel")
    assert line["status"] == 101


def test_an_upgraded_connection_ends_with_the_application_and_nothing_is_lost(
    proxy: Proxy, target: Target
) -> None:
    def script(wire: Wire, request: Request) -> None:
        wire.send(AGREE)
        wire.send(PIECE)
        wire.close()

    target.script = script
    with proxy.connect_tls(client()) as wire:
        wire.send(request_text(headers=ASK))
        assert wire.read_response().status == 101
        assert wire.read_to_end() == PIECE  # an end without TLS's goodbye would raise


# The end.


def test_idle_connections_hear_a_goodbye_when_the_proxy_stops_and_do_not_hold_it_up(
    stage: Stage,
) -> None:
    hosts = [stage.target(says("x")).address]
    proxy = https_proxy(stage, {"app": {"hosts": hosts, "proxy": {"ssl": True}}})
    with proxy.connect_tls(client()) as idle, Wire(proxy.connect_raw_tls()) as mute:
        idle.send(request_text())
        assert idle.read_response().status == 200
        assert proxy.stop() == 0  # within its patience, of which a drain would take more
        assert idle.read_to_end() == b""
        assert mute.at_end()


def test_a_request_that_is_under_way_when_the_proxy_stops_is_answered(stage: Stage) -> None:
    held = threading.Event()
    target = stage.target()
    proxy = https_proxy(stage, {"app": {"hosts": [target.address], "proxy": {"ssl": True}}})

    def script(wire: Wire, request: Request) -> None:
        held.wait(20)
        wire.send(response_text("finished"))

    target.script = script
    with proxy.connect_tls(client()) as wire:
        wire.send(request_text())
        wait_until("the request is under way", lambda: target.requests)
        proxy.send_signal(15)
        proxy.said("stopping")
        held.set()
        assert wire.read_response().text == "finished"
        assert wire.read_to_end() == b""
    assert proxy.join() == 0


# How it listens.


def test_clients_in_their_handshake_count_as_connections(stage: Stage) -> None:
    hosts = [stage.target(says("x")).address]
    proxy = https_proxy(stage, {"app": {"hosts": hosts, "proxy": {"ssl": True}}}, descriptors=200)
    mute = [Wire(proxy.connect_raw_tls()) for _ in range(100)]
    proxy.said("68 connections are open")
    for wire in mute:
        wire.close()
    assert ask(proxy).status == 200


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else has."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_a_port_for_https_that_was_asked_for_has_to_be_there(stage: Stage, taken: int) -> None:
    config = stage.deploy({"app": {"hosts": [stage.target().address]}})
    proxy = stage.start(config, KPROXY_HTTPS_PORT=str(taken), port=0, options=["--http-port=0"])
    assert proxy.join() == 1
    assert f"can't listen on 127.0.0.1 port {taken}" in proxy.output


def test_a_port_for_https_that_a_service_needs_has_to_be_there(stage: Stage, taken: int) -> None:
    ssl_names = secrets(stage.folder, "app.example")
    role = {"hosts": [stage.target().address], "proxy": {"ssl": ssl_names}}
    config = stage.deploy({"app": role}, proxy={"run": {"https_port": taken}})
    proxy = stage.start(config, KPROXY_HTTPS_PORT="")
    assert proxy.join() == 1
    assert f"can't listen on 127.0.0.1 port {taken}" in proxy.output


def test_https_can_be_turned_off_and_who_needs_it_is_named(stage: Stage) -> None:
    target = stage.target(says("x"))
    ssl_names = secrets(stage.folder, "app.example")
    config = stage.deploy(
        {
            "app": {"hosts": [target.address], "proxy": {"ssl": ssl_names}},
            "plain": {"hosts": [target.address]},
        }
    )
    proxy = stage.proxy(config, healthy=("plain.example",), KPROXY_HTTPS_PORT="0")
    assert proxy.get(host="plain.example").text == "x"
    assert "(HTTPS)" not in proxy.output
    proxy.said("shop-app can't be reached by HTTPS: it is turned off")
    command = ("deploy", "more", "--target", target.address, "--host=more.example", "--tls")
    done = proxy.command(*command)
    assert done.returncode == 0
    assert "Warning: more can't be reached by HTTPS: it is turned off" in done.stderr.splitlines()


@pytest.mark.parametrize("kind", ["-r epoll", "-r select", "without uvloop"])
def test_https_works_on_every_kind_of_reactor(stage: Stage, kind: str) -> None:
    target = stage.target()
    more: dict[str, Any] = {}
    if kind == "without uvloop":
        (stage.folder / "sitecustomize.py").write_text("import sys\nsys.modules['uvloop'] = None\n")
        more["PYTHONPATH"] = str(stage.folder)
    else:
        more["twistd"] = kind.split()
    service = {"hosts": [target.address], "proxy": {"ssl": True, "buffering": OFF}}
    proxy = https_proxy(stage, {"app": service}, **more)
    assert seen_by(ask(proxy).body)["fields"]["x-forwarded-proto"] == "https"
    target.script = hash_body
    with proxy.connect_tls(client()) as wire:
        upload(wire, 20)
        assert wire.read_response().text == digest(20)
    target.script = send_pieces(20)
    with proxy.connect_tls(client()) as wire:
        wire.send(request_text(headers={"Connection": "close"}))
        assert sha256(wire.read_response().body).hexdigest() == digest(20)
        assert wire.read_to_end() == b""
    with pytest.raises(ssl.SSLError):
        proxy.connect_tls(client(), "other.example")
    with Wire(proxy.connect_raw_tls()) as mute:
        assert proxy.stop() == 0
        assert mute.at_end()
