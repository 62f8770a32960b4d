"""Caddy, one thread of Go code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.processes import Process, first_line, spawn
from bench.proxies.base import Proxy
from bench.tls import CertificateFiles, make_certificate

UNLIMITED = -1


def buffering(on: bool, version: str) -> dict[str, Any]:
    """The reverse_proxy handler's options for buffering, which were renamed in 2.7."""
    if not on:
        return {}
    numbers = re.search(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < (2, 7):
        return {"buffer_requests": True, "buffer_responses": True}
    return {"request_buffers": UNLIMITED, "response_buffers": UNLIMITED}


def route(host: str, origin_port: int, options: dict[str, Any]) -> dict[str, Any]:
    """One service."""
    handler = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"127.0.0.1:{origin_port}"}],
        "headers": {"request": {"set": {"X-Request-Id": ["{http.request.uuid}"]}}},
        **options,
    }
    return {"match": [{"host": [host]}], "handle": [handler], "terminal": True}


def with_tls(configuration: dict[str, Any], files: CertificateFiles, name: str) -> None:
    """Let it serve HTTPS, and HTTP/2 to who asks for it; `name` to who names no host."""
    apps = configuration["apps"]
    paths = {"certificate": str(files.certificate), "key": str(files.key)}
    apps["tls"] = {"certificates": {"load_files": [paths]}}
    server = apps["http"]["servers"]["bench"]
    server["protocols"] = ["h1", "h2"]
    server["tls_connection_policies"] = [{"default_sni": name}]


def configuration(listen_port: int, workdir: Path, routes: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole configuration, in Caddy's own JSON."""
    access_log = {"output": "file", "filename": str(workdir / "access.log"), "roll": False}
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {
            "logs": {
                "default": {"level": "ERROR"},
                "access": {
                    "writer": access_log,
                    "encoder": {"format": "json"},
                    "include": ["http.log.access"],
                },
            }
        },
        "apps": {
            "http": {
                "servers": {
                    "bench": {
                        "listen": [f"127.0.0.1:{listen_port}"],
                        "protocols": ["h1"],
                        "automatic_https": {"disable": True},
                        "logs": {},
                        "routes": routes,
                    }
                }
            }
        },
    }


class Caddy(Proxy):
    """Caddy with GOMAXPROCS=1 and its usual JSON log."""

    name = "caddy"
    program = "caddy"
    serves_tls = True

    def version(self) -> str:
        return first_line(self.path, "version").split()[0]

    def start(self, origin_port: int, listen_port: int, workdir: Path, case: Case) -> Process:
        options = buffering(bool(case.buffering), self.version())
        routes = [route(host, origin_port, options) for host in case.hosts]
        file = workdir / "caddy.json"
        whole = configuration(listen_port, workdir, routes)
        if case.tls:
            with_tls(whole, make_certificate(workdir, case.host(0)), case.host(0))
        file.write_text(json.dumps(whole))
        return spawn(
            [self.path, "run", "--config", str(file)],
            workdir,
            {"GOMAXPROCS": "1", "HOME": str(workdir), "XDG_DATA_HOME": str(workdir)},
        )
