"""``kproxy run``: the proxy itself, for those who only use the command line."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from kproxy.cli.arguments import Boolean, port

FLAGS: tuple[tuple[str, str, str], ...] = (
    ("http-port", "PORT", "where to listen for HTTP [80]"),
    ("https-port", "PORT", "where to listen for HTTPS; 0: nowhere [443]"),
    ("metrics-port", "PORT", "where to serve metrics for Prometheus; 0: nowhere [0]"),
    ("bind", "ADDRESS", "an address to listen on; may be given several times [all]"),
    ("state-dir", "FOLDER", "where deployments are remembered [/var/lib/kproxy for root]"),
    (
        "workers",
        "COUNT",
        "processes that serve: a number, or auto for one per CPU; 0: one in all [auto]",
    ),
    ("socket", "PATH", "where the kproxy command is listened to [kproxy.sock]"),
    ("debug", "", "log every health check"),
)
"""The options of `kproxy.tap.Options` that are not about a configuration file: name, value (none: it
is a flag), meaning. They are not taken from there, since that would import Twisted for every
command; a test compares them."""


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="run the proxy, without a configuration file",
        description="Run the proxy in the foreground, without a configuration file, as "
        '"twistd -n kproxy" does; kproxy deploy says what it serves. What no option says the '
        "environment does: KPROXY_HTTP_PORT and the like.",
    )
    for name, value, meaning in FLAGS:
        if value:
            kind = port if value == "PORT" else str
            parser.add_argument(
                f"--{name}", action="append", type=kind, metavar=value, help=meaning
            )
        else:
            parser.add_argument(f"--{name}", action=Boolean, default=False, help=meaning)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command. It returns when the proxy has ended."""
    from twisted.scripts import twistd as script

    from kproxy.succession.command import whole_command_line

    twistd: Any = script.ServerOptions()  # type: ignore[attr-defined, no-untyped-call]
    try:
        twistd.parseOptions(["--nodaemon", "--pidfile=", "kproxy", *arguments(options)])
        twistd.subOptions.command = whole_command_line()
        script.runApp(twistd)
    except SystemExit as stop:
        if not isinstance(stop.code, str):
            raise
        # What ends the start: a port that is taken, say. The sentence is for the user.
        print(stop.code, file=sys.stderr)
        return 1
    return 0


def arguments(options: argparse.Namespace) -> list[str]:
    """What was said, as ``twistd kproxy`` takes it."""
    said = []
    for name, takes_value, _ in FLAGS:
        value = getattr(options, name.replace("-", "_"))
        if takes_value:
            said += [f"--{name}={each}" for each in value or ()]
        elif value:
            said.append(f"--{name}")
    return said
