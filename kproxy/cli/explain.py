"""``kproxy explain URL``: the way of a request, without sending it."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from kproxy.cli.arguments import Boolean, add_socket
from kproxy.cli.errors import CommandError
from kproxy.cli.table import table

EMPTY: tuple[object, ...] = (None, "", [])


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "explain",
        help="show the way of a request, without sending it",
        description="Show what would become of a request, without sending it: which service has "
        "it, the wrappers that it passes, the target that would get it, and what that one would "
        "read. The running proxy is asked, which tells what it serves now.",
    )
    parser.add_argument("url", metavar="URL", help="http://HOST/PATH, or https://")
    parser.add_argument("--method", "-X", default="GET", metavar="METHOD", help="instead of GET")
    parser.add_argument(
        "--header",
        "-H",
        action="append",
        default=[],
        type=header,
        metavar="NAME:VALUE",
        help="a header of the request; Content-Length stands for a body",
    )
    parser.add_argument(
        "--cookie", "-b", action="append", default=[], metavar="NAME=VALUE", help="a cookie"
    )
    parser.add_argument(
        "--client", default="127.0.0.1", metavar="ADDRESS", help="whom it comes from [127.0.0.1]"
    )
    parser.add_argument("--json", action=Boolean, default=False, help="as JSON")
    parser.add_argument(
        "--config",
        "-c",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="ask this deploy.yml, as if all of its targets were healthy, and no proxy",
    )
    parser.add_argument(
        "--destination", "-d", metavar="NAME", help="with --config: lay deploy.NAME.yml over it"
    )
    parser.add_argument(
        "--server", metavar="HOST", help="with --config: only the roles that list HOST"
    )
    add_socket(parser)
    parser.set_defaults(run=explain)


def header(text: str) -> tuple[str, str]:
    """A header as curl takes it."""
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise argparse.ArgumentTypeError(f'"{text}" should be NAME:VALUE')
    return name, value.strip()


def explain(options: argparse.Namespace) -> int:
    """Run the command."""
    headers = [*options.header]
    if options.cookie:
        headers.append(("Cookie", "; ".join(options.cookie)))
    asked = {"url": options.url, "method": options.method, "headers": headers}
    asked["client"] = options.client
    told = _of_files(options, asked) if options.config else _of_proxy(options, asked)
    print(json.dumps(told, indent=2) if options.json else show(told))
    return 0


def _of_proxy(options: argparse.Namespace, asked: dict[str, Any]) -> Any:
    from kproxy.cli.client import Client

    return Client(options.socket).ask("POST", "/explain", asked)


def _of_files(options: argparse.Namespace, asked: dict[str, Any]) -> Any:
    from twisted.internet.task import Clock

    from kproxy.config import ConfigurationError, load
    from kproxy.dataplane import DataPlane
    from kproxy.explaining import PATIENCE, BadQuestion, Question
    from kproxy.plugins import find_wrappers
    from kproxy.snapshot import ServiceState, Snapshot
    from kproxy.threads import threads_of
    from kproxy.tree import WrapperFailed

    wrappers, clock = find_wrappers(), Clock()
    try:
        configuration = load(
            options.config,
            destination=options.destination,
            server=options.server,
            environ=os.environ,
            wrappers=wrappers,
        )
        # Nothing is connected, and time passes only when it is told to.
        plane = DataPlane(None, clock, threads_of(clock), wrappers, print)  # type: ignore[arg-type]
        states = (ServiceState(s, (*s.targets, *s.read_targets)) for s in configuration.services)
        plane.apply(Snapshot(tuple(states)))
        told: list[Any] = []
        plane.explain(Question(**asked)).addCallback(told.append)
    except (ConfigurationError, WrapperFailed, BadQuestion) as error:
        raise CommandError(str(error)) from None
    clock.pump([0, 0, PATIENCE])
    return told[0]


def show(told: dict[str, Any]) -> str:
    """What was found out, for a terminal."""
    facts = [("service", told["service"] or "none")]
    if told["outcome"] == "sent":
        facts.append(("target", told["target"]))
    reason = f": {told['reason']}" if told["reason"] else ""
    if told["outcome"] == "answered":
        facts.append(("answer", f"{told['answer']['status']} by {told['by']}{reason}"))
    if told["outcome"] in ("held", "undecided"):
        facts.append((told["outcome"], f"by {told['by']}{reason}"))
    parts = [
        "\n".join(f"{name:<8} {text}" for name, text in facts),
        table(("WAY", "OPTIONS", "CHANGES"), map(_row, told["way"])),
    ]
    if told["outcome"] == "sent":
        parts.append("\n".join([told["request"]["line"], *_lines(told["request"]["headers"])]))
    if told["outcome"] == "answered":
        parts.append("\n".join(_lines(told["answer"]["headers"])))
    return "\n\n".join(parts)


def _row(step: dict[str, Any]) -> tuple[str, str, str]:
    options = [f"{name}={_value(v)}" for name, v in step["options"].items() if v not in EMPTY]
    changes = ", ".join(step["changes"])
    return step["name"], " ".join(options), changes if step["reached"] else "not reached"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_value, value))
    return value if isinstance(value, str) and " " not in value else json.dumps(value)


def _lines(headers: list[list[str]]) -> list[str]:
    return [f"{name}: {value}" for name, value in headers]
