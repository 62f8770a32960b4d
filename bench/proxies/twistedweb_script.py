"""A reverse proxy of stock twisted.web: ORIGIN_PORT LISTEN_PORT HOSTS_FILE. Logs JSON on stdout."""

# mypy: disable-error-code="no-untyped-call,arg-type"
from __future__ import annotations

import json
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.web.http import Request
from twisted.web.proxy import ReverseProxyResource
from twisted.web.server import Site
from twisted.web.vhost import NameVirtualHost


def text(value: bytes | None) -> str:
    """A header or path as the log shows it."""
    return (value or b"").decode("latin-1")


class LoggingSite(Site):
    """A Site whose access log has the fields of the other proxies'."""

    def log(self, request: Request) -> None:
        entry = {
            "level": "INFO",
            "msg": "Request",
            "host": text(request.getHeader(b"host")),
            "path": text(request.uri),
            "status": request.code,
            "method": text(request.method),
            "req_content_type": text(request.getHeader(b"content-type")),
            "resp_content_length": request.sentLength,
            "client_addr": request.getClientAddress().host,
            "client_port": request.getClientAddress().port,
            "user_agent": text(request.getHeader(b"user-agent")),
            "proto": text(request.clientproto),
        }
        sys.stdout.write(json.dumps(entry) + "\n")


def main(origin_port: int, listen_port: int, hosts: list[str]) -> None:
    """Listen until a signal ends it."""
    root = NameVirtualHost()
    for host in hosts:
        root.addHost(host.encode("ascii"), ReverseProxyResource("127.0.0.1", origin_port, b""))
    reactor.listenTCP(listen_port, LoggingSite(root), interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]).read_text().split())
