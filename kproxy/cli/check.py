"""``kproxy check FILE…``: is this configuration right, and what does it mean?"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kproxy.cli.table import table

if TYPE_CHECKING:
    from kproxy.config.model import Service


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="validate configuration files and show what they mean",
        description="Validate the configuration files of one proxy and show what they mean. "
        "Problems go to standard error, one a line, and the exit status is 1.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a deploy.yml")
    parser.add_argument(
        "--destination", "-d", metavar="NAME", help="lay deploy.NAME.yml over each file"
    )
    parser.add_argument(
        "--server", metavar="HOST", help="only the roles that list HOST, with it as their target"
    )
    parser.set_defaults(run=check)


def check(options: argparse.Namespace) -> int:
    """Run the command."""
    from kproxy.config import ConfigurationError, load
    from kproxy.plugins import find_wrappers

    wrappers = find_wrappers()
    for failure in wrappers.failed:
        print(f"warning: {failure}", file=sys.stderr)
    try:
        configuration = load(
            options.files,
            destination=options.destination,
            server=options.server,
            environ=os.environ,
            wrappers=wrappers,
        )
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    print("OK")
    heads = ("SERVICE", "HOSTS", "PATHS", "TARGETS", "WRAPPERS")
    print(table(heads, map(_row, configuration.services)))
    return 0


def _row(service: Service) -> tuple[str, ...]:
    return (
        service.name,
        ", ".join(service.hosts) or "any",
        ", ".join(service.path_prefixes),
        ", ".join(map(str, service.targets)),
        ", ".join(use.name for use in service.wrappers) or "none",
    )
