"""A real CA: Debian's ``pebble -strict``, with ``pebble-challtestsrv`` for the names it looks up.

    with Pebble(folder, http_port=8080, tls_port=8443) as ca:
        ca.directory, ca.ca_file     # what kproxy is told
        ca.root()                    # what a browser would trust

Every name resolves to 127.0.0.1, and the CA's http-01 and tls-alpn-01 requests go to `http_port` and
`tls_port` there. Fixtures that need it ask `require_tool` for ``pebble`` and
``pebble-challtestsrv`` first.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.support.certificates import Authority
from tests.support.ports import free_ports

_PATIENCE = 20.0


class Pebble:
    """A CA on free ports of 127.0.0.1, until it is stopped."""

    def __init__(
        self,
        folder: Path,
        *,
        command: str = "pebble",
        http_port: int,
        tls_port: int,
        dns: str | None = None,
        nonce_reject: int = 20,
        authorization_reuse: int = 0,
        alternate_roots: int = 0,
        external_accounts: Mapping[str, str] | None = None,
        certificate_life: int | None = None,
    ) -> None:
        """
        @param folder: where its configuration, certificate and logs go.
        @param command: its program.
        @param dns: HOST:PORT of whom it asks for names; None: a ``pebble-challtestsrv``.
        @param nonce_reject: percentage of good nonces that it refuses all the same.
        @param authorization_reuse: percentage of orders that find a name already validated.
        @param alternate_roots: how many chains it offers beyond the usual one.
        @param external_accounts: key id -> HMAC key in base64url; None: anybody may have an account.
        @param certificate_life: seconds that certificates are valid for; None: five years.
        """
        self.folder = folder / "pebble"
        self.folder.mkdir()
        self._command = command
        self.port = self._management = self._dns_port = self._dns_management = 0
        self.ca_file = self.folder / "ca.pem"
        self._dns = dns
        self._environ = {
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_WFE_NONCEREJECT": str(nonce_reject),
            "PEBBLE_AUTHZREUSE": str(authorization_reuse),
            "PEBBLE_ALTERNATE_ROOTS": str(alternate_roots),
        }
        self._processes = ExitStack()
        certificate, key = self._make_certificate()
        self._options: dict[str, Any] = {
            "certificate": str(certificate),
            "privateKey": str(key),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "externalAccountBindingRequired": external_accounts is not None,
            "externalAccountMACKeys": dict(external_accounts or {}),
        }
        if certificate_life is not None:
            self._options["certificateValidityPeriod"] = certificate_life

    @property
    def directory(self) -> str:
        return f"https://localhost:{self.port}/dir"

    def __enter__(self) -> Pebble:
        for attempts_left in reversed(range(5)):
            self.port, self._management, self._dns_port, self._dns_management = free_ports(4)
            try:
                self.start()
                break
            except AssertionError:
                # Somebody else took a port between our looking and its listening.
                if not attempts_left or "address already in use" not in self._said():
                    raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, or start it again after `stop`: on the same ports, with nothing remembered."""
        config = self.folder / "config.json"
        ports = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
        }
        config.write_text(json.dumps({"pebble": {**self._options, **ports}}))
        dns = self._dns or f"127.0.0.1:{self._dns_port}"
        try:
            if self._dns is None:
                self._start(
                    "challtestsrv",
                    *("pebble-challtestsrv", "-dns01", f"127.0.0.1:{self._dns_port}"),
                    *("-management", f"127.0.0.1:{self._dns_management}", "-defaultIPv6", ""),
                    *("-http01", "", "-https01", "", "-tlsalpn01", ""),
                    listens_on=[self._dns_port, self._dns_management],
                )
            self._start(
                "pebble",
                *(self._command, "-strict", "-config", str(config), "-dnsserver", dns),
                listens_on=[self.port, self._management],
            )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._processes.close()

    def root(self, number: int = 0) -> str:
        """The certificate (PEM) that all those of a chain come from; chain 0 is the usual one."""
        return self._manage(f"/roots/{number}").decode()

    def status(self, certificate: str) -> str:
        """``Valid`` or ``Revoked``."""
        serial = x509.load_pem_x509_certificate(certificate.encode()).serial_number
        answer = json.loads(self._manage(f"/cert-status-by-serial/{serial:x}"))
        return str(answer["Status"])

    def set_renewal_window(self, certificate: str, start: datetime, end: datetime) -> None:
        """Wish a certificate (PEM) to be renewed between two times; only newer ones can."""
        window = {"start": start.isoformat(), "end": end.isoformat()}
        answer = json.dumps({"suggestedWindow": window})
        body = {"Certificate": certificate, "ARIResponse": answer}
        self._manage("/set-renewal-info/", json.dumps(body).encode())

    def set_txt(self, name: str, value: str) -> None:
        """Have a TXT record in the DNS that the CA sees, beside those that are there."""
        self._dns_command("set-txt", {"host": f"{name}.", "value": value})

    def clear_txt(self, name: str) -> None:
        """Have none."""
        self._dns_command("clear-txt", {"host": f"{name}."})

    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "pebble.log").read_text()

    def _said(self) -> str:
        """What its processes have said so far."""
        return "".join(path.read_text() for path in self.folder.glob("*.log"))

    def _dns_command(self, command: str, body: object) -> None:
        url = f"http://127.0.0.1:{self._dns_management}/{command}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=_PATIENCE):
            pass

    def _manage(self, path: str, body: bytes | None = None) -> bytes:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        url = f"https://localhost:{self._management}{path}"
        with urllib.request.urlopen(url, body, timeout=_PATIENCE, context=context) as answer:
            return bytes(answer.read())

    def _start(self, log: str, *command: str, listens_on: list[int]) -> None:
        with (self.folder / f"{log}.log").open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environ},
            )

        def end() -> None:
            process.terminate()
            try:
                process.wait(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        self._processes.callback(end)
        for port in listens_on:
            wait_for_port(port, process)

    def _make_certificate(self) -> tuple[Path, Path]:
        """A CA of its own vouches for the CA's own server, as nobody else would."""
        authority = Authority("The CA's own server's CA")
        pair = authority.issue("localhost")
        paths = self.folder / "cert.pem", self.folder / "key.pem"
        self.ca_file.write_text(authority.root)
        paths[0].write_text(pair.chain)
        paths[1].write_text(pair.key)
        return paths


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process listens.

    @raise AssertionError: it ended instead, or took too long.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE).close()
            return
        except OSError:
            assert process.poll() is None, f"{process.args} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{process.args} does not listen on {port}"
            time.sleep(0.02)
