"""The real proxy, as a process of its own."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.support.waiting import PATIENCE, wait_until
from tests.e2e.support.wire import Response, Wire, request_text
from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
INSTALLED = (BIN / "kproxy").exists()
TWISTD = [str(BIN / "twistd")]
KPROXY = (
    [str(BIN / "kproxy")]
    if INSTALLED
    else [sys.executable, "-c", "import sys; from kproxy.cli.main import main; sys.exit(main())"]
)


def environment(**changes: str) -> dict[str, str]:
    """The environment of the proxy: nothing of the tests' own kproxy settings, but for the workers:
    ``KPROXY_WORKERS=2 pytest`` tries all with them. Tests that are not about them do without, which
    halves the time that a start takes."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("KPROXY_")}
    env["KPROXY_WORKERS"] = os.environ.get("KPROXY_WORKERS", "0")
    if not INSTALLED:
        env["PYTHONPATH"] = str(ROOT)
    path = changes.pop("PYTHONPATH", None)
    if path is not None:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (path, env.get("PYTHONPATH"))))
    return {**env, **changes}


def run(
    command: Sequence[str | Path], cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [str(part) for part in command],
        env=environment(**env),
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def write_deploy(path: Path, roles: Mapping[str, Mapping[str, Any]], **top: Any) -> Path:
    """Write a deploy.yml.

    @param roles: name -> ``hosts`` and ``proxy``, the first one being the primary. A role without
        ``host`` gets its own name with ``.example``, unless it says ``host: None``.
    @param top: the other sections; ``x_kproxy`` is ``x-kproxy``.
    """
    servers = {}
    for name, role in roles.items():
        proxy = {"host": f"{name}.example", **role.get("proxy", {})}
        if "hosts" in proxy or proxy["host"] is None:
            del proxy["host"]
        proxy["healthcheck"] = {"interval": 0.1, **proxy.get("healthcheck", {})}
        servers[name] = {"hosts": list(role["hosts"]), "proxy": proxy}
    if "x_kproxy" in top:
        top["x-kproxy"] = top.pop("x_kproxy")
    document = {"service": "shop", "primary_role": next(iter(roles)), "servers": servers, **top}
    # A new file in the place of the old one: a reload never reads half of it.
    new = path.with_name(path.name + ".new")
    new.write_text(yaml.safe_dump(document, sort_keys=False))
    new.replace(path)
    return path


class Lines:
    """What a stream of a process says, line by line."""

    def __init__(self, stream: Any) -> None:
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self.lines.append(line)

    def join(self) -> None:
        self._thread.join(timeout=10)

    @property
    def text(self) -> str:
        return "".join(self.lines)


class Proxy:
    """``twistd -n kproxy``, from its start to its end."""

    def __init__(
        self,
        configs: Sequence[Path],
        folder: Path,
        *,
        options: Sequence[str] = (),
        twistd: Sequence[str] = (),
        bind: str | None = "127.0.0.1",
        port: int | None = None,
        https: bool = False,
        descriptors: int | None = None,
        **env: str,
    ) -> None:
        """@param port: 0: say nothing about it; None: a free one.
        @param https: listen for HTTPS as well, on a free port.
        @param bind: None: say nothing about it.
        @param descriptors: the limit of open files that the process gets.
        """
        self.temp = folder / "tmp"
        self.temp.mkdir(exist_ok=True)
        self.address = bind or "127.0.0.1"
        self.port = port or 0
        self.https_port = 0
        self.socket = folder / "kproxy.sock"
        self.state = folder / "state"
        self._env = environment(
            TMPDIR=str(self.temp),
            **{
                "KPROXY_SOCKET": str(self.socket),
                "KPROXY_STATE_DIR": str(self.state),
                "KPROXY_HTTPS_PORT": "0",
                **env,
            },
        )
        self._folder = folder
        self._descriptors = descriptors
        self.expect_traceback = False

        def command() -> list[str]:
            parts = [*TWISTD, "-n", "--pidfile=", *twistd, "kproxy"]
            parts += [f"--config={config}" for config in configs]
            parts += [] if port == 0 else ["--http-port", str(self.port)]
            parts += ["--https-port", str(self.https_port)] if https else []
            parts += [] if bind is None else ["--bind", bind]
            return [*parts, *options]

        self.process: subprocess.Popen[str]
        for _ in range(5):
            if port is None:
                self.port = free_port(self.address)
            if https:
                self.https_port = free_port(self.address)
            self._start(command())
            if port is not None or not self._lost_its_port():
                break

    def _start(self, command: list[str]) -> None:
        descriptors = self._descriptors

        def limit() -> None:
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        self.process = subprocess.Popen(
            command,
            env=self._env,
            cwd=self._folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=limit if descriptors is not None else None,
        )
        self.stdout = Lines(self.process.stdout)
        self.stderr = Lines(self.process.stderr)

    def _lost_its_port(self) -> bool:
        """Whether somebody else took the port between our looking and the proxy's listening."""
        wait_until("kproxy listens, or ends", lambda: self.ended() or self.listens())
        if not self.ended():
            return False
        self.join()
        return "can't listen" in self.output

    # What it says.

    @property
    def output(self) -> str:
        return self.stdout.text + self.stderr.text

    def log_lines(self) -> list[dict[str, Any]]:
        """The access log so far, but for health checks."""
        entries = [json.loads(line) for line in list(self.stdout.lines) if line.startswith("{")]
        requests = [entry for entry in entries if entry["msg"] == "Request"]
        return [entry for entry in requests if not entry["path"].endswith("/up")]

    def logged(self, count: int = 1, **fields: Any) -> Any:
        """Wait for lines of the access log that have these fields; the last of them."""

        def find() -> list[dict[str, Any]]:
            found = [
                entry
                for entry in self.log_lines()
                if all(entry.get(name) == value for name, value in fields.items())
            ]
            return found if len(found) >= count else []

        return wait_until(f"an access log line with {fields} in\n{self.output}", find)[-1]

    def said(self, text: str, count: int = 1) -> str:
        """Wait until the log of the proxy itself has a line with this text; that line."""

        def find() -> list[str]:
            lines = [line for line in (*self.stdout.lines, *self.stderr.lines) if text in line]
            return lines if len(lines) >= count else []

        try:
            return wait_until(text, find)[-1]
        except AssertionError:
            raise AssertionError(f"the log never said {text!r}:\n{self.output}") from None

    # Its life.

    def ended(self) -> bool:
        return self.process.poll() is not None

    def listens(self) -> bool:
        try:
            socket.create_connection((self.address, self.port), 5).close()
        except OSError:
            return False
        return True

    def wait_until_listening(self) -> None:
        wait_until("kproxy listens", lambda: self.ended() or self.listens())
        if self.ended():
            self.join()
            raise AssertionError(f"kproxy ended:\n{self.output}")

    def wait_until_healthy(self, *urls: str) -> None:
        """@param urls: ``HOST/PREFIX`` of each service, whose health check path is asked for."""
        self.wait_until_listening()
        for url in urls:
            host, _, prefix = url.partition("/")
            path = f"/{prefix}/up" if prefix else "/up"

            def healthy(host: str = host, path: str = path) -> bool:
                return self.get(path, host).status == 200

            wait_until(f"{url} is healthy", healthy)

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Nothing of it runs meanwhile: what happens, it sees all at once afterwards."""
        self.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
        try:
            yield
        finally:
            self.send_signal(signal.SIGCONT)

    def join(self) -> int:
        """Wait for the end; the exit status."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"kproxy does not end:\n{self.output}") from None
        self.stdout.join()
        self.stderr.join()
        return status

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; the exit status."""
        if not self.ended():
            self.send_signal(number)
        return self.join()

    def close(self) -> None:
        """The end of the test: whatever happened, nothing of the proxy is left."""
        if not self.ended():
            self.process.kill()
        self.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        if not self.expect_traceback:
            assert "Traceback" not in self.output, self.output

    # Its command.

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``kproxy`` against it."""
        return run([*KPROXY, *arguments], cwd=self._folder, KPROXY_SOCKET=str(self.socket))

    def command_in_background(self, *arguments: str) -> subprocess.Popen[str]:
        """The same, without waiting for its end."""
        return subprocess.Popen(
            [*KPROXY, *arguments],
            env=environment(KPROXY_SOCKET=str(self.socket)),
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    # Its processes.

    def pids(self) -> list[int]:
        """Its own and those of its workers."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    # Its memory.

    def memory(self) -> Memory:
        return Memory(self.process.pid)

    # Talking to it.

    def connect(self) -> Wire:
        return Wire(socket.create_connection((self.address, self.port), PATIENCE))

    def connect_raw_tls(self) -> socket.socket:
        """A connection to the port for HTTPS, on which nothing has been said."""
        return socket.create_connection((self.address, self.https_port), PATIENCE)

    def connect_tls(
        self, context: ssl.SSLContext, server_name: str | None = "app.example", session: Any = None
    ) -> Wire:
        sock = self.connect_raw_tls()
        try:
            tls = context.wrap_socket(sock, server_hostname=server_name, session=session)
        except OSError:
            sock.close()
            raise
        return Wire(tls)

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        host: str = "app.example",
        headers: Any = None,
        body: bytes = b"",
    ) -> Response:
        """One request over a connection of its own."""
        with self.connect() as wire:
            wire.send(request_text(method, path, host, headers, body))
            return wire.read_response(method)

    def get(self, path: str = "/", host: str = "app.example", **headers: str) -> Response:
        """``x_y="z"`` becomes the header ``x-y: z``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", path, host, named)

    def refuse(self, data: bytes) -> Response:
        """Send bytes that are no request; the answer, after which the connection has to end."""
        with self.connect() as wire:
            wire.send(data)
            response = wire.read_response()
            assert wire.at_end(), "the connection was not closed"
            return response


class Memory:
    """The resident memory of a process since this was made, in bytes (Linux)."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        # "5" resets the peak, see proc(5).
        (self._folder / "clear_refs").write_text("5")
        self.start = self._read("VmRSS")

    def _read(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {name}")

    def growth(self) -> int:
        """How far the peak is above the start."""
        return self._read("VmHWM") - self.start


class Load:
    """Clients that ask without a pause, until told to stop, and remember every failure."""

    def __init__(self, ask: Callable[[Callable[[], bool]], None], clients: int) -> None:
        """@param ask: one client: runs until its argument says so; raises on a failure."""
        self.failures: list[BaseException] = []
        self._stop = threading.Event()

        def client() -> None:
            try:
                ask(self._stop.is_set)
            except BaseException as error:
                self.failures.append(error)

        self._threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        deadline = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
