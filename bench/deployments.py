"""What a deployment costs those who ask meanwhile: ``python -m bench.deployments``.

kproxy alone, since what a deployment is differs from proxy to proxy. Two targets take turns; the load is
that of the other cases (wrk, 32 keep-alive connections), with long downloads beside it. The same load
without deployments comes first. Then, without load, many deployments, and what they leave in memory.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from bench import origin, processes, procfs, wrk
from bench.cases import Case
from bench.cli import machine, positive, tell
from bench.proxies.kproxy import TWISTD, KProxy

LOAD = Case("deployments", "GETs of 120 bytes while deployments go on")
DOWNLOADS = 4
DOWNLOAD_SECONDS = 4.0
"""How long one takes, if nothing else is said: the client reads no faster."""
EVERY_SECONDS = 0.3
"""How often a deployment begins."""
SERVICE = "/services/bench"


class DeploymentError(Exception):
    """A deployment failed; the text says why."""


@dataclass
class Deployed:
    """When things happened in one deployment, in seconds."""

    healthy: float = 0.0
    switched: float = 0.0
    done: float = 0.0


@dataclass
class Downloads:
    """Clients that read slowly, one response after the other, and none begins when another does.

    @ivar seconds: how long one takes.
    """

    port: int
    seconds: float = DOWNLOAD_SECONDS
    complete: int = 0
    failures: list[str] = field(default_factory=list)
    _whole: ClassVar[bytes] = hashlib.sha256(origin.body("10m")).digest()
    _stop: threading.Event = field(default_factory=threading.Event)

    def read(self, delay: float) -> None:
        self._stop.wait(delay)
        while not self._stop.is_set():
            try:
                self._one()
                self.complete += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))

    def _one(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/10m", headers={"Host": LOAD.host(0)})
        response = connection.getresponse()
        pieces = 100
        left, received = origin.HUGE, hashlib.sha256()
        while left:
            piece = response.read(min(left, origin.HUGE // pieces))
            if not piece:
                raise http.client.IncompleteRead(b"", left)
            left -= len(piece)
            received.update(piece)
            time.sleep(self.seconds / pieces)
        connection.close()
        if received.digest() != self._whole:
            raise http.client.HTTPException("the body was another one")

    @contextmanager
    def running(self) -> Iterator[None]:
        delays = [number * self.seconds / DOWNLOADS for number in range(DOWNLOADS)]
        threads = [threading.Thread(target=self.read, args=(delay,)) for delay in delays]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


class Commands:
    """The admin interface of the kproxy that is measured."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def deploy(self, target: str) -> Deployed:
        """Deploy, to the end, when the old target is empty."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(str(self._path))
            body = json.dumps({"target": [target], "drain_timeout": 60.0}).encode()
            head = f"POST {SERVICE}/deploy HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
            sock.sendall(head.encode() + body)
            deployed = Deployed()
            with sock.makefile("rb") as lines:
                for line in lines:
                    if line.startswith(b"{"):
                        self._follow(json.loads(line), deployed)
        return deployed

    def _follow(self, event: dict[str, Any], deployed: Deployed) -> None:
        now = time.perf_counter()
        kind = event.get("event")
        if kind == "check" and event["healthy"]:
            deployed.healthy = now
        elif kind == "switched":
            deployed.switched = now
        elif kind == "done":
            deployed.done = now
        elif kind in ("failed", None):
            raise DeploymentError(str(event))


class CommandLineOnly(KProxy):
    """kproxy without a configuration file: a service has what its deployment says."""

    def start(
        self, origin_port: int, listen_port: int, workdir: Path, case: Case
    ) -> processes.Process:
        argv = [str(TWISTD), "-n", "--pidfile=", "kproxy"]
        argv += ["--http-port", str(listen_port), "--https-port", "0", "--bind", "127.0.0.1"]
        own = {"KPROXY_SOCKET": "kproxy.sock", "KPROXY_STATE_DIR": "state"}
        return processes.spawn(argv, workdir, {"PYTHONPATH": self.path, **own})


def under_load(
    commands: Commands, port: int, folder: Path, targets: list[str], count: int
) -> dict[str, Any]:
    """The same load without deployments and with them."""
    lua = folder / "bench.lua"
    lua.write_text(wrk.script(LOAD))
    seconds = max(3, round(count * EVERY_SECONDS * 1.1))
    wrk.run(LOAD, port, lua, 1)
    results: dict[str, Any] = {}
    for phase in ("without", "with"):
        downloads = Downloads(port)
        with downloads.running(), ExitStack() as stack:
            deployer = Deployer(commands, targets, count if phase == "with" else 0)
            stack.callback(deployer.join)
            deployer.start()
            totals = wrk.run(LOAD, port, lua, seconds)
        if deployer.failure is not None:
            raise deployer.failure
        sample = wrk.sample(totals, 0)
        results[phase] = {
            "requests": totals["requests"],
            "failed": sample["errors"],
            "p50_ms": sample["p50_ms"],
            "p99_ms": sample["p99_ms"],
            "downloads": downloads.complete,
            "failed_downloads": len(downloads.failures),
        }
        if deployer.deployed:
            results["deployments"] = len(deployer.deployed)
            took = [(each.switched - each.healthy) * 1e3 for each in deployer.deployed]
            results["healthy_to_switched_ms"] = spread(took)
    results["p99_ratio"] = results["with"]["p99_ms"] / results["without"]["p99_ms"]
    return results


class Deployer(threading.Thread):
    """Deploys one target and the other; who waits for the old one to be empty does so apart."""

    def __init__(self, commands: Commands, targets: list[str], count: int) -> None:
        super().__init__()
        self._commands = commands
        self._targets = targets
        self._count = count
        self.deployed: list[Deployed] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        waiting = []
        for number in range(self._count):
            began = time.perf_counter()
            thread = threading.Thread(target=self._one, args=(self._targets[number % 2],))
            thread.start()
            waiting.append(thread)
            time.sleep(max(0.0, EVERY_SECONDS - (time.perf_counter() - began)))
        for thread in waiting:
            thread.join()

    def _one(self, target: str) -> None:
        try:
            self.deployed.append(self._commands.deploy(target))
        except (OSError, DeploymentError) as error:
            self.failure = error


def memory_of(commands: Commands, pid: int, targets: list[str], count: int) -> dict[str, Any]:
    """Deployments one after the other without load: how long each, and what they leave."""
    took = []
    kept = []
    for number in range(count):
        deployed = commands.deploy(targets[number % 2])
        took.append((deployed.done - deployed.healthy) * 1e3)
        if number + 1 in (count // 10, count):
            kept.append(procfs.memory_kb(procfs.session_pids(pid)))
    return {
        "deployments": count,
        "healthy_to_done_ms": spread(took),
        "memory_kb": {"after_a_tenth": kept[0], "after_all": kept[-1]},
    }


def spread(values: list[float]) -> dict[str, float]:
    """The middle and the worst."""
    return {"median": round(statistics.median(values), 2), "most": round(max(values), 2)}


def measure(deployments: int, many: int) -> dict[str, Any]:
    """Everything, on a kproxy of its own."""
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(TemporaryDirectory())) for _ in range(3)]
        ports = [stack.enter_context(origin.running(folder)) for folder in folders[:2]]
        targets = [f"127.0.0.1:{port}" for port in ports]
        port, workdir = processes.free_port(), folders[2]
        process = stack.enter_context(
            processes.stopped_at_exit(CommandLineOnly().start(0, port, workdir, LOAD))
        )
        commands = Commands(workdir / "kproxy.sock")
        processes.wait_until((workdir / "kproxy.sock").exists, process, workdir, 30)
        commands.deploy(targets[1])
        tell(f"{deployments} deployments under load")
        loaded = under_load(commands, port, workdir, targets, deployments)
        tell(f"{many} deployments without load")
        return {"under_load": loaded, "many": memory_of(commands, process.pid, targets, many)}


def main() -> int:
    """Measure, and print the results as JSON; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.deployments", description=__doc__)
    parser.add_argument("--deployments", type=positive, default=100, help="under load (100)")
    parser.add_argument("--many", type=positive, default=1000, help="without load (1000)")
    options = parser.parse_args()
    if processes.find_program("wrk") is None:
        print(wrk.INSTALL_HINT, file=sys.stderr)
        return 1
    try:
        results = measure(options.deployments, options.many)
    except (processes.NotReadyError, wrk.LoadError, DeploymentError, OSError) as failure:
        print(f"nothing was measured: {failure}", file=sys.stderr)
        return 1
    print(json.dumps({"machine": machine(), **results}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
