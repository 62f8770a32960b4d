"""kproxy itself: as it comes, and with the least that deploy.yml can ask for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from bench.cases import Case
from bench.processes import Process, free_port, spawn
from bench.proxies.base import Proxy
from bench.tls import make_certificate

ROOT = Path(__file__).resolve().parents[2]
TWISTD = Path(sys.executable).with_name("twistd")
INSTALLED_TWISTD = ROOT / ".venv-compiled" / "bin" / "twistd"
"""Where `make bench` has installed kproxy as `pip install` does it: its request path compiled."""


def deploy_yml(case: Case, origin_port: int, buffering: bool | None) -> str:
    """A deploy.yml with one proxied role for every service of the case."""
    lines = ["service: bench", "primary_role: r0", "proxy:"]
    if case.tls:
        lines += ["  ssl:", "    certificate_pem: CERTIFICATE", "    private_key_pem: KEY"]
    if buffering is not None:
        state = str(buffering).lower()
        lines += ["  buffering:", f"    requests: {state}", f"    responses: {state}"]
    lines.append("servers:")
    for index, host in enumerate(case.hosts):
        lines += [f"  r{index}:", f"    hosts: [127.0.0.1:{origin_port}]"]
        lines += ["    proxy:", f"      host: {host}"]
    return "\n".join(lines) + "\n"


class KProxy(Proxy):
    """kproxy as it is installed, its full default chain; the access log goes to stdout, a file."""

    name = "kproxy"
    program = "twistd"
    serves_tls = True
    twistd = INSTALLED_TWISTD
    path = ""
    workers = 0
    """How many processes serve; 0: the one that does all."""

    def available(self) -> str | None:
        return None if self.twistd.exists() else f"{self.twistd} isn't there: see `make bench`"

    def version(self) -> str:
        import kproxy

        return str(getattr(kproxy, "__version__", "of this working copy"))

    def buffering(self, case: Case) -> bool | None:
        """Whether bodies are buffered; None leaves it to kproxy's default."""
        return case.buffering

    def start(self, origin_port: int, listen_port: int, workdir: Path, case: Case) -> Process:
        file = workdir / "deploy.yml"
        file.write_text(deploy_yml(case, origin_port, self.buffering(case)))
        argv = [str(self.twistd), "-n", "--pidfile=", "kproxy", "--config", str(file)]
        http, https = (free_port(), listen_port) if case.tls else (listen_port, free_port())
        argv += ["--http-port", str(http), "--https-port", str(https), "--bind", "127.0.0.1"]
        argv += ["--workers", str(self.workers)]
        environment = {
            "PYTHONPATH": self.path,
            "KPROXY_SOCKET": str(workdir / "kproxy.sock"),
            "KPROXY_STATE_DIR": str(workdir / "state"),
        }
        if case.tls:
            files = make_certificate(workdir, case.host(0))
            environment["CERTIFICATE"] = files.certificate.read_text()
            environment["KEY"] = files.key.read_text()
        return spawn(argv, workdir, environment)


class KProxyPure(KProxy):
    """The same from this working copy, which isn't compiled."""

    name = "kproxy-pure"
    twistd = TWISTD
    path = str(ROOT)

    def available(self) -> str | None:
        if not TWISTD.exists():
            return f"twistd isn't beside {sys.executable}"
        return None if importlib.util.find_spec("kproxy.tap") else "kproxy.tap can't be imported"


class KProxyBare(KProxy):
    """kproxy without buffering."""

    name = "kproxy-bare"

    def cannot(self, case: Case) -> str | None:
        if case.buffering is not None:
            return "the case says itself whether to buffer: see kproxy"
        return super().cannot(case)

    def buffering(self, case: Case) -> bool | None:
        return False
