"""``kproxy deploy SERVICE --target HOST:PORT``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from kproxy.cli.arguments import Boolean, Texts, absolute, add_socket, duration, integer
from kproxy.control.flags import FLAGS, Flag
from kproxy.control.options import default_of


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "deploy",
        help="serve a service by new targets, without a gap",
        description="Serve a service by new targets: check their health, switch every new request "
        "to them, and wait until the old ones have finished theirs. If they do not become healthy, "
        "or with Ctrl-C, everything stays as it was. A service that a configuration file has keeps "
        "what the file says where no option says anything else; the defaults are those of all others.",
    )
    parser.add_argument("service", metavar="SERVICE", help="the service's name")
    for flag in FLAGS:
        add_flag(parser, flag)
    add_socket(parser)
    parser.set_defaults(run=deploy)


def add_flag(parser: argparse.ArgumentParser, flag: Flag) -> None:
    """Add an option of a deployment."""
    kinds: dict[str, dict[str, Any]] = {
        "text": {"metavar": "TEXT"},
        "path": {"metavar": "PATH", "type": absolute},
        "texts": {"metavar": "TEXT,…", "action": Texts},
        "boolean": {"action": Boolean},
        "integer": {"metavar": "N", "type": integer},
        "duration": {"metavar": "DURATION", "type": duration},
    }
    default = default_of(flag)
    text = f"{flag.help} [{default}]" if default else flag.help
    parser.add_argument(
        f"--{flag.name}", dest=flag.key, default=argparse.SUPPRESS, help=text, **kinds[flag.kind]
    )


def given_flags(options: argparse.Namespace, flags: Iterable[Flag]) -> dict[str, Any]:
    """Those of the options that were given, as JSON has them."""
    return {flag.key: getattr(options, flag.key) for flag in flags if hasattr(options, flag.key)}


def deploy(options: argparse.Namespace) -> int:
    """Run the command."""
    from kproxy.cli.client import Client, of_service

    values = given_flags(options, FLAGS)
    Client(options.socket).run("POST", of_service(options.service, "deploy"), values)
    return 0
