"""What Twisted brings along: ``twisted.web.proxy.ReverseProxyResource``."""

from __future__ import annotations

import sys
from pathlib import Path

import twisted

from bench.cases import Case
from bench.processes import Process, spawn
from bench.proxies.base import Proxy

SCRIPT = Path(__file__).with_name("twistedweb_script.py")


class TwistedWeb(Proxy):
    """A script of a few lines, see :mod:`bench.proxies.twistedweb_script`."""

    name = "twisted.web"
    program = sys.executable

    def version(self) -> str:
        return str(twisted.__version__)

    def cannot(self, case: Case) -> str | None:
        if case.buffering is False:
            return "twisted.web always collects a request's body"
        return super().cannot(case)

    def start(self, origin_port: int, listen_port: int, workdir: Path, case: Case) -> Process:
        hosts = workdir / "hosts"
        hosts.write_text("\n".join(case.hosts))
        argv = [sys.executable, str(SCRIPT), str(origin_port), str(listen_port), str(hosts)]
        return spawn(argv, workdir)
