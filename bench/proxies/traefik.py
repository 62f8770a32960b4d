"""Traefik, one thread of Go code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.processes import Process, first_line, spawn
from bench.proxies.base import Proxy

MIB = 1024 * 1024


def routes(case: Case, origin_port: int) -> dict[str, Any]:
    """The dynamic configuration: a router and a service each. JSON is YAML as well."""
    server = {"url": f"http://127.0.0.1:{origin_port}"}
    middlewares = ["buffer"] if case.buffering else []
    routers = {
        f"s{index}": {
            "rule": f"Host(`{host}`)",
            "service": f"s{index}",
            **({"middlewares": middlewares} if middlewares else {}),
        }
        for index, host in enumerate(case.hosts)
    }
    services = {name: {"loadBalancer": {"servers": [server]}} for name in routers}
    http: dict[str, Any] = {"routers": routers, "services": services}
    if middlewares:
        buffering = {"memRequestBodyBytes": MIB, "memResponseBodyBytes": MIB}
        http["middlewares"] = {"buffer": {"buffering": buffering}}
    return {"http": http}


class Traefik(Proxy):
    """Traefik with GOMAXPROCS=1 and a buffered JSON log."""

    name = "traefik"
    program = "traefik"

    def version(self) -> str:
        return first_line(self.path, "version").removeprefix("Version:").strip()

    def start(self, origin_port: int, listen_port: int, workdir: Path, case: Case) -> Process:
        file = workdir / "routes.yml"
        file.write_text(json.dumps(routes(case, origin_port)))
        argv = [
            self.path,
            f"--entrypoints.web.address=127.0.0.1:{listen_port}",
            f"--providers.file.filename={file}",
            "--accesslog=true",
            "--accesslog.format=json",
            f"--accesslog.filepath={workdir / 'access.log'}",
            "--accesslog.bufferingsize=100",
            "--log.level=ERROR",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
        ]
        return spawn(argv, workdir, {"GOMAXPROCS": "1"})
