"""The commands that talk to the proxy: what they take, ask for, and show."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kproxy.cli import main
from kproxy.cli.show import Shown
from kproxy.paths import default_socket, default_state_dir

Captured = pytest.CaptureFixture[str]


class Server:
    """A proxy's socket that answers as told, one request after another.

    @ivar heads: the first lines of all requests.
    @ivar answers: those of the first ones, which are followed by `answer` again and again.
    """

    def __init__(self, path: Path) -> None:
        self.heads: list[str] = []
        self.answers: list[bytes] = []
        self.head = ""
        self.body: Any = None
        self.answer = b'{"event": "done"}\n'
        self.silent = False
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._take(client)

    def _take(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            head = iter(lines.readline, b"\r\n")
            text = [line.decode().strip() for line in head]
            self.head = text[0].removesuffix(" HTTP/1.1")
            self.heads.append(self.head)
            lengths = [line.split()[1] for line in text if line.startswith("Content-Length:")]
            body = lines.read(int(lengths[0])) if lengths else b""
            self.body = json.loads(body) if body else None
            if not self.silent:
                answer = self.answers.pop(0) if self.answers else self.answer
                client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    path = tmp_path / "k.sock"
    monkeypatch.setenv("KPROXY_SOCKET", str(path))
    server = Server(path)
    yield server
    server.close()


def test_deploy_sends_what_was_said_and_nothing_else(server: Server, tmp_path: Path) -> None:
    arguments = [
        *("deploy", "--buffer-requests", "app", "--target", "a:1,b:2", "--target=c:3"),
        *("--host", " x.example , y.example", "--deploy-timeout", "1m30s", "--tls=false"),
        *("--strip-path-prefix=0", "--buffer-memory", "5", f"--error-pages={tmp_path}"),
    ]
    assert main.main(arguments) == 0
    assert server.head == "POST /services/app/deploy"
    assert server.body == {
        "target": ["a:1", "b:2", "c:3"],
        "host": ["x.example", "y.example"],
        "deploy_timeout": 90.0,
        "tls": False,
        "strip_path_prefix": False,
        "buffer_requests": True,
        "buffer_memory": 5,
        "error_pages": str(tmp_path),
    }


def test_paths_are_made_whole_since_the_proxy_works_elsewhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["deploy", "app", "--error-pages", "pages"]) == 0
    assert server.body == {"error_pages": str(tmp_path / "pages")}


@pytest.mark.parametrize(
    ("arguments", "head", "body"),
    [
        (
            "pause app --drain-timeout 5s --max-pause 2m",
            "POST /services/app/pause",
            {"drain_timeout": 5.0, "max_pause": 120.0},
        ),
        ("pause app", "POST /services/app/pause", {"drain_timeout": 30.0, "max_pause": 30.0}),
        (
            "stop app --message=Later",
            "POST /services/app/stop",
            {"drain_timeout": 30.0, "message": "Later"},
        ),
        ("resume app", "POST /services/app/resume", {}),
        ("remove app", "DELETE /services/app", None),
        ("remove a/b", "DELETE /services/a%2Fb", None),
        ("reload", "POST /reload", {}),
        ("restart", "POST /restart", {}),
        (
            "rollout deploy app --target a:1,b:2 --read-target r:1 --drain-timeout 5s",
            "POST /services/app/rollout/deploy",
            {"target": ["a:1", "b:2"], "read_target": ["r:1"], "drain_timeout": 5.0},
        ),
        (
            "rollout set app --percent 10 --list a,b --list c",
            "POST /services/app/rollout/set",
            {"percent": 10, "list": ["a", "b", "c"]},
        ),
        ("rollout set app --percent=0", "POST /services/app/rollout/set", {"percent": 0}),
        ("rollout set app", "POST /services/app/rollout/set", {}),
        ("rollout stop app", "POST /services/app/rollout/stop", {}),
    ],
)
def test_each_command_asks_for_one_thing(
    server: Server, arguments: str, head: str, body: Any
) -> None:
    assert main.main(arguments.split()) == 0
    assert (server.head, server.body) == (head, body)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            "deploy app --helth-check-path /up",
            "there is no option --helth-check-path; did you mean --health-check-path?",
        ),
        ("deploy app --wibble=3", "there is no option --wibble"),
        ("deplyo app", "there is no command deplyo; did you mean deploy?"),
        ("rollout set-percent app", "there is no command set-percent"),
        ("list app", 'there is one argument too many: "app"'),
        ("pause", "the following arguments are required: SERVICE"),
    ],
)
def test_what_is_wrong_with_a_command_is_said_in_a_sentence(
    arguments: str, error: str, capsys: Captured
) -> None:
    assert main.main(arguments.split()) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"Error: {error}"


@pytest.mark.parametrize(
    "arguments",
    [
        "deploy",
        "deploy app --deploy-timeout 30",
        "deploy app --tls=maybe",
        "deploy app --buffer-memory much",
        "deploy app --targ a:1",
        "deploy app --tls false",
        "pause",
        "list app",
    ],
)
def test_wrong_usage_has_status_2(arguments: str, capsys: Captured) -> None:
    assert main.main(arguments.split()) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("Error: ")
    assert said[1].endswith(" --help tells what there is.")


def restart_all(server: Server, *answers: bytes) -> int:
    server.answers = [b'{"generation": 4, "services": []}', *answers]
    return main.main(["restart", "--all"])


REHEARSING = b'{"event": "restart", "step": "rehearsing"}\n'


def test_another_program_is_waited_for_beyond_the_end_of_the_one_before(
    server: Server, capsys: Captured
) -> None:
    replacing = b'{"event": "restart", "step": "replacing"}\n'
    assert restart_all(server, REHEARSING + replacing) == 0
    assert server.heads == ["GET /services", "POST /restart", "POST /restarted"]
    assert server.body == {"generation": 4}
    assert capsys.readouterr().err == (
        "Trying whether the program that is installed now comes up\nIt does, and takes over\n"
    )


def test_a_program_that_does_not_come_up_is_a_failure(server: Server, capsys: Captured) -> None:
    failed = b'{"event": "failed", "error": "the old program goes on: no yaml"}\n'
    assert restart_all(server, REHEARSING + failed) == 1
    assert server.heads == ["GET /services", "POST /restart"]
    assert "the old program goes on: no yaml" in capsys.readouterr().err


def test_a_program_whose_workers_do_not_come_up_is_a_failure(
    server: Server, capsys: Captured
) -> None:
    failed = b'{"event": "failed", "error": "the old workers go on"}\n'
    assert restart_all(server, REHEARSING, failed) == 1
    assert "the old workers go on" in capsys.readouterr().err


def test_a_proxy_that_knows_nothing_of_it_says_so(server: Server, capsys: Captured) -> None:
    server.answers = [b'{"services": []}', b'{"error": "there is no option all"}\n']
    assert main.main(["restart", "--all"]) == 1
    assert "there is no option all" in capsys.readouterr().err


def test_a_failure_is_a_sentence_and_status_1(server: Server, capsys: Captured) -> None:
    check = {"event": "check", "target": "a:1", "attempt": 1, "healthy": False, "failure": "no"}
    failed = {"event": "failed", "error": "host is used by another service"}
    server.answer = b"".join(json.dumps(event).encode() + b"\n" for event in (check, failed))
    assert main.main(["deploy", "app", "--target", "a:1"]) == 1
    assert capsys.readouterr() == (
        "",
        "health check 1 of a:1: no\nError: host is used by another service\n",
    )


@pytest.mark.parametrize("answer", [b"", b'{"event": "queued", "service": "x"}\n', b"what"])
def test_an_answer_that_does_not_end_is_a_failure(
    server: Server, answer: bytes, capsys: Captured
) -> None:
    server.answer = answer
    assert main.main(["resume", "app"]) == 1
    assert "Error: the proxy went away before it was done" in capsys.readouterr().err


def test_a_socket_without_a_proxy_is_a_failure(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "none.sock"
    assert main.main(["list", "--socket", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"Error: no kproxy listens on {path}")


LISTED: dict[str, Any] = {
    "service": "app",
    "hosts": ["a.example"],
    "path_prefixes": ["/", "/x"],
    "targets": [{"address": "a:1", "health": "healthy", "failure": "", "requests": 0}],
    "read_targets": [],
    "rollout": None,
    "draining": [{"address": "b:1", "requests": 2}],
    "state": "paused",
    "tls": False,
    "certificates": [],
    "deploying": True,
}


def certificate(name: str, days: int | None, failure: str = "", again: Any = None) -> Any:
    expires = None if days is None else "2026-08-30T00:00:00Z"
    common = {"expires": expires, "days_left": days, "failure": failure, "next_try": again}
    return {"name": name, **common}


def test_list_is_a_table(server: Server, capsys: Captured) -> None:
    server.answer = json.dumps({"services": [LISTED, {**LISTED, "hosts": []}]}).encode()
    assert main.main(["list"]) == 0
    assert capsys.readouterr().out == (
        "SERVICE  HOSTS      PATHS  TARGETS                    STATE              TLS\n"
        "app      a.example  /, /x  a:1 healthy, b:1 draining  paused, deploying  no\n"
        "app      any        /, /x  a:1 healthy, b:1 draining  paused, deploying  no\n"
    )


UP = {"health": "healthy", "failure": "", "requests": 0}


@pytest.mark.parametrize(
    ("split", "shown"),
    [
        ({"percent": 10, "list": []}, "(rollout, 10 %)"),
        ({"percent": 0, "list": ["qa", "me"]}, "(rollout, 0 % + 2 named)"),
        ({"percent": None, "list": None}, "(rollout, off)"),
    ],
)
def test_list_tells_read_targets_and_those_of_a_rollout_apart(
    server: Server, capsys: Captured, split: dict[str, Any], shown: str
) -> None:
    rollout = {"targets": [{"address": "n:1", **UP}], "read_targets": [], **split}
    service = {**LISTED, "read_targets": [{"address": "r:1", **UP}], "rollout": rollout}
    server.answer = json.dumps({"services": [service]}).encode()
    assert main.main(["list"]) == 0
    targets = f"a:1 healthy, r:1 healthy (reads), n:1 healthy {shown}, b:1 draining"
    assert f"/, /x  {targets}  paused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("certificates", "shown"),
    [
        ([], "yes"),
        ([certificate("a", 60)], "60 days"),
        ([certificate("a", 60), certificate("b", 1)], "1 day"),
        ([certificate("a", None)], "no certificate"),
        ([certificate("a", 60), certificate("b", None)], "60 days, 1 missing"),
    ],
)
def test_list_says_how_long_certificates_last(
    server: Server, capsys: Captured, certificates: Any, shown: str
) -> None:
    listed = {**LISTED, "deploying": False, "tls": True, "certificates": certificates}
    server.answer = json.dumps({"services": [listed]}).encode()
    assert main.main(["list"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert row[head.index("TLS") :] == shown


def test_list_says_what_went_wrong_with_certificates(server: Server, capsys: Captured) -> None:
    words = "DNS problem: NXDOMAIN looking up A for b.example"
    certificates = [
        certificate("a.example", 60),
        certificate("b.example", None, words, "2026-06-01T12:00:00Z"),
        certificate("c.example", 20, "the secret KEY is gone"),
    ]
    listed = {**LISTED, "tls": True, "certificates": certificates}
    server.answer = json.dumps({"services": [listed]}).encode()
    assert main.main(["list"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        f"app: b.example: {words} (next try: 2026-06-01T12:00:00Z)",
        "app: c.example: the secret KEY is gone",
    ]


def test_list_can_be_json(server: Server, capsys: Captured) -> None:
    server.answer = json.dumps({"services": [LISTED]}).encode()
    assert main.main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"services": [LISTED]}


def test_an_empty_list_says_so(server: Server, capsys: Captured) -> None:
    server.answer = b'{"services": []}'
    assert main.main(["list"]) == 0
    assert capsys.readouterr().out == "No services.\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


QUEUED = {"event": "queued", "service": "app"}
SWITCHED = {"event": "switched", "service": "app", "targets": ["a:1", "b:1"]}
LEFT = {"event": "draining", "service": "app", "requests": 1}
WARNING = {"event": "warning", "message": "disk full"}


def test_on_a_terminal_one_line_changes_and_what_matters_stays() -> None:
    stream = Terminal()
    with Shown(stream) as shown:
        for event in (QUEUED, SWITCHED, LEFT):
            shown.show(event)
    clean = "\r\x1b[K"
    assert stream.getvalue() == (
        f"{clean}Waiting for another operation on app"
        f"{clean}app is served by a:1, b:1\n"
        f"{clean}Draining: 1 request left"
        f"{clean}"
    )


def test_elsewhere_each_news_is_a_line() -> None:
    stream = io.StringIO()
    with Shown(stream) as shown:
        for event in (LEFT, LEFT, {**LEFT, "requests": 0}, WARNING):
            shown.show(event)
    assert stream.getvalue() == (
        "Draining: 1 request left\nDraining: 0 requests left\nWarning: disk full\n"
    )


def test_the_socket_is_in_the_runtime_folder_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/temporary")
    assert default_socket({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "kproxy.sock"
    assert default_socket({"XDG_RUNTIME_DIR": "/no/such"}) == Path("/temporary/kproxy.sock")
    assert default_socket({}) == Path("/temporary/kproxy.sock")


def test_the_state_is_where_state_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert default_state_dir({}, root=True) == Path("/var/lib/kproxy")
    assert default_state_dir({"XDG_STATE_HOME": "/s"}, root=False) == Path("/s/kproxy")
    assert default_state_dir({}, root=False) == Path("/home/x/.local/state/kproxy")


def test_a_proxy_that_goes_away_before_it_says_anything_is_named_as_such(
    server: Server, capsys: Captured
) -> None:
    server.silent = True
    assert main.main(["resume", "app"]) == 1
    assert "Error: the proxy went away before it was done" in capsys.readouterr().err
