"""The ``kproxy`` command with real processes: run, explain, what is shown while it waits, completion."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support.proxy import KPROXY, Proxy, environment, run
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says, seen_by
from tests.e2e.support.waiting import PATIENCE, wait_until
from tests.e2e.support.wire import request_text
from tests.e2e.test_deployments import QUICK, deploy, ended, holding, in_background, listed
from tests.support.ports import free_port

CLEAR = "\r\x1b[K"


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, command: list[str], columns: int = 80, **env: str) -> None:
        self.shown = ""
        self._end, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM="xterm", **env),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def read(self) -> str:
        """Everything that has been shown so far."""
        while select.select([self._end], [], [], 0)[0]:
            try:
                data = os.read(self._end, 65536)
            except OSError:  # Linux says so when the other side has been closed
                break
            self.shown += data.decode()
        return self.shown

    def shows(self, text: str) -> None:
        try:
            wait_until(text, lambda: text in self.read())
        except AssertionError:
            raise AssertionError(f"never shown: {text!r}\n{self.shown!r}") from None

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def ended(self) -> int:
        wait_until("it ends", lambda: self.read() is not None and self.process.poll() is not None)
        self.read()
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        with suppress(OSError):
            os.close(self._end)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def make(command: list[str], **options: Any) -> Terminal:
        opened.append(Terminal(command, **options))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def lines_of(shown: str) -> list[str]:
    """What was written over one line, one after the other."""
    return [part.strip("\r\n") for part in shown.split(CLEAR)]


# While it waits.


def test_on_a_terminal_a_deployment_shows_in_one_line_what_it_waits_for(
    stage: Stage, terminal: Callable[..., Terminal]
) -> None:
    script, arrived, go_on = holding("old")
    old, new = stage.target(script), stage.target(says("new"))
    new.healthy = False
    proxy = stage.proxy()
    deploy(proxy, old)
    with proxy.connect() as wire:
        wire.send(request_text(path="/slow"))
        assert arrived.wait(20)
        screen = terminal(
            [*KPROXY, "deploy", "app", "--target", new.address, *QUICK],
            KPROXY_SOCKET=str(proxy.socket),
        )
        screen.shows(f"health check 2 of {new.address}: it answered 503 to /up")
        new.healthy = True
        screen.shows(f"{CLEAR}app is served by {new.address}\r\n")
        screen.shows(f"{CLEAR}Draining: 1 request left")
        go_on.set()
        assert wire.read_response().text == "old"
    assert screen.ended() == 0
    assert screen.shown.count("\n") == 1, "more than the switch has stayed"
    assert screen.shown.endswith(CLEAR)


def test_a_line_is_cut_to_the_width_of_the_terminal(
    stage: Stage, terminal: Callable[..., Terminal]
) -> None:
    targets = [stage.target() for _ in range(3)]
    for target in targets:
        target.healthy = False
    proxy = stage.proxy()
    every = ",".join(target.address for target in targets)
    screen = terminal(
        [*KPROXY, "deploy", "app", "--target", every, "--deploy-timeout", "600ms", *QUICK],
        columns=50,
        KPROXY_SOCKET=str(proxy.socket),
    )
    assert screen.ended() == 1
    before, _, error = screen.shown.partition("Error: ")
    assert max(map(len, lines_of(before))) < 50
    assert any("…" in line for line in lines_of(before))
    for target in targets:
        assert f"{target.address}: it answered 503 to /up" in error


def test_elsewhere_a_deployment_writes_a_line_for_each_news(stage: Stage) -> None:
    new = stage.target(says("new"))
    new.healthy = False
    proxy = stage.proxy()
    deploying = in_background(proxy, "deploy", "app", "--target", new.address, *QUICK)
    wait_until("it has been asked twice", lambda: len(new.health_checks) > 1)
    new.healthy = True
    status, said = ended(deploying)
    assert status == 0
    assert "\x1b" not in said
    lines = said.splitlines()
    assert lines[0] == f"health check 1 of {new.address}: it answered 503 to /up"
    assert lines[-2].endswith(f"of {new.address}: healthy")
    assert lines[-1] == f"app is served by {new.address}"


def test_ctrl_c_on_a_terminal_cancels_and_leaves_the_old_target(
    stage: Stage, terminal: Callable[..., Terminal]
) -> None:
    old, new = stage.target(says("old")), stage.target(says("new"))
    new.healthy = False
    proxy = stage.proxy()
    deploy(proxy, old)
    screen = terminal(
        [*KPROXY, "deploy", "app", "--target", new.address, *QUICK],
        KPROXY_SOCKET=str(proxy.socket),
    )
    screen.shows("health check 1 of")
    screen.type("\x03")
    assert screen.ended() == 130
    assert "Interrupted: what was not done yet is cancelled." in screen.shown
    proxy.said("it was cancelled")
    new.healthy = True
    assert not listed(proxy)["app"]["deploying"]
    assert proxy.get().text == "old"


# The proxy ends while a command waits.


def test_a_deployment_that_waits_is_told_that_the_proxy_is_stopping(stage: Stage) -> None:
    new = stage.target()
    new.healthy = False
    proxy = stage.proxy()
    deploying = in_background(proxy, "deploy", "app", "--target", new.address, *QUICK)
    wait_until("it is asked", lambda: new.health_checks)
    queued = in_background(proxy, "deploy", "app", "--target", new.address, *QUICK)
    assert queued.stderr is not None
    assert queued.stderr.readline() == "Waiting for another operation on app\n"
    assert proxy.stop() == 0
    for process in (deploying, queued):
        status, said = ended(process)
        assert status == 1
        assert re.search("^Error: (app: )?the proxy is stopping$", said, re.M), said


def test_a_command_that_waits_for_requests_hears_that_they_ended_though_the_proxy_is_stopping(
    stage: Stage,
) -> None:
    script, arrived, go_on = holding("old")
    proxy = stage.proxy()
    deploy(proxy, stage.target(script))
    with proxy.connect() as wire:
        wire.send(request_text(path="/slow"))
        assert arrived.wait(20)
        pausing = in_background(proxy, "pause", "app")
        wait_until("it is paused", lambda: listed(proxy)["app"]["state"] == "paused")
        proxy.send_signal(signal.SIGTERM)
        proxy.said("stopping; ")
        go_on.set()
        assert wire.read_response().text == "old"
    assert proxy.join() == 0
    status, said = ended(pausing)
    assert (status, "Error" in said) == (0, False), said


def test_a_proxy_that_is_killed_is_said_to_be_gone(stage: Stage) -> None:
    new = stage.target()
    new.healthy = False
    proxy = stage.proxy()
    deploying = in_background(proxy, "deploy", "app", "--target", new.address, *QUICK)
    wait_until("it is asked", lambda: new.health_checks)
    proxy.stop(signal.SIGKILL)
    status, said = ended(deploying)
    assert status == 1
    assert said.splitlines()[-1] == (
        "Error: the proxy went away before it was done; when it is back, kproxy list shows what it "
        "serves"
    )


# run.


class Running:
    """``kproxy run``."""

    def __init__(self, folder: Path, *options: str, **env: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.env = {
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_STATE_HOME": str(folder),
            "HOME": str(folder),
            "KPROXY_STATE_DIR": str(folder / "state"),
            **env,
        }
        self.process = subprocess.Popen(
            [*KPROXY, "run", f"--http-port={self.port}", "--bind=127.0.0.1", *options],
            env=environment(**self.env),
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run([*KPROXY, *words], **self.env)

    def wait_until_it_answers(self) -> None:
        def answers() -> bool:
            return self.process.poll() is not None or self.command("list").returncode == 0

        wait_until("it answers", answers)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        if self.process.poll() is None:
            self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*options: str, **env: str) -> Running:
        started.append(Running(tmp_path, *options, **env))
        return started[-1]

    yield start
    for each in started:
        each.end(signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_serves_what_is_deployed_and_ends_in_order(
    running: Callable[..., Running], stage: Stage, number: int
) -> None:
    target = stage.target(says("hello"))
    proxy = running()
    proxy.wait_until_it_answers()
    done = proxy.command("deploy", "app", "--target", target.address)
    assert done.returncode == 0, done.stderr
    got = run(["curl", "-s", f"http://127.0.0.1:{proxy.port}/"])
    assert got.stdout == "hello"
    status, said = proxy.end(number)
    assert status == 0, said
    assert "uvloop" in said or "asyncioreactor" in said
    assert "Traceback" not in said
    # Nothing of twistd is left in the folder.
    assert sorted(path.name for path in proxy.folder.iterdir() if path.is_file()) == []


def test_run_goes_on_with_the_program_that_is_installed_now(
    running: Callable[..., Running], stage: Stage
) -> None:
    target = stage.target(says("hello"))
    proxy = running(KPROXY_WORKERS="1")
    proxy.wait_until_it_answers()
    assert proxy.command("deploy", "app", "--target", target.address).returncode == 0
    done = proxy.command("restart", "--all")
    assert done.returncode == 0, done.stderr
    assert json.loads(proxy.command("list", "--json").stdout)["generation"] == 2
    assert run(["curl", "-s", f"http://127.0.0.1:{proxy.port}/"]).stdout == "hello"
    assert proxy.end()[0] == 0


def test_run_is_killed_by_a_signal_as_twistd_is(running: Callable[..., Running]) -> None:
    proxy = running()
    proxy.wait_until_it_answers()
    assert proxy.end(signal.SIGKILL)[0] == -signal.SIGKILL


def test_run_takes_what_is_not_said_from_the_environment(
    running: Callable[..., Running], tmp_path: Path
) -> None:
    socket = tmp_path / "other.sock"
    proxy = running("--debug", KPROXY_SOCKET=str(socket))
    proxy.wait_until_it_answers()
    assert socket.exists()
    assert (tmp_path / "state" / "lock").exists()


def test_run_says_in_a_sentence_why_it_can_not_start(
    running: Callable[..., Running], stage: Stage
) -> None:
    taken = stage.proxy()
    for options, sentence in (
        ([f"--http-port={taken.port}"], f"can't listen on 127.0.0.1 port {taken.port}"),
        (["--socket=/no/such/folder/k.sock"], "there is no folder /no/such/folder"),
    ):
        status, said = running(*options).end(0)
        assert status == 1, said
        assert said.startswith("Error: "), said
        assert sentence in said
        assert said.count("\n") == 1, said


# explain.


def test_explain_shows_what_the_target_gets_and_sends_nothing(stage: Stage) -> None:
    target = stage.target()
    proxy = stage.app(target, path_prefix="/api", forward_headers=False)
    explained = proxy.command(
        "explain",
        "http://app.example/api/users?x=1",
        *("--header", "X-Forwarded-For: 10.0.0.1", "-H", "Accept: a", "--cookie", "a=b"),
        *("--cookie", "c=d", "--json", "--client", "127.0.0.1"),
    )
    assert explained.returncode == 0, explained.stderr
    told = json.loads(explained.stdout)
    assert (told["outcome"], told["service"], told["target"]) == (
        "sent", "shop-app", target.address,
    )  # fmt: skip
    assert target.requests == []
    assert proxy.log_lines() == []
    headers = {"x-forwarded-for": "10.0.0.1", "accept": "a", "cookie": "a=b; c=d"}
    sent = seen_by(proxy.request("GET", "/api/users?x=1", "app.example", headers).body)
    assert told["request"]["line"] == f"{sent['method']} {sent['target']} {sent['version']}"
    fields = {name.lower(): value for name, value in told["request"]["headers"]}
    for changing in ("x-request-id", "x-request-start"):
        assert fields.pop(changing)
        assert sent["fields"].pop(changing)
    assert fields == sent["fields"]


def test_explain_tells_why_a_request_would_get_no_target(stage: Stage) -> None:
    target = stage.target()
    proxy = stage.proxy()
    deploy(proxy, target, "--host", "app.example")
    for commands, url, expected in (
        ((), "http://other.example/", "answer   404 by router: no service has this host and path"),
        (("pause", "app"), "http://app.example/", "held     by gate: the service is paused"),
        (("pause", "app"), "http://app.example/up", "answer   200 by gate"),
        (("stop", "app"), "app.example", "answer   503 by gate: the service is stopped"),
    ):
        if commands:
            assert proxy.command(*commands).returncode == 0
        explained = proxy.command("explain", url)
        assert explained.returncode == 0, explained.stderr
        assert expected in explained.stdout
    assert target.requests == []


def test_explain_of_no_url_is_a_sentence(stage: Stage) -> None:
    proxy = stage.proxy()
    wait_until("the socket is there", proxy.socket.exists)
    for words, status, sentence in (
        (["ftp://a/"], 1, 'Error: "ftp://a/" is no http:// or https:// URL\n'),
        (["a", "-X", "G T"], 1, "Error: a request like this is refused with 400: "),
        (["a", "--client", "me"], 1, 'Error: "me" is no IP address\n'),
        (["a", "--header", "x"], 2, 'argument --header/-H: "x" should be NAME:VALUE\n'),
    ):
        refused = proxy.command("explain", *words)
        assert (refused.returncode, refused.stdout) == (status, "")
        assert sentence in refused.stderr


def test_explain_can_ask_a_file_in_place_of_a_proxy(stage: Stage) -> None:
    config = stage.deploy({"app": {"hosts": ["10.0.0.1:1"], "proxy": {"path_prefix": "/api"}}})
    command = [*KPROXY, "explain", "--config", str(config)]
    explained = run([*command, "http://app.example/api/x"])
    assert explained.returncode == 0, explained.stderr
    assert "target   10.0.0.1:1\n" in explained.stdout
    assert "GET /x HTTP/1.1\n" in explained.stdout
    assert "answer   404" in run([*command, "http://app.example/x"]).stdout
    config.write_text("service: [")
    refused = run([*command, "http://app.example/api/x"])
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: ")
    assert "deploy.yml:2:1: is not YAML" in refused.stderr


# list.


def test_list_is_a_table_for_people_and_json_for_programs(stage: Stage) -> None:
    one, two = stage.target(), stage.target()
    proxy = stage.proxy()
    assert proxy.command("list").stdout == "No services.\n"
    deploy(proxy, f"{one.address},{two.address}", "--host", "a.example,b.example")
    two.healthy = False
    wait_until(
        "one is ill",
        lambda: {t["health"] for t in listed(proxy)["app"]["targets"]} == {"healthy", "unhealthy"},
    )
    for name in ("list", "ls"):
        head, row = proxy.command(name).stdout.splitlines()
        assert head.split() == ["SERVICE", "HOSTS", "PATHS", "TARGETS", "STATE", "TLS"]
        assert re.split(r"  +", row) == [
            "app",
            "a.example, b.example",
            "/",
            f"{one.address} healthy, {two.address} unhealthy",
            "running",
            "no",
        ]


# Completion.


@pytest.fixture(scope="module")
def served(module_stage: Stage) -> Proxy:
    """A proxy with two services."""
    proxy = module_stage.proxy()
    for name in ("shop", "shop-api"):
        deploy(proxy, module_stage.target(), "--host", f"{name}.example", service=name)
    return proxy


@pytest.fixture(scope="module")
def kproxy(served: Proxy) -> Path:
    """A command of that name, for a shell to find."""
    path = served.socket.parent / "bin" / "kproxy"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\nexec " + shlex.join(KPROXY) + ' "$@"\n')
    path.chmod(0o755)
    return path


COMPLETIONS = {
    "kproxy rel": "reload",
    "kproxy pause ": "shop shop-api",
    "kproxy deploy shop-": "shop-api",
    "kproxy rollout s": "set stop",
    "kproxy rollout set sho": "shop shop-api",
    "kproxy list --js": "--json",
    "kproxy deploy shop --target a:1 --health-check-p": "--health-check-path --health-check-port",
    "kproxy completion ": "bash zsh fish",
    "kproxy resume shop ": "",
}
BASH = """
eval "$(kproxy completion bash)"
for line in "$@"; do
    COMP_LINE="$line"; COMP_POINT=${#line}
    _kproxy kproxy
    echo "${COMPREPLY[*]}"
done
"""
FISH = """
kproxy completion fish | source
for line in $argv
    echo (complete -C $line | string replace -r '\\t.*' '')
end
"""


def in_shell(kproxy: Path, served: Proxy) -> dict[str, str]:
    """The environment of a shell that finds command and proxy."""
    return {
        "KPROXY_SOCKET": str(served.socket),
        "PATH": f"{kproxy.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(kproxy.parent),
    }


def test_bash_completes(served: Proxy, kproxy: Path, require_tool: Callable[[str], str]) -> None:
    # Readline keeps what stands before "=", so that only what follows is to be given.
    expected = {**COMPLETIONS, "kproxy list --json=": "true false"}
    script = [require_tool("bash"), "--norc", "-c", BASH, "bash", *expected]
    done = run(script, **in_shell(kproxy, served))
    assert dict(zip(expected, done.stdout.splitlines(), strict=True)) == expected, done.stderr


def test_fish_completes(served: Proxy, kproxy: Path, require_tool: Callable[[str], str]) -> None:
    script = [require_tool("fish"), "--no-config", "-c", FISH, *COMPLETIONS]
    done = run(script, **in_shell(kproxy, served))
    found = dict(zip(COMPLETIONS, done.stdout.splitlines(), strict=True))
    for line, expected in COMPLETIONS.items():
        assert sorted(found[line].split()) == sorted(expected.split()), line


SHELLS = {
    "bash": (["--norc", "--noprofile", "-i"], 'eval "$(kproxy completion bash)"'),
    "zsh": (["-f", "-i"], "autoload -U compinit; compinit -D -u; source <(kproxy completion zsh)"),
    "fish": (["--no-config"], "kproxy completion fish | source"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_tab_key_completes_in_a_shell(
    served: Proxy,
    kproxy: Path,
    terminal: Callable[..., Terminal],
    require_tool: Callable[[str], str],
    shell: str,
) -> None:
    options, setup = SHELLS[shell]
    (kproxy.parent / "a-file.yml").write_text("")
    command = [require_tool(shell), *options]
    screen = terminal(command, PS1="> ", **in_shell(kproxy, served))
    screen.type(f'cd {kproxy.parent}; {setup}; echo is-"ready"\n')
    screen.shows("is-ready")
    for typed, then in (
        ("kproxy remo\t--help\n", "usage: kproxy remove"),
        ('kproxy pause shop-\t --help && echo it-"worked"\n', "it-worked"),
        ("kproxy check a-f\t\n", "a-file.yml:1:1"),
    ):
        screen.type(typed)
        screen.shows(then)


def test_without_a_proxy_no_service_is_offered_and_nothing_is_said(tmp_path: Path) -> None:
    done = run(
        [*KPROXY, "completion", "bash", "--line=kproxy pause "],
        KPROXY_SOCKET=str(tmp_path / "none.sock"),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_one_that_its_shell_understands(
    tmp_path: Path, require_tool: Callable[[str], str], shell: str
) -> None:
    script = tmp_path / "script"
    script.write_text(run([*KPROXY, "completion", shell]).stdout)
    checked = run([require_tool(shell), "-n", script])
    assert (checked.returncode, checked.stderr) == (0, "")
