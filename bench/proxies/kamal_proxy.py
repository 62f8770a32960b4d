"""kamal-proxy, one thread of Go code."""

from __future__ import annotations

import shlex
from pathlib import Path

from bench.cases import Case
from bench.processes import Process, free_port, spawn
from bench.proxies.base import Proxy

SCRIPT = """\
until {deploy} 2>deploy.log; do sleep 0.02; done &
exec {run}
"""


class KamalProxy(Proxy):
    """kamal-proxy with GOMAXPROCS=1; its JSON log goes to stdout, which is a file."""

    name = "kamal-proxy"
    program = "kamal-proxy"

    def version(self) -> str:
        return "of an unknown version"

    def cannot(self, case: Case) -> str | None:
        if case.services > 1:
            return "it takes one command per service"
        return super().cannot(case)

    def start(self, origin_port: int, listen_port: int, workdir: Path, case: Case) -> Process:
        run = [self.path, "run", "--http-port", str(listen_port), "--https-port", str(free_port())]
        deploy = [self.path, "deploy", "bench", "--target", f"127.0.0.1:{origin_port}"]
        deploy += ["--host", case.host(0)]
        if case.buffering:
            deploy += ["--buffer-requests", "--buffer-responses"]
        script = SCRIPT.format(run=shlex.join(run), deploy=shlex.join(deploy))
        folders = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME")
        environment = {"GOMAXPROCS": "1", **dict.fromkeys(folders, str(workdir))}
        return spawn(["/bin/sh", "-c", script], workdir, environment)
