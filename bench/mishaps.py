"""What becomes of requests when workers are restarted or killed, on a kproxy that has workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench import processes, procfs
from bench.cases import Case
from bench.deployments import Downloads, spread
from bench.metrics import Sample
from bench.runner import Running
from bench.strict import Clients
from kproxy.cli.client import Client
from kproxy.cli.errors import CommandError

LOAD = Case("strict", "GETs of 120 bytes, each answer looked at")
SETTLE_SECONDS = 0.5
"""In which clients begin, or find another connection."""
DOWNLOAD_SECONDS = 10.0
"""How long a download takes while there are restarts: longer than several of them."""
COMMAND_SECONDS = 60.0
SHOWN = 5
"""So many failures are told in words."""


class Controlled:
    """A kproxy with workers, and its commands."""

    def __init__(self, running: Running, program: Path, count: int) -> None:
        """@param program: the command ``kproxy`` of the same installation.
        @param count: how many workers it should have."""
        self.running = running
        self._program = program
        self._count = count
        self._socket = running.workdir / "kproxy.sock"
        self._client = Client(str(self._socket), timeout=COMMAND_SECONDS)

    def serving(self, without: int = 0) -> list[int]:
        """Wait until all workers serve, and none of old is left; their process ids.

        @param without: that of one who must not be among them.
        """
        pids: list[int] = []

        def all_serve() -> bool:
            try:
                workers = self._client.ask("GET", "/services")["workers"]
            except CommandError:  # the control process is being replaced
                return False
            pids[:] = [worker["pid"] for worker in workers]
            states = [worker["state"] for worker in workers]
            return states == ["serving"] * self._count and without not in pids

        running = self.running
        processes.wait_until(all_serve, running.process, running.workdir, COMMAND_SECONDS)
        return pids

    def command(self, *words: str) -> str:
        """Run ``kproxy``; what it said if it failed, else nothing."""
        done = subprocess.run(
            [str(self._program), *words, "--socket", str(self._socket)],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return "" if done.returncode == 0 else done.stderr.strip() or f"status {done.returncode}"

    def complaints(self) -> list[str]:
        """The warnings and errors that it has written so far."""
        found = []
        for line in (self.running.workdir / "stdout").read_text(errors="replace").splitlines():
            if '"level":"WARN"' in line or '"level":"ERROR"' in line:
                with suppress(ValueError, KeyError):
                    found.append(json.loads(line)["msg"])
        return found


def restarts(kproxy: Controlled, words: tuple[str, ...], count: int) -> dict[str, Any]:
    """The same clients and downloads at rest, and while one restart follows the other.

    @param words: the command.
    """
    took: list[float] = []
    refused: list[str] = []

    def restart() -> None:
        for _ in range(count):
            began = time.perf_counter()
            said = kproxy.command(*words)
            took.append((time.perf_counter() - began) * 1e3)
            if said:
                refused.append(said)

    port = kproxy.running.port
    kproxy.serving()
    at_rest = under_load(Downloads(port), lambda: time.sleep(max(2.0, count / 4)))
    restarting = under_load(Downloads(port, DOWNLOAD_SECONDS), restart)
    return {
        "restarts": count,
        "took_ms": spread(took),
        "refused": refused,
        "at_rest": at_rest,
        "restarting": restarting,
        "complaints": kproxy.complaints(),
    }


def under_load(downloads: Downloads, act: Callable[[], object]) -> dict[str, Any]:
    """What strict clients and long downloads see meanwhile."""
    with downloads.running(), Clients(LOAD, downloads.port).running() as seen:
        time.sleep(SETTLE_SECONDS)
        act()
    return {
        **seen.sample(),
        "failures": [failure.why for failure in seen.failures[:SHOWN]],
        "downloads": downloads.complete,
        "failed_downloads": downloads.failures,
    }


def kill(kproxy: Controlled) -> Sample:
    """End one of the workers at once; what its clients and the others lose.

    Nobody's connection ends before, so that the list of those which the worker holds is right. And as
    the clients never wait between two requests, each of these has one under way.
    """
    port = kproxy.running.port
    with Clients(LOAD, port).running() as seen:
        victim = kproxy.serving()[0]
        time.sleep(SETTLE_SECONDS)
        before = len(seen.failures)
        held = procfs.client_ports(victim, port)
        began = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        kproxy.serving(without=victim)
        replaced_ms = (time.perf_counter() - began) * 1e3
        time.sleep(SETTLE_SECONDS)
    lost = [failure.client_port for failure in seen.failures[before:]]
    return {
        "held": len(held),
        "lost": len(lost),
        "lost_of_others": before + sum(port not in held for port in lost),
        "replaced_ms": replaced_ms,
    }
