"""``kproxy wrappers [NAME]``: which wrappers there are, where they come from, what they take."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from kproxy.cli.errors import CommandError
from kproxy.cli.table import table

if TYPE_CHECKING:
    from kproxy.config.schema import Option, Section
    from kproxy.plugins import Installed


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "wrappers",
        help="list the wrappers that are installed, and their options",
        description="List the wrappers that deploy.yml may name under x-kproxy.wrappers, where "
        "they come from and which options they take; and what could not be loaded.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="only this one")
    parser.set_defaults(run=wrappers)


def wrappers(options: argparse.Namespace) -> int:
    """Run the command."""
    from kproxy.config.schema import did_you_mean
    from kproxy.plugins import find_wrappers

    found = find_wrappers()
    names = sorted(found.installed) if options.name is None else [options.name]
    for failure in found.failed:
        print(f"warning: {failure}", file=sys.stderr)
    if options.name is not None and options.name not in found.installed:
        guess = did_you_mean(options.name, found.installed)
        raise CommandError(f'there is no wrapper "{options.name}"{guess}')
    listed = (describe(found.installed[name]) for name in names)
    print("\n\n".join(listed) or "No wrappers are installed.")
    return 0


def describe(installed: Installed[Any]) -> str:
    """A wrapper and its options, for a terminal."""
    plugin = installed.plugin
    distribution = installed.distribution()
    origin = f"{installed.module} ({distribution})" if distribution else installed.module
    lines = [plugin.name, f"  {plugin.description}", f"  from {origin}"]
    rows = _rows(plugin.options)
    if rows:
        columns = table(("OPTION", "VALUE", "DEFAULT", ""), rows)
        lines += (f"  {line}" for line in columns.split("\n"))
    else:
        lines.append("  no options")
    return "\n".join(lines)


def _rows(section: object) -> list[tuple[str, str, str, str]]:
    from kproxy.config.schema import Section

    if not isinstance(section, Section):
        return []
    rows = []
    for name, holder, option in section.walk():
        rows.append((name, option.type.description, _default(holder, option), option.help))
    return rows


def _default(section: Section[Any], option: Option) -> str:
    if option.required:
        return "required"
    try:
        return show(section.default_of(option))
    except Exception:  # A third party's module that can't be imported; using it says so.
        return "?"


def show(default: object) -> str:
    """A default as it would be written in deploy.yml."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, (tuple, list)):
        return ", ".join(map(show, default))
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if isinstance(default, (int, str)) else ""
