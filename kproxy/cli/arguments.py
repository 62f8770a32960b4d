"""Arguments as Go's commands take them, which kamal-proxy's are."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kproxy.durations import parse_duration


class Parser(argparse.ArgumentParser):
    """A parser that takes ``--flag`` and ``--flag=false``, and no value after a space, for a
    boolean; and long names only as a whole, since a new option would make old abbreviations
    ambiguous. What is wrong it says in a sentence."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = super().parse_known_args(self._explicit(args), namespace)
        # The parser of a command knows best what its options are; argparse would ask the outermost.
        for each in unknown:
            name = each.partition("=")[0]
            if name.startswith("-"):
                self.error(f"there is no option {name}{_like(name, self._option_string_actions)}")
            self.error(f'there is one argument too many: "{each}"')
        return parsed, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        commands = action.choices if isinstance(action, argparse._SubParsersAction) else None
        if commands is not None and value not in commands:
            self.error(f"there is no command {value}{_like(value, commands)}")
        super()._check_value(action, value)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"Error: {message}\n{self.prog} --help tells what there is.\n")

    def _explicit(self, arguments: Sequence[str] | None) -> Sequence[str] | None:
        """Bare booleans with their value, lest argparse take the next argument for it."""
        if arguments is None:
            return None
        bare = {
            option
            for action in self._actions
            if isinstance(action, Boolean)
            for option in action.option_strings
        }
        return [f"{each}=true" if each in bare else each for each in arguments]


def _like(name: str, known: Iterable[str]) -> str:
    """What may have been meant."""
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


class Boolean(argparse._StoreAction):
    """``--flag``, ``--flag=true`` or ``--flag=false``."""

    def __init__(self, **options: Any) -> None:
        more = {"nargs": "?", "const": True, "type": boolean, "metavar": "true|false"}
        super().__init__(**{**options, **more})


class Texts(argparse.Action):
    """A list: with commas, by repetition, or both."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        before = getattr(namespace, self.dest, None) or []
        texts = [text.strip() for text in values.split(",")]
        setattr(namespace, self.dest, [*before, *filter(None, texts)])


def boolean(text: str) -> bool:
    """What Go takes for a boolean."""
    lower = text.lower()
    if lower in ("1", "t", "true"):
        return True
    if lower in ("0", "f", "false"):
        return False
    raise argparse.ArgumentTypeError(f'"{text}" should be true or false')


def integer(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" should be an integer') from None


def duration(text: str) -> float:
    """Seconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}') from None


def port(text: str) -> str:
    """A port number, as it was written."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f'"{text}" should be a port number')
    return text


def absolute(text: str) -> str:
    """A path for the proxy, which works in a folder of its own."""
    return str(Path(text).absolute()) if text else ""


def add_socket(parser: argparse.ArgumentParser) -> None:
    """Add the option that all commands have which talk to the proxy."""
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help="the proxy's socket [KPROXY_SOCKET, else kproxy.sock in XDG_RUNTIME_DIR or the "
        "temporary folder]",
    )
