"""``ssl: true``: a proxy, and the CA (Debian's ``pebble -strict``) that it has certificates from."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Script, says
from tests.e2e.support.waiting import PATIENCE
from tests.e2e.support.wire import Wire, request_text
from tests.support.pebble import Pebble
from tests.support.ports import free_ports

HOST = "app.example"
PAGE = says("a page")
StartPebble = Callable[..., Pebble]


class World:
    """A CA, and a proxy on the ports that the CA looks at."""

    def __init__(self, stage: Stage, start_pebble: StartPebble, **ca: Any) -> None:
        self.stage = stage
        self.http, self.https = free_ports(2)
        # As CAs are: a name that was validated is sometimes, but not always, as good again.
        options = {"authorization_reuse": 50, **ca}
        self.ca = start_pebble(http_port=self.http, tls_port=self.https, **options)
        self.root = self.ca.root()
        self.proxy: Proxy

    def deploy(
        self, script: Script = PAGE, acme: Any = None, *, address: str = "", **proxy: Any
    ) -> Path:
        """Write a deploy.yml with one service.

        @param address: where its application is; "": a target with that script.
        """
        address = address or self.stage.target(script).address
        role = {"hosts": [address], "proxy": {"ssl": True, **proxy}}
        return self.stage.deploy({"app": role}, x_kproxy={"acme": self.acme(**(acme or {}))})

    def acme(self, **options: Any) -> dict[str, Any]:
        """What ``x-kproxy.acme`` has to say to have certificates of the CA."""
        return {"directory": self.ca.directory, "ca_file": str(self.ca.ca_file), **options}

    def start(self, config: Path, *healthy: str) -> Proxy:
        self.proxy = self.stage.proxy(
            config, port=self.http, healthy=healthy, KPROXY_HTTPS_PORT=str(self.https)
        )
        return self.proxy

    def restart_ca(self) -> None:
        """It has another root then."""
        self.ca.start()
        self.root = self.ca.root()

    def connect(self, host: str = HOST) -> Wire:
        """A visitor; fails if the certificate is not one of the CA's for the host."""
        sock = socket.create_connection(("127.0.0.1", self.https), PATIENCE)
        try:
            context = ssl.create_default_context(cadata=self.root)
            return Wire(context.wrap_socket(sock, server_hostname=host))
        except OSError:
            sock.close()
            raise

    def get(self, host: str = HOST) -> tuple[int, bytes, bytes]:
        """Status and body of a page by HTTPS, and the certificate."""
        with self.connect(host) as wire:
            certificate = wire.sock.getpeercert(True)
            wire.send(request_text(path="/", host=host))
            answer = wire.read_response()
            return answer.status, answer.body, certificate

    def trusted_file(self) -> Path:
        """A file with the root, for clients that take one."""
        path = self.stage.folder / "root.pem"
        path.write_text(self.root)
        return path

    def issued(self) -> int:
        return self.ca.log().count("Issued certificate serial")
