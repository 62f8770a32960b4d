"""Writes parts of the documentation from what the code declares: `python docs/generate.py`.

They are the tables of reference.md, the commands of commands.md, and the options of a deployment in
openapi.yaml. Each stands between ``<!-- NAME -->`` and ``<!-- end -->``; the rest is written by hand.
With ``--check`` nothing is written, and the exit status says whether the pages are up to date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kproxy.cli.main import parser
from kproxy.cli.wrappers import show
from kproxy.config.schema import Anything, MapOf, Option, Section
from kproxy.config.sections import EXTRAS, PROXY, TOP, X_KPROXY
from kproxy.control.flags import FLAGS, ROLLOUT_FLAGS, Flag
from kproxy.control.options import default_of

PAGES = [Path(__file__).with_name(name) for name in ("reference.md", "commands.md", "openapi.yaml")]
_TABLE = re.compile(r"(<!-- (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

DEFAULTS = {
    "proxy.forward_headers": "`true` without `ssl`, `false` with",
    "proxy.path_prefix": "`/`",
    "proxy.path_prefixes": "`/`",
    "proxy.run.https_port": "`443`",
    "x-kproxy.workers": "`auto`",
}
"""Defaults that depend on something, or that the schema has no one value for."""

VALUES = {
    "x-kproxy.wrappers": "a list of wrappers",
    "x-kproxy.acme.dns": "a DNS-01 responder",
    "x-kproxy.acme.store": "a certificate store",
}
"""What options hold that plug-ins read."""


FLAG_VALUES = {
    "text": "text",
    "path": "a path",
    "texts": "a list of texts",
    "boolean": "true or false",
    "integer": "an integer",
    "duration": "a duration",
}
"""What the options of ``kproxy deploy`` hold."""


def main(arguments: Sequence[str]) -> int:
    """Run the script; the exit status."""
    status = 0
    for page in PAGES:
        old = page.read_text("utf-8")
        new = generated(old)
        if "--check" in arguments:
            status |= int(old != new)
        else:
            page.write_text(new, "utf-8")
    return status


def generated(page: str) -> str:
    """The page with its tables written anew."""
    tables = {
        "top": _options(TOP, ""),
        "commands": "\n".join(_commands()),
        "flags": "".join(map(_schema, FLAGS)) + "        # ",
        "proxy": _options(PROXY, "proxy."),
        "x-kproxy-role": _options(EXTRAS, "x-kproxy."),
        "x-kproxy-all": _options(X_KPROXY, "x-kproxy.", {o.name for o in EXTRAS.options}),
    }

    def fill(found: re.Match[str]) -> str:
        return found[1] + tables[found["name"]] + found[3]

    return _TABLE.sub(fill, page)


def _commands() -> Iterator[str]:
    """Every command as its parser declares it."""
    every = list(commands(parser()))
    usages = "".join(f"{command.prog}{_arguments(command)}\n" for command in every)
    yield f"```text\n{usages}kproxy --version\n```\n"
    for command in every:
        yield f"## {command.prog}\n\n{_wrapped(command.description or '')}"
        yield f"```text\n{command.prog}{_arguments(command)} [OPTION…]\n```\n"
        if command.prog == "kproxy deploy":
            yield _flags(FLAGS)
        elif command.prog == "kproxy rollout deploy":
            yield _flags(ROLLOUT_FLAGS)
        else:
            rows = [_argument(action) for action in command._actions if action.dest != "help"]
            if rows:
                yield _table(("argument", "meaning"), rows)


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands, those of commands' own commands behind them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                if not command._subparsers:
                    yield command
                yield from commands(command)


def _arguments(parser: argparse.ArgumentParser) -> str:
    """What a command takes besides its options."""
    shown = ""
    for action in parser._get_positional_actions():
        name = str(action.metavar)
        shown += f" [{name}]" if action.nargs == "?" else f" {name}{'…' if action.nargs else ''}"
    return shown


def _argument(action: argparse.Action) -> tuple[str, str]:
    value = f" {action.metavar}" if action.metavar and action.nargs != "?" else ""
    names = [f"`{name}{value}`" for name in action.option_strings] or [f"`{action.metavar}`"]
    return ", ".join(names), (action.help or "").replace("%%", "%")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False) + "\n"


def _schema(flag: Flag) -> str:
    """An option of a deployment, for openapi.yaml."""
    kinds = {
        "text": "type: string",
        "path": "type: string",
        "texts": "type: array, items: {type: string}",
        "boolean": "type: boolean",
        "integer": "type: integer, minimum: 0",
        "duration": "type: number, minimum: 0",
    }
    description = json.dumps(flag.help)
    return f"        {flag.key}:\n          {{{kinds[flag.kind]}, description: {description}}}\n"


def _flags(flags: Sequence[Flag]) -> str:
    """The options of a deployment."""
    rows = []
    for flag in flags:
        default = "required" if flag.name == "target" else f"`{default_of(flag)}`"
        default = "none" if default == "``" else default
        rows.append((f"`--{flag.name}`", FLAG_VALUES[flag.kind], default, flag.help))
    return _table(("flag", "value", "default", "meaning"), rows)


def _options(section: Section[Any], prefix: str, leave_out: Container[str] = ()) -> str:
    rows = [
        (
            f"`{key}`",
            VALUES.get(key, option.type.description),
            _default(key, holder, option),
            option.help,
        )
        for key, holder, option in section.walk(prefix)
        if not _ignored(option) and key.removeprefix(prefix).partition(".")[0] not in leave_out
    ]
    return _table(("key", "value", "default", "meaning"), rows)


def _ignored(option: Option) -> bool:
    """Whether an option is there for Kamal only."""
    return isinstance(option.type, Anything) and option.help in ("", "Ignored: for Docker only.")


def _default(name: str, section: Section[Any], option: Option) -> str:
    if option.required:
        return "required"
    if name in DEFAULTS:
        return DEFAULTS[name]
    if isinstance(option.type, (Section, MapOf)):
        return ""
    default = section.default_of(option)
    text = show(default)
    if isinstance(default, int) and default and default % 2**20 == 0:
        unit = "GiB" if default % 2**30 == 0 else "MiB"
        return f"`{text}` ({default >> (30 if unit == 'GiB' else 20)} {unit})"
    return f"`{text}`" if text else "none"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
