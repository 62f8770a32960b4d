"""``kproxy list``, ``remove``, ``pause``, ``stop``, ``resume``, ``reload`` and ``restart``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from typing import Any

from kproxy.cli.arguments import Boolean, add_socket, duration
from kproxy.cli.table import table

HEADS = ("SERVICE", "HOSTS", "PATHS", "TARGETS", "STATE", "TLS")


def register(commands: Any) -> None:
    """Add the commands."""
    listing = commands.add_parser(
        "list",
        aliases=["ls"],
        help="show what is served",
        description="Show the services and their state.",
    )
    listing.add_argument("--json", action=Boolean, default=False, help="as JSON")
    _finish(listing, list_services)

    remove = _command(
        commands, "remove", "serve a service no more", "Serve a service no more; requests may end."
    )
    _finish(remove, lambda o: _run(o, "DELETE", "", None))

    pause = _command(
        commands,
        "pause",
        "hold the requests of a service",
        "Hold new requests of a service until it is resumed, and wait until those before have "
        "ended.",
    )
    _add_drain(pause)
    pause.add_argument(
        "--max-pause",
        type=duration,
        default=30.0,
        metavar="DURATION",
        help="how long a request is held before it is answered with 504 [30s]",
    )
    _finish(
        pause,
        lambda o: _run(
            o, "POST", "pause", {"drain_timeout": o.drain_timeout, "max_pause": o.max_pause}
        ),
    )

    stop = _command(
        commands,
        "stop",
        "answer requests of a service with 503",
        "Answer new requests of a service with 503, and wait until those before have ended.",
    )
    _add_drain(stop)
    stop.add_argument("--message", default="", metavar="TEXT", help="what visitors read")
    _finish(
        stop,
        lambda o: _run(o, "POST", "stop", {"drain_timeout": o.drain_timeout, "message": o.message}),
    )

    resume = _command(
        commands,
        "resume",
        "let requests of a service pass again",
        "Let requests of a paused or stopped service pass again, those first that were held.",
    )
    _finish(resume, lambda o: _run(o, "POST", "resume", {}))

    reload = commands.add_parser(
        "reload",
        help="read the configuration again",
        description="Read the configuration files again, and deploy what is different.",
    )
    _finish(reload, reload_files)

    restart = commands.add_parser(
        "restart",
        help="let fresh worker processes take over",
        description="Start fresh worker processes, with the code and the plug-ins that are "
        "installed now. Once they serve, the old ones finish what they hold, and end.",
    )
    restart.add_argument(
        "--all",
        action=Boolean,
        default=False,
        help="replace the program of the control process, too: an upgrade of kproxy",
    )
    _finish(restart, run_restart)


def _command(commands: Any, name: str, summary: str, description: str) -> Any:
    parser = commands.add_parser(name, help=summary, description=description)
    parser.add_argument("service", metavar="SERVICE", help="the service's name")
    return parser


def _add_drain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--drain-timeout",
        type=duration,
        default=30.0,
        metavar="DURATION",
        help="how long requests have to finish before they are cut [30s]",
    )


def _finish(parser: argparse.ArgumentParser, run: Any) -> None:
    add_socket(parser)
    parser.set_defaults(run=run)


def _run(options: argparse.Namespace, method: str, operation: str, values: Any) -> int:
    from kproxy.cli.client import Client, of_service

    Client(options.socket).run(method, of_service(options.service, operation), values)
    return 0


def reload_files(options: argparse.Namespace) -> int:
    """Run ``kproxy reload``."""
    from kproxy.cli.client import Client

    Client(options.socket).run("POST", "/reload", {})
    return 0


def run_restart(options: argparse.Namespace) -> int:
    """Run ``kproxy restart``."""
    from kproxy.cli.client import Client

    client = Client(options.socket)
    if not options.all:
        client.run("POST", "/restart", {})
        return 0
    generation = client.ask("GET", "/services").get("generation", 0)
    client.run("POST", "/restart", {"all": True}, goes_away=True)
    client.run("POST", "/restarted", {"generation": generation})
    return 0


def list_services(options: argparse.Namespace) -> int:
    """Run ``kproxy list``."""
    from kproxy.cli.client import Client

    listed = Client(options.socket).ask("GET", "/services")
    if options.json:
        print(json.dumps(listed, indent=2))
    elif not listed["services"]:
        print("No services.")
    else:
        print(table(HEADS, map(_row, listed["services"])))
        for line in _failures(listed["services"]):
            print(line)
    if not options.json and listed.get("workers_trouble"):
        print(f"Error: {listed['workers_trouble']}")
    return 0


def _targets(of: dict[str, Any]) -> list[str]:
    writers = [f"{target['address']} {target['health']}" for target in of["targets"]]
    readers = [f"{target['address']} {target['health']} (reads)" for target in of["read_targets"]]
    return writers + readers


def _row(service: dict[str, Any]) -> tuple[str, ...]:
    targets = _targets(service)
    rollout = service["rollout"]
    if rollout is not None:
        named = len(rollout["list"] or ())
        share = "off" if rollout["percent"] is None else f"{rollout['percent']} %"
        note = f"(rollout, {share}{f' + {named} named' if named else ''})"
        targets += [f"{target} {note}" for target in _targets(rollout)]
    targets += [f"{target['address']} draining" for target in service["draining"]]
    state = service["state"] + (", deploying" if service["deploying"] else "")
    return (
        service["service"],
        ", ".join(service["hosts"]) or "any",
        ", ".join(service["path_prefixes"]),
        ", ".join(targets),
        state,
        _tls(service),
    )


def _tls(service: dict[str, Any]) -> str:
    """How long the certificates last: the one that ends first speaks for all."""
    if not service["tls"]:
        return "no"
    certificates = service["certificates"]
    if not certificates:
        return "yes"  # with those of another service, or those that somebody will ask for
    left = [each["days_left"] for each in certificates if each["days_left"] is not None]
    missing = len(certificates) - len(left)
    parts = [f"{min(left)} day{'' if min(left) == 1 else 's'}"] if left else []
    if missing:
        parts.append(f"{missing} missing" if left else "no certificate")
    return ", ".join(parts)


def _failures(services: Iterable[dict[str, Any]]) -> Iterator[str]:
    """What went wrong with certificates, in the words of the CA, or of whoever read them."""
    for service in services:
        for each in service["certificates"]:
            if each["failure"]:
                later = f" (next try: {each['next_try']})" if each["next_try"] else ""
                yield f"{service['service']}: {each['name']}: {each['failure']}{later}"
