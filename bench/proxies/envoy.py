"""Envoy, one worker thread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.processes import Process, first_line, spawn
from bench.proxies.base import Proxy

TYPES = "type.googleapis.com/envoy.extensions"
LOG_FORMAT = {
    "time": "%START_TIME%",
    "host": "%REQ(:AUTHORITY)%",
    "path": "%REQ(:PATH)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "status": "%RESPONSE_CODE%",
    "service": "%UPSTREAM_CLUSTER%",
    "target": "%UPSTREAM_HOST%",
    "duration": "%DURATION%",
    "method": "%REQ(:METHOD)%",
    "req_content_length": "%BYTES_RECEIVED%",
    "req_content_type": "%REQ(CONTENT-TYPE)%",
    "resp_content_length": "%BYTES_SENT%",
    "resp_content_type": "%RESP(CONTENT-TYPE)%",
    "client_addr": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "remote_addr": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "proto": "%PROTOCOL%",
}


def address(port: int) -> dict[str, Any]:
    """A port of 127.0.0.1."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def typed(name: str, kind: str, **options: Any) -> dict[str, Any]:
    """An extension of Envoy's with its options."""
    return {"name": name, "typed_config": {"@type": f"{TYPES}.{kind}", **options}}


def cluster(index: int, origin_port: int) -> dict[str, Any]:
    """One service's targets."""
    endpoint = {"endpoint": {"address": address(origin_port)}}
    return {
        "name": f"s{index}",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": f"s{index}",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def connection_manager(case: Case, workdir: Path) -> dict[str, Any]:
    """The filter that speaks HTTP: log, routes, and buffering if asked for."""
    filters = [typed("envoy.filters.http.router", "filters.http.router.v3.Router")]
    if case.buffering:
        buffer = "filters.http.buffer.v3.Buffer"
        filters.insert(0, typed("envoy.filters.http.buffer", buffer, max_request_bytes=1024 * 1024))
    log = typed(
        "envoy.access_loggers.file",
        "access_loggers.file.v3.FileAccessLog",
        path=str(workdir / "access.log"),
        log_format={"json_format": LOG_FORMAT},
    )
    hosts = [
        {
            "name": f"s{index}",
            "domains": [host],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": f"s{index}"}}],
        }
        for index, host in enumerate(case.hosts)
    ]
    return typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="bench",
        access_log=[log],
        http_filters=filters,
        route_config={"name": "bench", "virtual_hosts": hosts},
    )


class Envoy(Proxy):
    """Envoy with ``--concurrency 1`` and a JSON log."""

    name = "envoy"
    program = "envoy"

    def version(self) -> str:
        return first_line(self.path, "--version")

    def start(self, origin_port: int, listen_port: int, workdir: Path, case: Case) -> Process:
        listener = {
            "name": "bench",
            "address": address(listen_port),
            "filter_chains": [{"filters": [connection_manager(case, workdir)]}],
        }
        clusters = [cluster(index, origin_port) for index in range(case.services)]
        file = workdir / "envoy.json"
        file.write_text(
            json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}})
        )
        argv = [self.path, "--config-path", str(file), "--concurrency", "1"]
        return spawn([*argv, "--use-dynamic-base-id", "--log-level", "error"], workdir)
