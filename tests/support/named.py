"""A real name server: ``named`` of Debian's bind9, with zones that a TSIG key may change.

with Named(folder, command, {"example.test": ["www A 192.0.2.1"]}) as dns:
    dns.port, dns.key, dns.secret
"""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import dns.message
import dns.query

from tests.support.pebble import wait_for_port
from tests.support.ports import free_ports

_PATIENCE = 20.0


class Named:
    """A name server on a free port of 127.0.0.1, with its files in a folder, until it is stopped."""

    key = "kproxy-test"
    algorithm = "hmac-sha512"

    def __init__(
        self,
        folder: Path,
        command: str,
        zones: Mapping[str, Sequence[str]],
        *,
        name_servers: Sequence[str] = ("127.0.0.1",),
    ) -> None:
        """
        @param zones: name -> further records in the format of zone files; the key may change its TXT
            records.
        @param name_servers: the addresses that each zone says it is served from.
        """
        self.folder = folder / "named"
        self.folder.mkdir()
        self.secret = base64.b64encode(os.urandom(64)).decode()
        (self.port,) = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        statements = [
            f'key "{self.key}" {{ algorithm {self.algorithm}; secret "{self.secret}"; }};',
            "controls { };",
            f"""options {{
                directory "{self.folder}";
                listen-on port {self.port} {{ 127.0.0.1; }};
                listen-on-v6 {{ none; }};
                pid-file none;
                session-keyfile none;
                recursion no;
                dnssec-validation no;
                notify no;
            }};""",
        ]
        for zone, records in zones.items():
            servers = [f"ns{number}" for number, _ in enumerate(name_servers)]
            lines = [
                "$TTL 60",
                "@ SOA ns0 nobody 1 3600 600 86400 60",
                *(f"@ NS {name}" for name in servers),
                *(
                    f"{name} A {address}"
                    for name, address in zip(servers, name_servers, strict=True)
                ),
                *records,
            ]
            (self.folder / zone).write_text("\n".join(lines) + "\n")
            statements.append(
                f'zone "{zone}" {{ type primary; file "{zone}"; '
                f"update-policy {{ grant {self.key} zonesub TXT; }}; }};"
            )
        (self.folder / "named.conf").write_text("\n".join(statements) + "\n")

    def __enter__(self) -> Named:
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._command, "-g", "-n", "1", "-c", str(self.folder / "named.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for_port(self.port, self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def texts(self, name: str) -> set[str]:
        """The TXT records of a name."""
        query = dns.message.make_query(name, "TXT")
        answer = dns.query.udp(query, "127.0.0.1", port=self.port, timeout=_PATIENCE)
        return {
            b"".join(record.strings).decode()
            for rrset in answer.answer
            for record in rrset
            if rrset.rdtype.name == "TXT"
        }

    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "log").read_text()
