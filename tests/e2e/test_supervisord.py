"""The example for supervisord: a real one, its two applications, and deployments by its script."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.e2e.support.proxy import Lines, Load, environment
from tests.e2e.support.waiting import PATIENCE, wait_until
from tests.e2e.support.wire import Wire, request_text
from tests.support.ports import free_port

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BIN = Path(sys.executable).parent


class Supervisor:
    """``examples/supervisord.conf`` on free ports, in a folder of its own."""

    def __init__(self, folder: Path, changes: Mapping[str, str] = MappingProxyType({})) -> None:
        """@param changes: what stands in the place of some of the example's text."""
        self.folder = folder
        shutil.copytree(EXAMPLES / "apps", folder / "apps")
        self.ports = {name: free_port() for name in ("8080", "3001", "3002")}
        for name in ("supervisord.conf", "deploy.sh"):
            text = (EXAMPLES / name).read_text()
            for shown, instead in changes.items():
                assert shown in text or name == "deploy.sh"
                text = text.replace(shown, instead)
            for shown, free in self.ports.items():
                assert shown in text or name == "deploy.sh"
                text = text.replace(shown, str(free))
            (folder / name).write_text(text)
        self.config = str(folder / "supervisord.conf")
        self._environment = environment(PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
        self.process = subprocess.Popen(
            [str(BIN / "supervisord"), "-c", self.config],
            env=self._environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = Lines(self.process.stdout)

    def run(self, *command: str, status: int = 0) -> str:
        done = subprocess.run(
            command,
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == status, (command, done.stdout, done.stderr, self.output.text)
        return done.stdout + done.stderr

    def control(self, *command: str, status: int = 0) -> str:
        return self.run(str(BIN / "supervisorctl"), "-c", self.config, *command, status=status)

    def deploy(self, status: int = 0) -> str:
        return self.run("sh", str(self.folder / "deploy.sh"), status=status)

    def kproxy(self, *command: str, status: int = 0) -> str:
        socket = str(self.folder / "kproxy.sock")
        return self.run(str(BIN / "kproxy"), *command, "--socket", socket, status=status)

    def wait_until_up(self) -> None:
        commands = self.folder / "kproxy.sock"
        wait_until("kproxy takes commands", commands.exists)
        wait_until("kproxy answers", lambda: self.answer() in (200, 404))

    def connect(self) -> Wire:
        return Wire(socket.create_connection(("127.0.0.1", self.ports["8080"]), PATIENCE))

    def answer(self) -> int | None:
        try:
            with self.connect() as wire:
                wire.send(request_text("GET", "/"))
                return wire.read_response().status
        except OSError:
            return None

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.output.join()
            assert self.process.stdout is not None
            self.process.stdout.close()


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    # Not pytest's folder: the path of a Unix socket may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="kproxy-") as folder:
        supervisor = Supervisor(Path(folder))
        try:
            supervisor.wait_until_up()
            yield supervisor
        finally:
            supervisor.close()


def test_ten_deployments_by_the_script_fail_no_request(supervisor: Supervisor) -> None:
    supervisor.deploy()
    answered: Counter[str] = Counter()

    def ask(stop: Callable[[], bool]) -> None:
        with supervisor.connect() as wire:
            while not stop():
                wire.send(request_text("GET", "/load"))
                response = wire.read_response()
                assert response.status == 200, response
                assert not response.has("connection")
                answered[response.text.partition("X-Kamal-Target: ")[2].split()[0]] += 1

    blue, green = (f"127.0.0.1:{supervisor.ports[port]}" for port in ("3001", "3002"))
    with Load(ask, clients=6) as load:
        for number in range(10):
            new = green if number % 2 == 0 else blue
            supervisor.deploy()
            before = answered[new]
            wait_until("the new copy serves", lambda b=before, n=new: answered[n] > b + 20)
    assert not load.failures
    assert set(answered) == {blue, green}
    status = supervisor.control("status", status=3)
    assert [line.split()[:2] for line in status.splitlines()] == [
        ["blue", "RUNNING"],
        ["green", "STOPPED"],
        ["kproxy", "RUNNING"],
    ]


def test_a_copy_that_does_not_come_up_is_stopped_and_the_old_one_stays(
    supervisor: Supervisor,
) -> None:
    supervisor.deploy()
    web = supervisor.folder / "apps" / "web.py"
    web.write_text(web.read_text().replace('"/up"', '"/elsewhere"').replace("200", "500"))
    script = supervisor.folder / "deploy.sh"
    script.write_text(script.read_text().replace("/up", "/up --deploy-timeout 1s"))
    said = supervisor.deploy(status=1)
    assert "not healthy within 1 s" in said
    assert supervisor.answer() == 200
    assert "green" in supervisor.control("status", "green", status=3)


def test_a_proxy_that_was_killed_is_started_again_with_what_it_served(
    supervisor: Supervisor,
) -> None:
    supervisor.deploy()
    first = int(supervisor.control("pid", "kproxy"))
    os.kill(first, signal.SIGKILL)

    def again() -> bool:
        # Between the two there is none, and the command says so by its status.
        status = supervisor.run("sh", "-c", f"supervisorctl -c {supervisor.config} pid kproxy || :")
        return status.strip() not in ("", "0", str(first)) and supervisor.answer() == 200

    wait_until("it serves again", again)


def test_an_end_that_was_asked_for_is_no_reason_to_start_again(supervisor: Supervisor) -> None:
    supervisor.deploy()
    os.kill(int(supervisor.control("pid", "kproxy")), signal.SIGTERM)
    wait_until(
        "it has ended",
        lambda: (
            "EXITED"
            in supervisor.run(
                "sh", "-c", f"supervisorctl -c {supervisor.config} status kproxy || :"
            )
        ),
    )
    assert supervisor.answer() is None


def test_standard_output_is_lines_of_json_and_nothing_else(supervisor: Supervisor) -> None:
    supervisor.deploy()
    assert supervisor.answer() == 200
    supervisor.close()
    entries = [json.loads(line) for line in supervisor.output.lines]
    assert all({"time", "level", "msg"} <= set(entry) for entry in entries)
    messages = [entry["msg"] for entry in entries]
    assert "Request" in messages
    assert any(message.startswith("listening on") for message in messages)
    assert messages[-1] == "Server Shut Down."
