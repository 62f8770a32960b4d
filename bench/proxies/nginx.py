"""nginx, by default with one worker."""

from __future__ import annotations

import os
from pathlib import Path

from bench.cases import Case
from bench.processes import Process, first_line, spawn
from bench.proxies.base import Proxy
from bench.tls import make_certificate

MAIN = """\
{user}daemon off;
worker_processes {workers};
worker_rlimit_nofile 16384;
pid {workdir}/nginx.pid;
error_log {workdir}/error.log;
events {{ worker_connections 8192; }}
http {{
    client_body_temp_path {workdir}/body;
    proxy_temp_path {workdir}/proxy;
    fastcgi_temp_path {workdir}/fastcgi;
    uwsgi_temp_path {workdir}/uwsgi;
    scgi_temp_path {workdir}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    server_names_hash_max_size 65536;
    server_names_hash_bucket_size 128;
    client_max_body_size 1g;
    client_body_buffer_size 1m;
{http}
}}
"""
"""Shared with the origin: braces doubled, since it is filled in by ``str.format``."""

HTTP = """\
    map $http_x_request_id $the_request_id {
        default $http_x_request_id;
        "" $request_id;
    }
    log_format json escape=json '{"time":"$time_iso8601","level":"INFO","msg":"Request",'
        '"host":"$host","port":$server_port,"path":"$uri","request_id":"$the_request_id",'
        '"status":$status,"service":"$proxy_host","target":"$upstream_addr",'
        '"duration":$request_time,"method":"$request_method",'
        '"req_content_length":"$content_length","req_content_type":"$content_type",'
        '"resp_content_length":$body_bytes_sent,"resp_content_type":"$sent_http_content_type",'
        '"client_addr":"$remote_addr","client_port":$remote_port,'
        '"remote_addr":"$http_x_forwarded_for","user_agent":"$http_user_agent",'
        '"proto":"$server_protocol","scheme":"$scheme","query":"$args",'
        '"req_cache_control":"$http_cache_control",'
        '"req_last_modified":"$http_last_modified"}';
    access_log access.log json buffer=64k flush=1s;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Request-ID $the_request_id;
"""

SERVICE = """\
    upstream service{index} {{
        server 127.0.0.1:{origin_port};
        keepalive 32;
        keepalive_requests 1000000000;
        keepalive_timeout 3600s;
    }}
    server {{
        listen 127.0.0.1:{listen_port}{listen};
        server_name {host};
        location / {{ proxy_pass http://service{index}; }}
    }}
"""

TLS = """\
    ssl_certificate {files.certificate};
    ssl_certificate_key {files.key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:bench:10m;
"""


def configuration(workdir: Path, http: str, workers: int = 1) -> str:
    """A whole configuration file around what goes into its http block."""
    user = "user root;\n" if os.geteuid() == 0 else ""
    return MAIN.format(user=user, workdir=workdir, workers=workers, http=http)


def run(program: str, workdir: Path, http: str, workers: int = 1) -> Process:
    """Start nginx in ``workdir`` with what goes into its http block."""
    file = workdir / "nginx.conf"
    file.write_text(configuration(workdir, http, workers))
    argv = [program, "-p", str(workdir), "-c", str(file), "-e", str(workdir / "stderr")]
    return spawn(argv, workdir)


class Nginx(Proxy):
    """nginx with a buffered JSON log and upstream keep-alive."""

    name = "nginx"
    program = "nginx"
    serves_tls = True
    workers = 1

    def version(self) -> str:
        return first_line(self.path, "-v").removeprefix("nginx version: nginx/")

    def start(self, origin_port: int, listen_port: int, workdir: Path, case: Case) -> Process:
        http = [HTTP]
        if case.buffering is not None:
            state = "on" if case.buffering else "off"
            http.append(f"    proxy_request_buffering {state};\n    proxy_buffering {state};\n")
        listen = ""
        if case.tls:
            http.append(TLS.format(files=make_certificate(workdir, case.host(0))))
            listen = " ssl http2" if case.http2 else " ssl"
        http += [
            SERVICE.format(
                index=i,
                origin_port=origin_port,
                listen_port=listen_port,
                listen=listen,
                host=host,
            )
            for i, host in enumerate(case.hosts)
        ]
        return run(self.path, workdir, "".join(http), self.workers)
