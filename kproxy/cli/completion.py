"""``kproxy completion SHELL``: lets a shell complete commands, options and names of services.

The scripts are small, since all they do is to ask this command what could come next, with what has
been typed so far. So there is one place that knows the commands, their parsers, and a shell's script
need not be made anew when they change.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from kproxy.cli.arguments import Boolean, Texts
from kproxy.cli.errors import CommandError

BASH = """\
# Completes the kproxy command in bash: eval "$(kproxy completion bash)"
_kproxy() {
    local line="${COMP_LINE:0:COMP_POINT}"
    local typed="${line##*[[:space:]]}"
    mapfile -t COMPREPLY < <("$1" completion bash --line="$line" 2>/dev/null)
    if [ "${COMPREPLY[0]-}" = ":files" ]; then
        COMPREPLY=()
        compopt -o default
        return
    fi
    # Readline replaces only what follows the last "=" or ":" of what was typed.
    local kept="${typed%"${typed##*[=:]}"}"
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}
complete -F _kproxy kproxy
"""

ZSH = """\
#compdef kproxy
# Completes the kproxy command in zsh: source <(kproxy completion zsh)
_kproxy() {
    local -a found
    found=("${(@f)$("${words[1]}" completion zsh --line="${words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    if [[ "$found[1]" == ":files" ]]; then
        compset -P '--*='
        _files
    elif [[ -n "$found[1]" ]]; then
        _describe kproxy found
    fi
}
if [[ "$funcstack[1]" == "_kproxy" ]]; then
    _kproxy "$@"
else
    compdef _kproxy kproxy
fi
"""

FISH = """\
# Completes the kproxy command in fish: kproxy completion fish | source
function __kproxy_next
    set -l words (commandline -po)
    set -l found ($words[1] completion fish --line=(commandline -cp | string collect) 2>/dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c kproxy -f -a '(__kproxy_next)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
FILES = ":files"
"""What a script gets in place of candidates when the shell knows best."""
_PATHS = ("FILE", "PATH", "FOLDER")


class Candidate(NamedTuple):
    """Something that may be typed next."""

    text: str
    help: str = ""


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "completion",
        help="complete commands, options and services in a shell",
        description="Print a script that lets a shell complete commands, options, and the names of "
        "the services that the running proxy has. "
        'bash: eval "$(kproxy completion bash)" in ~/.bashrc. '
        "zsh: source <(kproxy completion zsh) in ~/.zshrc, behind compinit. "
        "fish: kproxy completion fish | source in ~/.config/fish/config.fish.",
    )
    parser.add_argument("shell", choices=SCRIPTS, metavar="SHELL", help="bash, zsh or fish")
    parser.add_argument(
        "--line", metavar="TEXT", help="print what could come next behind this, as the scripts ask"
    )
    parser.set_defaults(run=completion)


def completion(options: argparse.Namespace) -> int:
    """Run the command."""
    from kproxy.cli import main

    if options.line is None:
        print(SCRIPTS[options.shell], end="")
        return 0
    for candidate in candidates(main.parser(), options.line, services):
        print(_shown(candidate, options.shell))
    return 0


def services(socket: str | None) -> list[str]:
    """The services of the running proxy; none if there is none."""
    from kproxy.cli.client import Client

    try:
        listed = Client(socket, timeout=1.0).ask("GET", "/services")["services"]
    except CommandError:
        return []
    return [service["service"] for service in listed]


def candidates(
    parser: argparse.ArgumentParser, line: str, services: Callable[[str | None], Iterable[str]]
) -> list[Candidate]:
    """What could come next.

    @param line: what has been typed, up to the cursor.
    @param services: the names of services, by the socket that has been given.
    """
    *words, current = _split(line)
    place = _Place(parser)
    for word in words[1:]:
        place.take(word)
    option, equals, _ = current.partition("=")
    if place.pending is None and equals and option in place.options():
        found = place.values(place.options()[option], services)
        found = [c if c.text == FILES else Candidate(f"{option}={c.text}", c.help) for c in found]
    elif place.pending is not None:
        found = place.values(place.pending, services)
    elif current.startswith("-"):
        found = place.unused_options()
    else:
        found = place.arguments(services)
    return [c for c in found if c.text == FILES or c.text.startswith(current)]


class _Place:
    """Where in a command line the cursor is.

    @ivar pending: the option whose value comes next.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.pending: argparse.Action | None = None
        self._given: list[argparse.Action] = []
        self._values: dict[str, str] = {}
        self._enter(parser)

    def _enter(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self._arguments = [action for action in parser._actions if not action.option_strings]

    def options(self) -> dict[str, argparse.Action]:
        return self._parser._option_string_actions

    def take(self, word: str) -> None:
        """A whole word."""
        if self.pending is not None:
            self._values[self.pending.dest] = word
            self.pending = None
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            action = self.options().get(name)
            if action is not None:
                self._given.append(action)
                self._values[action.dest] = value
                if not equals and action.nargs is None:
                    self.pending = action
        elif self._arguments:
            action = self._arguments[0]
            if isinstance(action, argparse._SubParsersAction):
                if word in action.choices:
                    self._enter(action.choices[word])
                else:
                    self._arguments = []
            elif action.nargs not in ("+", "*"):
                del self._arguments[0]

    def unused_options(self) -> list[Candidate]:
        """Options that have not been given, or may be given again, by their long names."""
        return [
            Candidate(action.option_strings[0], action.help or "")
            for action in self._parser._actions
            if action.option_strings and (action not in self._given or _repeats(action))
        ]

    def arguments(self, services: Callable[[str | None], Iterable[str]]) -> list[Candidate]:
        if not self._arguments:
            return []
        action = self._arguments[0]
        if isinstance(action, argparse._SubParsersAction):
            return [Candidate(c.dest, c.help or "") for c in action._choices_actions]
        return self.values(action, services)

    def values(
        self, action: argparse.Action, services: Callable[[str | None], Iterable[str]]
    ) -> list[Candidate]:
        """What an option or argument may be."""
        if isinstance(action, Boolean):
            return [Candidate("true"), Candidate("false")]
        if action.choices is not None:
            return [Candidate(str(choice)) for choice in action.choices]
        if action.metavar == "SERVICE":
            return [Candidate(name) for name in services(self._values.get("socket"))]
        return [Candidate(FILES)] if action.metavar in _PATHS else []


def _repeats(action: argparse.Action) -> bool:
    return isinstance(action, (Texts, argparse._AppendAction))


def _split(line: str) -> Sequence[str]:
    """The words of a line; the last one is that at its end, perhaps empty."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quotation that has not ended
        words = line.split()
    return words if words and not line[-1].isspace() else [*words, ""]


def _shown(candidate: Candidate, shell: str) -> str:
    """A candidate as the script of a shell takes it."""
    text, meaning = candidate.text, candidate.help.replace("%%", "%")
    if shell == "bash" or text == FILES:
        return text
    if shell == "zsh":
        text = text.replace(":", "\\:")
    separator = "\t" if shell == "fish" else ":"
    return f"{text}{separator}{meaning}" if meaning else text
