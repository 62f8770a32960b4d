"""Writes the tables of reference.md from what the code declares: `python docs/generate.py`.

A table stands between ``<!-- NAME -->`` and ``<!-- end -->``; the rest is written by hand. With
``--check`` nothing is written, and the exit status says whether the page is up to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from kproxy.cli.wrappers import show
from kproxy.config.model import Service
from kproxy.config.schema import Anything, MapOf, Option, Section
from kproxy.config.sections import EXTRAS, PROXY, TOP, X_KPROXY
from kproxy.control.flags import FLAGS, Flag, unconfigured
from kproxy.durations import show_duration

PAGE = Path(__file__).with_name("reference.md")
_TABLE = re.compile(r"(<!-- (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

NOT_YET = {
    "secrets_path",
    "proxy.ssl",
    "proxy.ssl_redirect",
    "proxy.run.https_port",
    "proxy.run.metrics_port",
    "x-kproxy.acme",
    "x-kproxy.exclude_metrics_paths",
    "x-kproxy.read_targets",
    "x-kproxy.scope_cookie_paths",
    "x-kproxy.tls_on_demand_url",
    "x-kproxy.workers",
    "x-kproxy.writer_affinity_timeout",
}
"""Options that are read and checked, but that no code serves yet."""

DEFAULTS = {
    "proxy.forward_headers": "`true` without `ssl`, `false` with",
    "proxy.path_prefix": "`/`",
    "proxy.path_prefixes": "`/`",
}
"""Defaults that depend on something, or that the schema has no one value for."""

VALUES = {
    "x-kproxy.wrappers": "a list of wrappers",
    "x-kproxy.acme.dns": "a DNS-01 responder",
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
    old = PAGE.read_text("utf-8")
    new = generated(old)
    if "--check" in arguments:
        return int(old != new)
    PAGE.write_text(new, "utf-8")
    return 0


def generated(page: str) -> str:
    """The page with its tables written anew."""
    tables = {
        "top": _options(TOP, ""),
        "deploy": _flags(),
        "proxy": _options(PROXY, "proxy."),
        "x-kproxy-role": _options(EXTRAS, "x-kproxy."),
        "x-kproxy-all": _options(X_KPROXY, "x-kproxy.", {o.name for o in EXTRAS.options}),
    }

    def fill(found: re.Match[str]) -> str:
        return found[1] + tables[found["name"]] + found[3]

    return _TABLE.sub(fill, page)


def _flags() -> str:
    """The options of ``kproxy deploy``."""
    base = unconfigured("x")
    rows = []
    for flag in FLAGS:
        default = flag_default(flag, base)
        star = " *" if flag.lacks else ""
        rows.append((f"`--{flag.name}`{star}", FLAG_VALUES[flag.kind], default, flag.help))
    return _table(("flag", "value", "default", "meaning"), rows)


def flag_default(flag: Flag, base: Service) -> str:
    """What holds for a service that only the command line knows."""
    if flag.name == "target":
        return "required"
    value: Any = base
    for part in flag.field.split(".") if flag.field else ():
        value = getattr(value, part)
    if value is base:
        return "`false`" if flag.kind == "boolean" else "none"
    if flag.kind == "duration":
        return f"`{show_duration(value)}`"
    if value is None and flag.kind == "integer":
        value = 0
    return f"`{show(value)}`" if show(value) else "none"


def _options(section: Section[Any], prefix: str, leave_out: Container[str] = ()) -> str:
    rows = [
        (
            _key(key),
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


def _key(name: str) -> str:
    later = any(name == each or name.startswith(f"{each}.") for each in NOT_YET)
    return f"`{name}`{' *' if later else ''}"


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
