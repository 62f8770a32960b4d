"""TERM, INT and USR1 (behaviour.md section 8), and kproxy as a daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.e2e.support.proxy import TWISTD, Proxy, environment
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Request, Wire, request_text, response_text
from tests.support.ports import free_port


class Held:
    """A target that answers when it is told to, but for the path /quick."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.go_on = threading.Event()

    def __call__(self, wire: Wire, request: Request) -> None:
        body = wire.read_body(request)
        if request.target != "/quick":
            self.arrived.release()
            assert self.go_on.wait(30)
        wire.send(response_text(body or b"finished"))


def start(stage: Stage, held: Held, **top: object) -> Proxy:
    target = stage.target(held)
    return stage.proxy(
        stage.deploy({"app": {"hosts": [target.address]}}, **top), healthy=("app.example",)
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_running_request_is_finished_and_idle_connections_are_closed_at_once(
    stage: Stage, number: int
) -> None:
    held = Held()
    proxy = start(stage, held)
    with proxy.connect() as idle, proxy.connect() as used, proxy.connect() as busy:
        used.send(request_text(path="/quick"))
        assert used.read_response().status == 200
        busy.send(request_text(path="/busy"))
        assert held.arrived.acquire(timeout=20)
        proxy.send_signal(number)
        assert idle.at_end()
        assert used.at_end()
        wait_until("nothing listens", lambda: not proxy.listens())
        assert not proxy.ended()
        assert busy.silent()
        held.go_on.set()
        response = busy.read_response()
        assert (response.status, response.body) == (200, b"finished")
        assert response.get("connection") == "close"
        assert busy.at_end()
    assert proxy.join() == 0
    assert [e["status"] for e in proxy.log_lines() if e["path"] == "/busy"] == [200]


def test_an_upload_that_is_under_way_is_finished(stage: Stage) -> None:
    held = Held()
    held.go_on.set()
    proxy = start(stage, held)
    with proxy.connect() as wire:
        wire.send(request_text("POST", "/upload", headers={"Content-Length": "8"}) + b"half")
        proxy.get("/quick")
        proxy.send_signal(signal.SIGTERM)
        wait_until("nothing listens", lambda: not proxy.listens())
        wire.send(b"half")
        assert wire.read_response().body == b"halfhalf"
    assert proxy.join() == 0


def test_a_request_that_does_not_end_is_cut_after_the_drain_timeout(stage: Stage) -> None:
    held = Held()
    proxy = start(stage, held, drain_timeout=1)
    with proxy.connect() as wire:
        wire.send(request_text())
        assert held.arrived.acquire(timeout=20)
        proxy.send_signal(signal.SIGTERM)
        assert wire.at_end()
    held.go_on.set()
    assert proxy.join() == 0


def test_an_end_before_any_target_is_up_is_quick_and_clean(stage: Stage) -> None:
    proxy = stage.proxy(stage.deploy({"app": {"hosts": [f"127.0.0.1:{free_port()}"]}}))
    assert proxy.get().status == 503
    assert proxy.stop() == 0


def test_usr1_opens_the_access_log_anew_after_it_was_rotated(stage: Stage) -> None:
    file, rotated = stage.folder / "access.log", stage.folder / "access.log.1"
    held = Held()
    proxy = start(stage, held, x_kproxy={"access_log": str(file)})

    def paths(of: Path) -> list[str]:
        lines = of.read_text().splitlines() if of.exists() else []
        return [p for p in (json.loads(line)["path"] for line in lines) if p != "/up"]

    held.go_on.set()
    proxy.get("/one")
    wait_until("a line", lambda: paths(file) == ["/one"])
    file.rename(rotated)
    proxy.send_signal(signal.SIGUSR1)
    wait_until("a new file", file.exists)
    proxy.get("/two")
    wait_until("a line in the new file", lambda: paths(file) == ["/two"])
    assert paths(rotated) == ["/one"]


# As a daemon.


class Daemon:
    """kproxy as twistd puts it into the background."""

    def __init__(self, folder: Path, target: Target, config: Path, **env: str) -> None:
        self.folder = folder
        self.pidfile = folder / "kproxy.pid"
        self.logfile = folder / "kproxy.log"
        self.access_log = folder / "access.log"
        self.proxy = Proxy.__new__(Proxy)  # for its ways to ask; it is nobody's child
        self.proxy.address = "127.0.0.1"
        self.proxy.port = free_port()
        self.proxy.socket = folder / "kproxy.sock"
        self.proxy._folder = folder
        command = [
            *TWISTD,
            f"--pidfile={self.pidfile}",
            f"--logfile={self.logfile}",
            "kproxy",
            f"--config={config}",
            "--bind=127.0.0.1",
            f"--http-port={self.proxy.port}",
        ]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(
                TMPDIR=str(folder),
                KPROXY_SOCKET=str(self.proxy.socket),
                KPROXY_STATE_DIR=str(folder / "state"),
                **env,
            ),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    @property
    def pid(self) -> int | None:
        return int(self.pidfile.read_text()) if self.pidfile.exists() else None

    def runs(self) -> bool:
        pid = self.pid
        if pid is None:
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        if self.runs():
            os.kill(self.pid or 0, signal.SIGKILL)


def test_a_daemon_writes_its_logs_beside_each_other_and_ends_by_its_pid_file(stage: Stage) -> None:
    held = Held()
    held.go_on.set()
    target = stage.target(held)
    logs = stage.folder / "run"
    logs.mkdir()
    daemon = Daemon(logs, target, stage.deploy({"app": {"hosts": [target.address]}}))
    try:
        wait_until("it listens", daemon.proxy.listens)
        wait_until("it serves", lambda: daemon.proxy.get("/up").status == 200)
        assert daemon.runs()
        daemon.proxy.get("/one")

        def lines() -> list[dict[str, object]]:
            texts = daemon.access_log.read_text().splitlines()
            return [e for e in map(json.loads, texts) if e["path"] == "/one"]

        (entry,) = wait_until("a line of the access log", lines)
        assert entry["status"] == 200
        assert '"msg":"Request"' not in daemon.logfile.read_text()

        # Rotation of both logs.
        daemon.access_log.rename(logs / "access.log.1")
        daemon.logfile.rename(logs / "kproxy.log.1")
        os.kill(daemon.pid or 0, signal.SIGUSR1)
        wait_until("both are new", lambda: daemon.access_log.exists() and daemon.logfile.exists())
        daemon.proxy.get("/one")
        wait_until("a line of the new access log", lines)

        pid = daemon.pid or 0
        os.kill(pid, signal.SIGTERM)
        wait_until("it has ended", lambda: not Path(f"/proc/{pid}").exists() or zombie(pid))
        assert not daemon.pidfile.exists()
        assert not daemon.proxy.listens()
        assert "Traceback" not in daemon.logfile.read_text()
    finally:
        daemon.close()


def zombie(pid: int) -> bool:
    """Whether it has ended and nobody has asked how: a container may have no real process 1."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_daemon_with_a_bad_file_says_so_before_it_goes_into_the_background(stage: Stage) -> None:
    config = stage.folder / "deploy.yml"
    config.write_text("service: shop\nwhat: 1\n")
    pidfile = stage.folder / "kproxy.pid"
    done = subprocess.run(
        [*TWISTD, f"--pidfile={pidfile}", "kproxy", f"--config={config}"],
        cwd=stage.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "deploy.yml:2:1: what: " in done.stderr + done.stdout
    assert not pidfile.exists()
