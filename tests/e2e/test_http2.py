"""HTTP/2 over TLS, with real clients and a real proxy (issue: TLS, section 2)."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from h2.errors import ErrorCodes

from tests.e2e.support.http2 import HTTP2Client, tls_socket
from tests.e2e.support.proxy import Proxy, run
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, echo, seen_by
from tests.e2e.support.waiting import PATIENCE, wait_until
from tests.e2e.support.wire import Request, Wire, chunk, response_text
from tests.support.certificates import Authority

CA = Authority()
HOST = "app.example"
STREAMED = "streamed.example"
MIB = 1024 * 1024
PIECE = os.urandom(MIB)
SLACK = 4 * MIB
"""Most that the memory of the process may grow by, whatever the size of a body."""

ToolFinder = Callable[[str], str]


def start(stage: Stage, target: Target) -> Proxy:
    (stage.folder / ".kamal").mkdir(exist_ok=True)
    pair = CA.issue(HOST, STREAMED)
    (stage.folder / ".kamal" / "secrets").write_text(
        f'CERTIFICATE="{pair.chain}"\nKEY="{pair.key}"\n'
    )
    ssl = {"certificate_pem": "CERTIFICATE", "private_key_pem": "KEY"}
    off = {"requests": False, "responses": False, "max_request_body": 0}
    streamed = {"ssl": ssl, "host": STREAMED, "buffering": off}
    config = stage.deploy(
        {
            "app": {"hosts": [target.address], "proxy": {"ssl": ssl}},
            "streamed": {"hosts": [target.address], "proxy": streamed},
        }
    )
    proxy = stage.proxy(config, https=True)

    def healthy(host: str) -> bool:
        try:
            with client(proxy, host) as one:
                return one.get("/up").status == 200
        except OSError:
            assert not proxy.ended(), proxy.output
            return False

    for host in (HOST, STREAMED):
        wait_until(f"{host} is served", lambda host=host: healthy(host))
    return proxy


@pytest.fixture(scope="module")
def target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture(scope="module")
def running(module_stage: Stage, target: Target) -> Proxy:
    return start(module_stage, target)


@pytest.fixture
def proxy(running: Proxy, target: Target) -> Proxy:
    target.forget()
    return running


def client(proxy: Proxy, host: str = HOST, *, reading: bool = True) -> HTTP2Client:
    sock = tls_socket(proxy.address, proxy.https_port, host, CA.root)
    return HTTP2Client(sock, host, reading=reading)


@pytest.fixture
def curl(
    require_tool: ToolFinder, tmp_path: Path, proxy: Proxy
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """curl, which trusts the CA and finds the proxy under the names of its services."""
    return curl_for(require_tool("curl"), tmp_path, proxy)


def curl_for(
    curl: str, folder: Path, proxy: Proxy
) -> Callable[..., subprocess.CompletedProcess[str]]:
    root = folder / "root.pem"
    root.write_text(CA.root)

    def call(path: str, *arguments: str, host: str = HOST) -> subprocess.CompletedProcess[str]:
        return run(
            [
                curl,
                "-sS",
                "--http2",
                "--max-time",
                "30",
                "--cacert",
                str(root),
                "--resolve",
                f"{host}:{proxy.https_port}:{proxy.address}",
                *arguments,
                f"https://{host}:{proxy.https_port}{path}",
            ],
            cwd=folder,
        )

    return call


# Real clients.


def test_curl_speaks_http2_and_the_target_sees_an_ordinary_request(
    proxy: Proxy, curl: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    got = curl("/page?x=1", "-w", "\n%{http_version} %{http_code}", "-H", "Cookie: a=1; b=2")
    body, _, last = got.stdout.rpartition("\n")
    assert last == "2 200", got
    seen = seen_by(body.encode())
    assert seen["target"] == "/page?x=1"
    assert seen["version"] == "HTTP/1.1"
    assert seen["fields"]["host"] == f"{HOST}:{proxy.https_port}"
    assert seen["fields"]["x-forwarded-proto"] == "https"
    assert seen["fields"]["cookie"] == "a=1; b=2"
    entry = proxy.logged(path="/page")
    assert (entry["proto"], entry["scheme"], entry["status"]) == ("HTTP/2.0", "https", 200)


def test_curl_uploads(
    tmp_path: Path,
    target: Target,
    proxy: Proxy,
    curl: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    file = tmp_path / "upload"
    file.write_bytes(PIECE * 5)
    for host in (HOST, STREAMED):
        got = curl("/", "-T", str(file), host=host)
        assert seen_by(got.stdout.encode())["sha256"] == hashlib.sha256(PIECE * 5).hexdigest(), got


def test_curl_asks_for_heads_and_hears_early_hints(
    target: Target, proxy: Proxy, curl: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    def script(wire: Wire, request: Request) -> None:
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nX-Mine: 1\r\n\r\n")

    target.script = script
    got = curl("/", "-I", host=STREAMED)
    assert got.returncode == 0, got
    assert "HTTP/2 103" in got.stdout
    assert "link: </a.css>" in got.stdout
    assert "content-length: 12345" in got.stdout


def test_h2load_asks_a_thousand_times_and_nothing_fails(
    require_tool: ToolFinder, target: Target, proxy: Proxy
) -> None:
    target.script = lambda wire, request: wire.send(response_text("hello"))
    command = [require_tool("h2load"), "-n", "1000", "-c", "4", "-m", "50"]
    command += ["--connect-to", f"{proxy.address}:{proxy.https_port}"]
    got = run([*command, f"https://{HOST}/"])
    assert "1000 succeeded, 0 failed" in got.stdout, got
    assert re.search(r"status codes: 1000 2xx", got.stdout), got


# Many streams.


def test_streams_are_answered_in_the_order_in_which_their_answers_come(
    target: Target, proxy: Proxy
) -> None:
    go_on = [threading.Event() for _ in range(20)]

    def script(wire: Wire, request: Request) -> None:
        index = int(request.target.removeprefix("/"))
        assert go_on[index].wait(PATIENCE)
        wire.send(response_text(f"this is {index}"))

    target.script = script
    with client(proxy, STREAMED) as one:
        streams = [one.request(path=f"/{index}") for index in range(20)]
        wait_until("the target has all", lambda: len(target.requests) == 20)
        for index in reversed(range(20)):
            go_on[index].set()
            assert one.answer(streams[index]).body == b"this is %d" % index


def test_a_large_download_does_not_hold_up_small_ones(target: Target, proxy: Proxy) -> None:
    def script(wire: Wire, request: Request) -> None:
        if request.target == "/large":
            wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: {100 * MIB}\r\n\r\n")
            for _ in range(100):
                wire.send(PIECE)
        else:
            wire.send(response_text("small"))

    target.script = script
    with client(proxy, STREAMED) as one:
        large = one.request(path="/large")
        one.until(lambda: one.answers[large].taken > MIB)
        for _ in range(10):
            assert one.get("/small").body == b"small"
        assert not one.answers[large].over
        assert one.answer(large).taken == 100 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_large_upload_to_a_slow_target_is_not_held_in_memory(
    target: Target, proxy: Proxy
) -> None:
    go_on = threading.Event()
    size = 100 * MIB

    def script(wire: Wire, request: Request) -> None:
        assert go_on.wait(PATIENCE)
        whole = hashlib.sha256()
        left = size
        while left:
            data = wire.read_some(min(left, MIB))
            assert data, "closed too early"
            whole.update(data)
            left -= len(data)
        wire.send(response_text(whole.hexdigest()))

    target.script = script
    with client(proxy, STREAMED) as warm:
        assert warm.get("/up").status == 200
    memory = proxy.memory()
    with client(proxy, STREAMED) as one:
        stream = one.request("POST", headers=[("content-length", str(size))], end=False)
        sent = one.send_while_there_is_room(stream, PIECE)
        assert sent < size
        go_on.set()
        one.send(stream, PIECE[sent:])
        for _ in range(99):
            one.send(stream, PIECE)
        one.h2.end_stream(stream)
        one.flush()
        expected = hashlib.sha256()
        for _ in range(100):
            expected.update(PIECE)
        assert one.answer(stream).body.decode() == expected.hexdigest()
    assert memory.growth() < SLACK


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_downloads_that_a_client_does_not_take_are_not_held_in_memory(
    target: Target, proxy: Proxy
) -> None:
    count = 100
    go_on = threading.Event()
    stalled = threading.Semaphore(0)

    def script(wire: Wire, request: Request) -> None:
        if request.target == "/up":
            wire.send(response_text("up"))
            return
        size = 100 * MIB
        wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")
        assert go_on.wait(PATIENCE)
        assert wire.send_until_blocked(PIECE, size) < size
        stalled.release()
        while wire.more():
            pass

    target.script = script
    memory = proxy.memory()
    with client(proxy, STREAMED, reading=False) as one:
        streams = [one.request() for _ in range(count)]
        one.until(lambda: all(one.answers[stream].status for stream in streams))
        go_on.set()
        for _ in range(count):
            assert stalled.acquire(timeout=PATIENCE), "the target was not slowed"
        with client(proxy, STREAMED) as other:
            assert other.get("/up").status == 200
    # 1 MiB for all streams together, and what each takes to be there at all.
    assert memory.growth() < 8 * MIB


def test_a_body_without_a_length_and_trailers_go_both_ways(target: Target, proxy: Proxy) -> None:
    def script(wire: Wire, request: Request) -> None:
        body, trailers = wire.read_chunked()
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(chunk(body))
        wire.send("0\r\n" + "".join(f"{n}: {v}\r\n" for n, v in trailers) + "\r\n")

    target.script = script
    with client(proxy, STREAMED) as one:
        stream = one.request("POST", end=False)
        one.send(stream, b"hello")
        one.h2.send_headers(stream, [("x-checksum", "abc")], end_stream=True)
        one.flush()
        answer = one.answer(stream)
    assert answer.body == b"hello"
    assert answer.trailers == {"x-checksum": "abc"}


# Ends.


def test_a_request_that_is_taken_back_ends_at_the_target_and_is_logged_with_499(
    target: Target, proxy: Proxy
) -> None:
    left = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        assert not wire.more()
        left.set()

    target.script = script
    with client(proxy, STREAMED) as one:
        stream = one.request(path="/never")
        wait_until("the target has it", lambda: target.requests)
        one.h2.reset_stream(stream, ErrorCodes.CANCEL)
        one.flush()
        assert left.wait(PATIENCE)
        assert proxy.logged(path="/never")["status"] == 499
        target.script = echo
        assert one.get("/next").status == 200


def test_half_an_answer_is_not_taken_for_a_whole_one(target: Target, proxy: Proxy) -> None:
    def script(wire: Wire, request: Request) -> None:
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + "5\r\nhello\r\n")
        wire.reset()

    target.script = script
    with client(proxy, STREAMED) as one:
        answer = one.answer(one.request())
        assert answer.body == b"hello"
        assert not answer.ended
        assert answer.reset is not None
        target.script = echo
        assert one.get().status == 200


def test_a_proxy_that_stops_lets_requests_end(
    require_tool: ToolFinder, stage: Stage, tmp_path: Path
) -> None:
    target = stage.target()
    proxy = start(stage, target)
    go_on = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        assert go_on.wait(PATIENCE)
        wire.send(response_text("at last"))

    target.forget()
    target.script = script
    call = curl_for(require_tool("curl"), tmp_path, proxy)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(call("/", "-w", "%{http_version}")))
    with client(proxy) as idle:
        asking.start()
        wait_until("the target has it", lambda: target.requests)
        assert idle.get("/up").status == 200
        proxy.send_signal(signal.SIGTERM)
        first, last = idle.last_words()
        assert first.last_stream_id == 2**31 - 1
        assert last.last_stream_id == 1
        go_on.set()
        asking.join(PATIENCE)
        assert answers[0].stdout == "at last2", answers
    assert proxy.join() == 0


# WebSocket.


def websocket_echo(wire: Wire, request: Request) -> None:
    """A target that accepts a WebSocket, and sends back what comes."""
    if (request.get("upgrade") or "").lower() != "websocket":
        echo(wire, request)
        return
    key = request.get("sec-websocket-key") or ""
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    wire.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n\r\n"
    )
    while True:
        data = wire.read_some()
        if not data:
            break
        wire.send(data)
    wire.close()


def test_a_websocket_carries_data_both_ways_beside_requests(target: Target, proxy: Proxy) -> None:
    target.script = websocket_echo
    with client(proxy) as one:
        stream = one.request(
            "CONNECT",
            "/chat",
            [("sec-websocket-version", "13"), ("origin", f"https://{HOST}")],
            protocol="websocket",
            end=False,
        )
        one.until(lambda: one.answers[stream].status)
        assert one.answers[stream].status == 200
        for _ in range(20):
            one.send(stream, PIECE)
        assert one.get("/beside").status == 200
        one.until(lambda: one.answers[stream].taken == 20 * MIB)
        one.h2.end_stream(stream)
        one.flush()
        assert one.answer(stream).reset is None
    entry = proxy.logged(path="/chat")
    assert (entry["status"], entry["proto"]) == (101, "HTTP/2.0")
    assert entry["resp_content_length"] == 20 * MIB
    (request,) = [r for r in target.requests if r.target == "/chat"]
    assert request.method == "GET"
    assert request.get("x-forwarded-proto") == "https"
