"""HAProxy, one thread."""

from __future__ import annotations

from pathlib import Path

from bench.cases import Case
from bench.processes import Process, first_line, spawn
from bench.proxies.base import Proxy
from bench.tls import make_certificate

CONFIGURATION = """\
global
    nbthread 1
    maxconn 4000
    log stdout len 4096 format raw daemon info
{tune}
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    timeout http-keep-alive 3600s
    http-reuse always
{buffer}
frontend bench
    bind 127.0.0.1:{listen_port}{tls}
    http-request capture req.hdr(Host) len 128
    http-request capture req.hdr(User-Agent) len 128
    http-request capture req.hdr(Content-Type) len 128
    http-request capture req.hdr(X-Forwarded-For) len 128
    http-request capture req.hdr(Cache-Control) len 128
    http-request capture req.hdr(Last-Modified) len 128
    capture response header Content-Type len 128
    capture response header Content-Length len 20
    http-request set-header X-Request-ID %[uuid()] unless {{ req.hdr(X-Request-ID) -m found }}
    http-request set-var(txn.request_id) req.hdr(X-Request-ID)
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    option forwardfor
    log-format '{log_format}'
    use_backend %[req.hdr(Host),lower,field(1,:),map({services})]
"""

LOG_FIELDS = (
    '"time":"%t","level":"INFO","msg":"Request","host":"%[capture.req.hdr(0),json(utf8s)]"',
    '"port":%fp,"path":"%[capture.req.uri,json(utf8s)]"',
    '"request_id":"%[var(txn.request_id),json(utf8s)]","status":%ST,"service":"%b"',
    '"target":"%si:%sp","duration":%Ta,"method":"%HM"',
    '"req_content_type":"%[capture.req.hdr(2),json(utf8s)]"',
    '"resp_content_length":"%[capture.res.hdr(1),json(utf8s)]"',
    '"resp_content_type":"%[capture.res.hdr(0),json(utf8s)]"',
    '"client_addr":"%ci","client_port":%cp',
    '"remote_addr":"%[capture.req.hdr(3),json(utf8s)]"',
    '"user_agent":"%[capture.req.hdr(1),json(utf8s)]","proto":"%HV","scheme":"http"',
    '"req_cache_control":"%[capture.req.hdr(4),json(utf8s)]"',
    '"req_last_modified":"%[capture.req.hdr(5),json(utf8s)]"',
)
"""The query is part of ``path``."""

SERVICE = """\
backend service{index}
    server origin 127.0.0.1:{origin_port}
"""


class HAProxy(Proxy):
    """HAProxy with a JSON log on stdout, which is a file."""

    name = "haproxy"
    program = "haproxy"
    serves_tls = True

    def version(self) -> str:
        return first_line(self.path, "-v").split()[2]

    def start(self, origin_port: int, listen_port: int, workdir: Path, case: Case) -> Process:
        services = workdir / "services.map"
        services.write_text("".join(f"{host} service{i}\n" for i, host in enumerate(case.hosts)))
        buffer_bytes = case.body_bytes + 32 * 1024
        tls = ""
        if case.tls:
            tls = f" ssl crt {make_certificate(workdir, case.host(0)).both}"
            tls += " alpn h2,http/1.1 ssl-min-ver TLSv1.2"
        main = CONFIGURATION.format(
            # It collects a body only as far as one of its buffers reaches.
            tune=f"    tune.bufsize {buffer_bytes}" if case.buffering else "",
            buffer="    option http-buffer-request" if case.buffering else "",
            listen_port=listen_port,
            log_format="{" + ",".join(LOG_FIELDS) + "}",
            services=services,
            tls=tls,
        )
        backends = (SERVICE.format(index=i, origin_port=origin_port) for i in range(case.services))
        file = workdir / "haproxy.cfg"
        file.write_text(main + "".join(backends))
        return spawn([self.path, "-db", "-f", str(file)], workdir)
