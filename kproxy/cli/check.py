"""``kproxy check FILE…``: is this configuration right, and what does it mean?"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
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
    from kproxy.plugins import find_dns_responders, find_stores, find_wrappers

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
            dns_responders=find_dns_responders(),
            stores=find_stores(),
        )
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    if not _certificates_are_right(configuration.services):
        return 1
    print("OK")
    heads = ("SERVICE", "HOSTS", "PATHS", "TARGETS", "WRAPPERS")
    print(table(heads, map(_row, configuration.services)))
    return 0


def _certificates_are_right(services: Sequence[Service]) -> bool:
    """Read the certificates that services have of their own, as a deployment would.

    @return: whether all of them could be served; what there is to say is said.
    """
    if all(isinstance(service.ssl, bool) for service in services):
        return True
    # Most have none of their own, and do without these.
    from kproxy.tls.checked import CertificateError, warnings
    from kproxy.tls.custom import read_custom, source_of

    now = datetime.now(timezone.utc)
    right = True
    found = read_custom(services, os.environ, now)
    for service in services:
        source, read = source_of(service), found.get(service.name)
        if source is None or read is None:
            continue
        if isinstance(read, CertificateError):
            right = False
            print(f"{service.name}: {read}", file=sys.stderr)
            continue
        for warning in warnings(read, service.hosts, now):
            text = f"{service.name}: {source.certificate_name} {warning}"
            print(f"warning: {text}", file=sys.stderr)
    return right


def _row(service: Service) -> tuple[str, ...]:
    return (
        service.name,
        ", ".join(service.hosts) or "any",
        ", ".join(service.path_prefixes),
        ", ".join(map(str, service.targets)),
        ", ".join(use.name for use in service.wrappers) or "none",
    )
