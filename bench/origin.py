"""The application behind every proxy: nginx, or where that is missing a small Python server."""

from __future__ import annotations

import base64
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import processes
from bench.proxies import nginx

HUGE = 10 * 1024 * 1024
BODIES = {"120b": 120, "100k": 100 * 1024, "10m": HUGE}
SCRIPT = Path(__file__).with_name("origin_script.py")
READY_SECONDS = 30.0

# `return` would answer before a POST's body has come, so /post has it collected by a second hop.
NGINX_HTTP = """\
    access_log off;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16;
    upstream sink {{
        server unix:{workdir}/sink.sock;
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen unix:{workdir}/sink.sock;
        location / {{ return 200 "ok"; }}
    }}
    server {{
        listen 127.0.0.1:{port};
        root {workdir}/www;
        location = /up {{ return 200 "ok"; }}
        location = /120b {{ return 200 "{small}"; }}
        location = /post {{
            proxy_pass http://sink;
            proxy_http_version 1.1;
            proxy_pass_request_body off;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
        }}
    }}
"""


def body(name: str) -> bytes:
    """What is served as ``/name``: letters in such an order that a piece in the wrong place shows."""
    return base64.b64encode(random.Random(name).randbytes(BODIES[name] // 4 * 3))


def write_bodies(folder: Path) -> None:
    """Make the files that are served."""
    folder.mkdir()
    for name in BODIES:
        (folder / name).write_bytes(body(name))


def start(workdir: Path, port: int) -> processes.Process:
    """Start the origin on a port of 127.0.0.1."""
    write_bodies(workdir / "www")
    program = processes.find_program("nginx")
    if program is None:
        argv = [sys.executable, str(SCRIPT), str(port), str(workdir / "www")]
        return processes.spawn(argv, workdir)
    http = NGINX_HTTP.format(workdir=workdir, port=port, small=body("120b").decode())
    return nginx.run(program, workdir, http)


@contextmanager
def running(workdir: Path) -> Iterator[int]:
    """An origin for as long as the block lasts; gives its port."""
    port = processes.free_port()
    with processes.stopped_at_exit(start(workdir, port)) as process:
        processes.wait_until(
            lambda: processes.status_of(port, "origin") == 200, process, workdir, READY_SECONDS
        )
        yield port
