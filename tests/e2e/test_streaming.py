"""HTTP/1.1 between client and target as both may speak it (issue: the HTTP engine)."""

from __future__ import annotations

import http.client
import subprocess
import threading
from collections.abc import Callable
from hashlib import sha256

import pytest

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, raw, seen_by
from tests.e2e.support.wire import Request, Wire, chunk, request_text, response_text

BUFFERED, STREAMED = "buffered.example", "streamed.example"
both = pytest.mark.parametrize("host", [BUFFERED, STREAMED])


@pytest.fixture(scope="module")
def target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture(scope="module")
def running(module_stage: Stage, target: Target) -> Proxy:
    off = {"requests": False, "responses": False}
    roles = {
        "buffered": {"hosts": [target.address]},
        "streamed": {"hosts": [target.address], "proxy": {"buffering": off}},
    }
    return module_stage.proxy(module_stage.deploy(roles), healthy=(BUFFERED, STREAMED))


@pytest.fixture
def proxy(running: Proxy, target: Target) -> Proxy:
    target.forget()
    return running


# Responses.


def test_server_sent_events_arrive_one_by_one_though_responses_are_buffered(
    proxy: Proxy, target: Target
) -> None:
    go_on = threading.Semaphore(0)

    def script(wire: Wire, request: Request) -> None:
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n")
        wire.send("Transfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            wire.send(chunk(b"data: %d\n\n" % number))
            assert go_on.acquire(timeout=20)
        wire.send(b"0\r\n\r\n")

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text(host=BUFFERED, headers={"Accept": "text/event-stream"}))
        assert wire.read_response_head().get("content-type") == "text/event-stream; charset=utf-8"
        for number in range(3):
            # The next event is not made before this one has arrived.
            assert wire.read_chunk() == b"data: %d\n\n" % number
            go_on.release()
        assert wire.read_chunk() == b""


def test_a_streamed_response_arrives_while_it_is_made(proxy: Proxy, target: Target) -> None:
    go_on = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        assert go_on.wait(20)
        wire.send("later")

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text(host=STREAMED))
        wire.read_response_head()
        assert wire.read_exactly(5) == b"first"
        go_on.set()
        assert wire.read_exactly(5) == b"later"


def test_a_buffered_response_arrives_whole_with_its_length(proxy: Proxy, target: Target) -> None:
    target.script = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunk(b"ab")
        + chunk(b"c")
        + b"0\r\n\r\n"
    )
    response = proxy.get(host=BUFFERED)
    assert (response.body, response.get("content-length")) == (b"abc", "3")
    assert not response.has("transfer-encoding")


@both
def test_trailers_of_a_chunked_response_are_passed_on(
    proxy: Proxy, target: Target, host: str
) -> None:
    target.script = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"
    )
    response = proxy.get(host=host)
    assert response.body == b"abc"
    assert response.trailers == [("X-Sum", "6")]


@both
def test_early_hints_are_passed_on_before_the_response(
    proxy: Proxy, target: Target, host: str
) -> None:
    go_on = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
        assert go_on.wait(20)
        wire.send(response_text("done"))

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text(host=host))
        hints = wire.read_until(b"\r\n\r\n")
        assert hints.startswith(b"HTTP/1.1 103 ")
        assert b"\r\nLink: </a.css>; rel=preload\r\n" in hints
        go_on.set()
        assert wire.read_response().body == b"done"


def test_a_client_of_http_1_0_gets_no_interim_response(proxy: Proxy, target: Target) -> None:
    target.script = raw(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + response_text("done"))
    with proxy.connect() as wire:
        wire.send(f"GET / HTTP/1.0\r\nHost: {STREAMED}\r\n\r\n")
        response = wire.read_response()
    assert (response.status, response.body, response.interim) == (200, b"done", [])


@both
@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n'),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
        ("DELETE", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
    ids=["head", "head-chunked", "204", "304", "304-length", "empty"],
)
def test_answers_without_a_body_leave_both_connections_usable(
    proxy: Proxy, target: Target, host: str, method: str, answer: bytes
) -> None:
    target.script = raw(answer)
    with proxy.connect() as wire:
        for _ in range(2):
            wire.send(request_text(method, host=host))
            response = wire.read_response(method)
            assert response.first == answer.split(b"\r\n")[0].decode()
            if b"1000" in answer:
                assert response.get("content-length") == "1000"
            assert response.body == b""
    assert target.connections == 1


@both
def test_a_response_that_ends_with_its_connection_is_whole_for_the_client(
    proxy: Proxy, target: Target, host: str
) -> None:
    target.script = raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, close=True)
    with proxy.connect() as wire:
        for _ in range(2):
            wire.send(request_text(host=host))
            assert wire.read_response().body == b"x" * 100_000


@both
def test_a_target_of_http_1_0_is_understood(proxy: Proxy, target: Target, host: str) -> None:
    target.script = raw(b"HTTP/1.0 200 Fine\r\n\r\nold", close=True)
    response = proxy.get(host=host)
    assert (response.first, response.body) == ("HTTP/1.1 200 Fine", b"old")


@both
def test_a_client_of_http_1_0_gets_a_body_that_ends_with_its_connection(
    proxy: Proxy, target: Target, host: str
) -> None:
    target.script = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"abc") + b"0\r\n\r\n"
    )
    with proxy.connect() as wire:
        wire.send(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n")
        response = wire.read_response_head()
        assert not response.has("transfer-encoding")
        assert wire.read_to_end() == b"abc"


def test_a_client_of_http_1_0_may_ask_to_keep_its_connection(proxy: Proxy) -> None:
    with proxy.connect() as wire:
        for _ in range(2):
            wire.send(f"GET / HTTP/1.0\r\nHost: {STREAMED}\r\nConnection: keep-alive\r\n\r\n")
            response = wire.read_response()
            assert (response.get("connection") or "").lower() == "keep-alive"
            assert seen_by(response.body)["version"] == "HTTP/1.1"


# Connections.


def test_one_client_connection_serves_many_requests_over_one_target_connection(
    proxy: Proxy, target: Target
) -> None:
    client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    for number in range(5):
        client.request("POST", f"/{number}", b"x" * number, {"Host": BUFFERED})
        response = client.getresponse()
        assert seen_by(response.read())["size"] == number
        assert not response.will_close
    client.close()
    assert target.connections == 1


def test_a_client_that_asks_for_it_gets_its_connection_closed(proxy: Proxy, target: Target) -> None:
    with proxy.connect() as wire:
        wire.send(request_text(host=BUFFERED, headers={"Connection": "close"}))
        assert (wire.read_response().get("connection") or "").lower() == "close"
        assert wire.at_end()
    proxy.get(host=BUFFERED)
    # That was between client and proxy; the target's connection lives on.
    assert target.connections == 1


@both
def test_pipelined_requests_are_answered_in_order(proxy: Proxy, target: Target, host: str) -> None:
    parts = [request_text("POST", f"/{n}", host, body=b"x" * n * 1000) for n in range(20)]
    parts.insert(
        10,
        request_text("PUT", "/chunked", host, {"Transfer-Encoding": "chunked"})
        + b"3\r\nabc\r\n0\r\n\r\n",
    )
    with proxy.connect() as wire:
        wire.send(b"".join(parts))
        seen = [seen_by(wire.read_response().body) for _ in parts]
    assert [s["target"] for s in seen] == [
        *(f"/{n}" for n in range(10)),
        "/chunked",
        *(f"/{n}" for n in range(10, 20)),
    ]
    assert [s["size"] for s in seen if s["target"] != "/chunked"] == [n * 1000 for n in range(20)]


def test_a_request_that_comes_byte_by_byte_is_understood(proxy: Proxy) -> None:
    data = request_text("POST", "/slow", STREAMED, {"Transfer-Encoding": "chunked"})
    with proxy.connect() as wire:
        for byte in data + b"3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n":
            wire.send(bytes([byte]))
        assert seen_by(wire.read_response().body)["body"] == "abc"


def test_empty_lines_before_a_request_are_ignored(proxy: Proxy) -> None:
    with proxy.connect() as wire:
        wire.send(b"\r\n" + request_text(host=BUFFERED))
        assert wire.read_response().status == 200


def test_connect_is_refused(proxy: Proxy, target: Target) -> None:
    response = proxy.refuse(
        b"CONNECT buffered.example:443 HTTP/1.1\r\nHost: buffered.example\r\n\r\n"
    )
    assert response.status == 405
    assert not target.requests


@both
def test_many_clients_at_once_each_get_their_own_answer(
    proxy: Proxy, target: Target, host: str
) -> None:
    wrong: list[object] = []

    def client(name: int) -> None:
        with proxy.connect() as wire:
            for number in range(20):
                body = f"{name}-{number}".encode() * (1 + number * 50)
                wire.send(request_text("POST", f"/{name}/{number}", host, body=body))
                seen = seen_by(wire.read_response().body)
                want = (f"/{name}/{number}", sha256(body).hexdigest())
                if (seen["target"], seen["sha256"]) != want:
                    wrong.append(seen)

    threads = [threading.Thread(target=client, args=(name,)) for name in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert len(target.requests) == 200


# Requests.


def test_a_streamed_upload_reaches_the_target_while_it_is_made(
    proxy: Proxy, target: Target
) -> None:
    first = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        assert wire.read_exactly(5) == b"first"
        first.set()
        assert wire.read_exactly(5) == b"later"
        wire.send(response_text("got it"))

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text("POST", host=STREAMED, headers={"Content-Length": "10"}) + b"first")
        assert first.wait(20)
        wire.send(b"later")
        assert wire.read_response().body == b"got it"


def test_a_buffered_upload_reaches_the_target_only_when_it_is_complete(
    proxy: Proxy, target: Target
) -> None:
    with proxy.connect() as wire:
        wire.send(request_text("POST", "/b", BUFFERED, {"Content-Length": "10"}) + b"first")
        # A round trip of another client shows that the proxy has had time to do it wrong.
        assert proxy.get("/other", BUFFERED).status == 200
        assert [r.target for r in target.requests] == ["/other"]
        wire.send(b"later")
        assert seen_by(wire.read_response().body)["body"] == "firstlater"


@both
def test_a_chunked_upload_arrives_with_its_trailers(
    proxy: Proxy, target: Target, host: str
) -> None:
    got: list[object] = []

    def script(wire: Wire, request: Request) -> None:
        if request.has("transfer-encoding"):
            body, trailers = wire.read_chunked()
            got.append(trailers)
        else:
            body = wire.read_body(request)
        wire.send(response_text(body))

    target.script = script
    headers = {"Transfer-Encoding": "chunked", "Trailer": "X-Sum"}
    with proxy.connect() as wire:
        wire.send(request_text("POST", host=host, headers=headers))
        wire.send(chunk(b"ab") + chunk(b"c" * 70_000) + b"0\r\nX-Sum: 7\r\n\r\n")
        assert wire.read_response().body == b"ab" + b"c" * 70_000
    if host == STREAMED:
        assert got == [[("X-Sum", "7")]]


def test_a_buffered_chunked_upload_gets_a_content_length(proxy: Proxy, target: Target) -> None:
    with proxy.connect() as wire:
        wire.send(request_text("POST", host=BUFFERED, headers={"Transfer-Encoding": "chunked"}))
        wire.send(chunk(b"abc") + b"0\r\n\r\n")
        fields = seen_by(wire.read_response().body)["fields"]
    assert fields["content-length"] == "3"
    assert "transfer-encoding" not in fields


@both
def test_the_client_is_told_to_continue_by_the_proxy_and_the_target_is_not_asked(
    proxy: Proxy, target: Target, host: str
) -> None:
    headers = {"Expect": "100-continue", "Content-Length": "4"}
    with proxy.connect() as wire:
        wire.send(request_text("POST", host=host, headers=headers))
        assert wire.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b"body")
        seen = seen_by(wire.read_response().body)
    assert seen["body"] == "body"
    assert "expect" not in seen["fields"]


@both
def test_curl_uploads_with_an_expectation(
    proxy: Proxy,
    require_tool: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
    host: str,
) -> None:
    file = tmp_path_factory.mktemp("curl") / "upload"
    file.write_bytes(b"0123456789" * 300_000)
    done = subprocess.run(
        [
            require_tool("curl"),
            "--silent",
            "--show-error",
            "--verbose",
            "--expect100-timeout",
            "20",
            "--noproxy",
            "*",
            "--header",
            f"Host: {host}",
            "--header",
            "Expect: 100-continue",
            "--upload-file",
            str(file),
            f"http://127.0.0.1:{proxy.port}/curl",
        ],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert b"HTTP/1.1 100 Continue" in done.stderr
    seen = seen_by(done.stdout)
    assert (seen["method"], seen["size"]) == ("PUT", 3_000_000)
    assert seen["sha256"] == sha256(file.read_bytes()).hexdigest()


def test_a_target_that_answers_before_the_upload_is_over_is_heard(
    proxy: Proxy, target: Target
) -> None:
    def script(wire: Wire, request: Request) -> None:
        wire.send(response_text("no, thanks", "403 Forbidden", connection="close"))
        wire.end()
        while wire.more():
            wire.buffer = b""
        wire.close()

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text("POST", host=STREAMED, headers={"Content-Length": "1000000"}))
        wire.send(b"x" * 1000)
        response = wire.read_response()
        assert (response.status, response.body) == (403, b"no, thanks")


@pytest.mark.parametrize("method", ["PATCH", "PROPFIND", "M-SEARCH", "x", "TRACE"])
def test_any_method_is_passed_on(proxy: Proxy, method: str) -> None:
    assert seen_by(proxy.request(method, host=BUFFERED).body)["method"] == method


@both
def test_a_client_that_leaves_cancels_the_request_to_the_target(
    proxy: Proxy, target: Target, host: str
) -> None:
    arrived, cancelled = threading.Event(), threading.Event()

    def script(wire: Wire, request: Request) -> None:
        arrived.set()
        if wire.at_end():
            cancelled.set()

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text(host=host))
        assert arrived.wait(20)
    assert cancelled.wait(20)


def test_a_client_that_leaves_in_mid_response_stops_the_target(
    proxy: Proxy, target: Target
) -> None:
    cancelled = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                wire.send(b"x" * 65536)
        except OSError:
            cancelled.set()

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text(host=STREAMED))
        wire.read_response_head()
        wire.read_exactly(100_000)
    assert cancelled.wait(20)


def test_a_client_that_leaves_in_mid_upload_cuts_it_at_the_target(
    proxy: Proxy, target: Target
) -> None:
    begun, lost = threading.Event(), threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.read_exactly(4)
        begun.set()
        if wire.at_end():
            lost.set()

    target.script = script
    with proxy.connect() as wire:
        wire.send(request_text("POST", "/cut", STREAMED, {"Content-Length": "1000"}) + b"half")
        assert begun.wait(20)
    assert lost.wait(20)
