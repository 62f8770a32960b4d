"""``twistd kproxy``: options, and the assembly of the service from its parts. Nothing else is here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from kproxy.config import Configuration, ConfigurationError, load
from kproxy.config.model import MOST_WORKERS
from kproxy.plugins import find_dns_responders, find_stores, find_wrappers
from kproxy.reactors import install_fastest_reactor
from kproxy.succession.command import CommandLine, command_line
from kproxy.workers.count import Workers
from kproxy.workers.count import parse as parse_workers

PORTS = ("http-port", "https-port", "metrics-port")


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
        ["http-port", None, None, "Port for HTTP [80, or what proxy.run says]."],
        ["https-port", None, None, "Port for HTTPS [443, or what proxy.run says]; 0: none."],
        ["metrics-port", None, None, "Port for metrics [what proxy.run says]; 0: none."],
        ["state-dir", None, None, "Where deployments are remembered [/var/lib/kproxy for root]."],
        ["socket", None, None, "Where the kproxy command is listened to [kproxy.sock]."],
        [
            "workers",
            None,
            None,
            "Processes that serve: a number, or auto for one per CPU; 0: this one serves [auto].",
        ],
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

    command: CommandLine | None = None
    """How to give all these again."""

    def opt_bind(self, address: str) -> None:
        """An address to listen on; may be given several times [all]."""
        self["bind"].append(address)

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise usage.UsageError(f'there is one argument too many: "{arguments[0]}"')

    def parseOptions(self, options: Any = None) -> None:
        """Read the command line. A mistake ends the start like any other: with a sentence."""
        self.command = None if options is None else command_line(options)
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            message = f"Error: {error}\ntwistd kproxy --help tells what there is."
            raise SystemExit(message) from None

    def postOptions(self) -> None:
        self.read_environment(os.environ)

    def read_environment(self, environ: Any) -> None:
        """Take from ``KPROXY_*`` what the command line does not say."""
        texts = {name: environ.get("KPROXY_" + name.upper().replace("-", "_")) for name in self}
        for name in ("destination", "server", "state-dir", "socket"):
            self[name] = self[name] or texts[name]
        for name in PORTS:
            if isinstance(self[name], str):
                self[name] = _port(f"--{name}", self[name])
            elif self[name] is None and texts[name]:
                variable = "KPROXY_" + name.upper().replace("-", "_")
                self[name] = _port(variable, texts[name])
        said, variable = self["workers"], "--workers"
        if said is None and texts["workers"]:
            said, variable = texts["workers"], "KPROXY_WORKERS"
        if isinstance(said, str):
            self["workers"] = _workers(variable, said)
        if not self["config"] and texts["config"]:
            self["config"] = [Path(path) for path in texts["config"].split(os.pathsep)]
        if not self["bind"] and texts["bind"]:
            self["bind"] = texts["bind"].split(",")
        if texts["debug"] in ("1", "true", "yes"):
            self["debug"] = 1


def _port(name: str, text: str) -> int:
    """@raise usage.UsageError: it is none."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise usage.UsageError(f'{name} should be a port number, is "{text}"')
    return int(text)


def _workers(name: str, text: str) -> Workers:
    """@raise usage.UsageError: it is neither ``auto`` nor a number of workers."""
    try:
        return parse_workers(text)
    except ValueError:
        raise usage.UsageError(
            f'{name} should be auto, or a number from 0 to {MOST_WORKERS}, is "{text}"'
        ) from None


def makeService(options: Options) -> IService:
    """What twistd calls, before there is a reactor unless ``-r`` was given."""
    install_fastest_reactor()
    wrappers, dns_responders, stores = find_wrappers(), find_dns_responders(), find_stores()

    def read() -> Configuration:
        return load(
            options["config"],
            destination=options["destination"],
            server=options["server"],
            environ=os.environ,
            wrappers=wrappers,
            dns_responders=dns_responders,
            stores=stores,
        )

    for failed in wrappers.failed:
        print(failed, file=sys.stderr)
    try:
        configuration = read()
    except ConfigurationError as error:
        raise SystemExit(str(error)) from None
    # It needs the reactor to be installed.
    from kproxy.control.adminsocket import SocketInUse
    from kproxy.listening import CannotListen
    from kproxy.service import ProxyService
    from kproxy.succession.legacy import take
    from kproxy.tree import WrapperFailed

    twistd = getattr(options, "parent", None) or {}
    legacy = take(os.environ)
    kind = ProxyService
    if legacy is not None and legacy.report >= 0:
        from kproxy.succession.rehearsal import Rehearsal

        kind = Rehearsal
    try:
        return kind(options, configuration, read, wrappers, twistd, options.command, legacy)
    except (CannotListen, SocketInUse, WrapperFailed) as error:
        raise SystemExit(f"Error: {error}") from None
