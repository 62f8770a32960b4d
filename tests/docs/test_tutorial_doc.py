"""The tutorial, done from its beginning to its end: every file written, every command run."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, Block, blocks, is_shown, pattern
from tests.e2e.support.proxy import KPROXY, TWISTD, environment
from tests.e2e.support.waiting import PATIENCE, wait_until
from tests.support.ports import free_port

NOT_RUN = ("python3 -m venv", ". .venv", "pip install")
"""What every other test of the project has done before."""


class Reader:
    """Somebody who does what the page says, with two terminals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tutorial"
        self.folder.mkdir()
        self.jobs: list[subprocess.Popen[bytes]] = []
        self.proxy: subprocess.Popen[bytes] | None = None
        self.output = folder / "proxy.log"
        self.bookmark = 0
        commands = folder / "bin"
        commands.mkdir()
        for name, command in {"kproxy": KPROXY, "twistd": TWISTD}.items():
            script = commands / name
            script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            script.chmod(0o755)
        own = {"KPROXY_STATE_DIR": f"{folder}/state", "KPROXY_SOCKET": f"{folder}/kproxy.sock"}
        self.env = environment(HOME=str(folder), no_proxy="*", **own)
        self.env["PATH"] = f"{commands}:{self.env.get('PATH', '')}"

    def follow(self, block: Block) -> None:
        if block.language == "console":
            self.bookmark = len(self.log())
            for command, shown in block.commands():
                self.run(command, shown, block)
        elif block.language == "log":
            self.await_log(block.text, block)
        elif block.name == "access log":
            self.look_at_access_log(json.loads(block.text))
        elif block.name:
            (self.folder / block.name).write_text(block.text)
        else:
            pytest.fail(f"{block}: what is this?")

    def run(self, command: str, shown: str, block: Block) -> None:
        if command.startswith(NOT_RUN):
            return
        if command.startswith("gunicorn "):
            self.start_application(command.removesuffix("&"))
        elif command.startswith("twistd "):
            self.start_proxy(command)
            self.await_log(shown, block)
        elif found := re.fullmatch(r"kill %(\d+)", command):
            job = self.jobs[int(found[1]) - 1]
            job.terminate()
            job.wait(PATIENCE)
        else:
            done = subprocess.run(
                ["bash", "-c", command.replace("curl ", "curl -sS ")],
                cwd=self.folder,
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
                text=True,
                check=False,
            )
            message = f"{block}: {command}\n{done.stdout}\nis not what is shown:\n{shown}"
            assert is_shown(done.stdout, shown), message

    def start_application(self, command: str) -> None:
        arguments = shlex.split(command)[1:]
        job = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *arguments],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.jobs.append(job)
        host, _, port = arguments[arguments.index("--bind") + 1].partition(":")
        wait_until(f"{command} listens", lambda: listens(host, int(port)))

    def start_proxy(self, command: str) -> None:
        with self.output.open("wb") as output:
            self.proxy = subprocess.Popen(
                shlex.split(command),
                cwd=self.folder,
                env=self.env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def await_log(self, shown: str, block: Block) -> None:
        for line in shown.splitlines():
            if line != "…":
                expected = pattern(line)

                def said(expected: re.Pattern[str] = expected) -> object:
                    return expected.search(self.log(), self.bookmark)

                wait_until(f"{block}: {line}", said)

    def look_at_access_log(self, shown: dict[str, object]) -> None:
        def find() -> list[dict[str, object]]:
            lines = (line for line in self.log().splitlines() if '"msg":"Request"' in line)
            return [each for each in map(json.loads, lines) if each["path"] == shown["path"]]

        actual = wait_until("the access log", find)[0]
        assert list(actual) == list(shown)
        known = {name: value for name, value in shown.items() if value != "…"}
        assert {name: actual[name] for name in known} == known

    def leave(self) -> None:
        """Whatever happened, nothing of it is left."""
        for process in (*self.jobs, *([self.proxy] if self.proxy else [])):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 5).close()
    except OSError:
        return False
    return True


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.leave()


def test_the_tutorial_works_as_it_is_written(
    reader: Reader, require_tool: Callable[[str], str]
) -> None:
    require_tool("curl")
    if not os.environ.get("CI"):
        pytest.importorskip("flask")
        pytest.importorskip("gunicorn")
    ports = {port: str(free_port()) for port in ("3001", "3002", "8080")}
    for block in blocks(DOCS / "tutorial.md", ports):
        reader.follow(block)
    assert reader.proxy is not None
    assert reader.proxy.wait(PATIENCE) == 0
    assert "Traceback" not in reader.log()
