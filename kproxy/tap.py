"""``twistd kproxy``: options, and the assembly of the service from its parts. Nothing else is here."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from kproxy.config import Configuration, ConfigurationError, load
from kproxy.plugins import find_dns_responders, find_wrappers


def _port(value: str) -> int:
    port = int(value)
    if not 0 <= port <= 65535:
        raise ValueError("should be a port number")
    return port


class Options(usage.Options):
    """What the command line says; the environment (``KPROXY_HTTP_PORT``) says what it does not."""

    synopsis = "[options]"
    longdesc = "A reverse proxy that deploys without gaps, configured by the deploy.yml of Kamal."
    optParameters = [
        ["destination", "d", None, "Lay deploy.DESTINATION.yml over each configuration file."],
        [
            "server",
            None,
            None,
            "Serve only the roles that list this host, with it as their target.",
        ],
        ["http-port", None, None, "Port for HTTP [80, or what proxy.run says].", _port],
        ["https-port", None, None, "Port for HTTPS [443, or what proxy.run says]; 0: none.", _port],
        ["state-dir", None, None, "Where deployments are remembered [/var/lib/kproxy for root]."],
        ["socket", None, None, "Where the kproxy command is listened to [kproxy.sock]."],
    ]
    optFlags = [["debug", None, "Log more."]]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["config"] = []
        self["bind"] = []

    def opt_config(self, path: str) -> None:
        """A deploy.yml; may be given several times, for several applications."""
        self["config"].append(Path(path))

    opt_c = opt_config

    def opt_bind(self, address: str) -> None:
        """An address to listen on; may be given several times [all]."""
        self["bind"].append(address)

    def postOptions(self) -> None:
        self.read_environment(os.environ)

    def read_environment(self, environ: Any) -> None:
        """Take from ``KPROXY_*`` what the command line does not say."""
        texts = {name: environ.get("KPROXY_" + name.upper().replace("-", "_")) for name in self}
        for name in ("destination", "server", "state-dir", "socket"):
            self[name] = self[name] or texts[name]
        for name in ("http-port", "https-port"):
            if self[name] is None and texts[name]:
                try:
                    self[name] = _port(texts[name])
                except ValueError:
                    variable = "KPROXY_" + name.upper().replace("-", "_")
                    raise usage.UsageError(f"{variable} should be a port number") from None
        if not self["config"] and texts["config"]:
            self["config"] = [Path(path) for path in texts["config"].split(os.pathsep)]
        if not self["bind"] and texts["bind"]:
            self["bind"] = texts["bind"].split(",")
        if texts["debug"] in ("1", "true", "yes"):
            self["debug"] = 1


def makeService(options: Options) -> IService:
    """What twistd calls, before there is a reactor unless ``-r`` was given."""
    install_fastest_reactor()
    wrappers, dns_responders = find_wrappers(), find_dns_responders()

    def read() -> Configuration:
        return load(
            options["config"],
            destination=options["destination"],
            server=options["server"],
            environ=os.environ,
            wrappers=wrappers,
            dns_responders=dns_responders,
        )

    for failed in wrappers.failed:
        print(failed, file=sys.stderr)
    try:
        configuration = read()
    except ConfigurationError as error:
        raise SystemExit(str(error)) from None
    # It needs the reactor to be installed.
    from kproxy.control.adminsocket import SocketInUse
    from kproxy.service import CannotListen, ProxyService
    from kproxy.tree import WrapperFailed

    twistd = getattr(options, "parent", None) or {}
    try:
        return ProxyService(options, configuration, read, wrappers, twistd)
    except (CannotListen, SocketInUse, WrapperFailed) as error:
        raise SystemExit(f"Error: {error}") from None


def install_fastest_reactor(modules: Any = sys.modules) -> None:
    """Install a reactor on uvloop's event loop, or the standard library's; not if there is one."""
    if "twisted.internet.reactor" in modules:
        return
    make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    try:
        import uvloop

        make_loop = uvloop.new_event_loop
    except ImportError:
        pass
    from twisted.internet import asyncioreactor

    asyncioreactor.install(make_loop())
