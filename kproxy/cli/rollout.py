"""``kproxy rollout deploy``, ``set`` and ``stop``."""

from __future__ import annotations

import argparse
from typing import Any

from kproxy.cli.arguments import Texts, add_socket, integer
from kproxy.cli.deploy import add_flag, given_flags
from kproxy.control.flags import ROLLOUT_FLAGS


def register(commands: Any) -> None:
    """Add the commands."""
    rollout = commands.add_parser(
        "rollout",
        help="serve a part of a service's visitors by other targets",
        description="Serve a part of a service's visitors by other targets: those whose cookie "
        "kamal-rollout says so.",
    )
    operations = rollout.add_subparsers(title="commands", metavar="COMMAND", required=True)

    deploy = _operation(
        operations,
        "deploy",
        "give a rollout its targets",
        "Give the rollout of a service new targets, once they are healthy. Nobody goes there before "
        "rollout set says who.",
    )
    for flag in ROLLOUT_FLAGS:
        add_flag(deploy, flag)
    deploy.set_defaults(run=lambda o: _run(o, "deploy", given_flags(o, ROLLOUT_FLAGS)))

    split = _operation(
        operations,
        "set",
        "say who goes to a rollout's targets",
        "Say who goes to a rollout's targets: a part of all values of the cookie, a list of them, "
        "or both.",
    )
    split.add_argument(
        "--percent",
        type=integer,
        default=argparse.SUPPRESS,
        metavar="N",
        help="how many of all values, in percent [0]",
    )
    split.add_argument(
        "--list",
        action=Texts,
        default=argparse.SUPPRESS,
        metavar="TEXT,…",
        help="values that do, whatever the percentage [none]",
    )
    split.set_defaults(
        run=lambda o: _run(o, "set", {k: v for k, v in vars(o).items() if k in ("percent", "list")})
    )

    stop = _operation(
        operations,
        "stop",
        "let nobody go to a rollout's targets",
        "Let nobody go to a rollout's targets any more, and wait until their requests have ended.",
    )
    stop.set_defaults(run=lambda o: _run(o, "stop", {}))


def _operation(operations: Any, name: str, summary: str, description: str) -> Any:
    parser = operations.add_parser(name, help=summary, description=description)
    parser.add_argument("service", metavar="SERVICE", help="the service's name")
    add_socket(parser)
    return parser


def _run(options: argparse.Namespace, operation: str, values: dict[str, Any]) -> int:
    from kproxy.cli.client import Client, of_service

    path = of_service(options.service, f"rollout/{operation}")
    Client(options.socket).run("POST", path, values)
    return 0
