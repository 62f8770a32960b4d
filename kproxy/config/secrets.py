"""The secrets that a deploy.yml speaks of by name (behaviour.md section 2).

The files are in dotenv's format, and mean what they mean to Kamal:

- ``NAME=value``, ``export NAME=value``, ``# comments``, ``'literal'`` and ``"quoted"`` values.
  Quoted ones may go over several lines; double-quoted ones know ``\\n``, ``\\"`` and ``\\$``.
- ``$NAME``, ``${NAME}`` and ``$(command)`` are replaced, but not between single quotes. A name is
  one of those defined above, else of the environment, else empty.
- Names are replaced in a command before the shell sees it, as text, because Kamal's own idiom
  relies on it: ``ALL=$(kamal secrets fetch …)``, then ``KEY=$(kamal secrets extract KEY $ALL)``,
  where the first prints its answer with the shell's escapes. An unknown name stays for the shell.

python-dotenv reads the same files differently: it knows neither ``$NAME`` nor ``$(command)``, so it
would leave the greater part of the work, and the two parsers' quoting would have to agree. Hence
this small one.

A secret's content never reaches a message: errors name files, lines and names.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.]*)[ \t]*=[ \t]*")
_BLANK = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?:\n|$)")
_NAME = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_QUOTE = re.compile('"')
_END = re.compile(r"[ \t\r]*(?:\n|#|\Z)")
_ESCAPES = {"n": "\n", "r": "\r"}

Run = Callable[[str], str]
"""Runs a shell command and returns what it prints; raises `SecretsError` if it fails."""


class SecretsError(Exception):
    """Secrets can't be had; the message holds none of them."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Secrets by name."""

    files: tuple[Path, ...]
    _values: Mapping[str, str] = field(repr=False)
    _environ: Mapping[str, str] = field(repr=False)

    def __getitem__(self, name: str) -> str:
        """The content of a secret.

        @raise SecretsError: it is in none of the files, nor in the environment.
        """
        value = self._values.get(name, self._environ.get(name))
        if value is None:
            places = ", ".join(map(str, self.files))
            raise SecretsError(f"the secret {name} is neither in {places} nor in the environment")
        return value


def read_secrets(
    files: Iterable[Path],
    environ: Mapping[str, str],
    *,
    folder: Path | None = None,
    time_limit: float = 30.0,
) -> Secrets:
    """Read the files of secrets that there are, running the commands in them. It blocks.

    @param files: `Service.secrets_files`; later ones win, and one that is missing is skipped.
    @param environ: for names that no file defines, and for the commands.
    @param folder: where commands run; by default where Kamal runs them, if that can be told.
    @param time_limit: seconds that one command may take.
    @raise SecretsError: a file can't be read or understood, or a command failed.
    """
    files = tuple(files)
    folder = folder or _project(files)
    values: dict[str, str] = {}

    def run(command: str) -> str:
        return run_command(command, environ, folder, time_limit)

    for path in files:
        try:
            text = path.read_text("utf-8-sig")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SecretsError(f"{path} can't be read: {error.strerror}") from error
        except UnicodeDecodeError:
            # Its message, and so a traceback, would quote the file.
            raise SecretsError(f"{path} is not UTF-8 text") from None
        _Reader(str(path), text, values, environ, run).read()
    return Secrets(files, values, environ)


def _project(files: Iterable[Path]) -> Path | None:
    """The folder that ``.kamal`` is in: what ``$(cat config/master.key)`` means is there."""
    folders = [path.parent.parent for path in files if path.parent.name == ".kamal"]
    return next((folder for folder in folders if folder.is_dir()), None)


def run_command(
    command: str, environ: Mapping[str, str], folder: Path | None, time_limit: float
) -> str:
    """Run a shell command; what it prints, without the line breaks at its end.

    @raise SecretsError: it failed, or took longer than `time_limit` seconds.
    """
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environ),
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=time_limit)
        except subprocess.TimeoutExpired:
            # All of its session, since a grandchild that holds the pipe would hold us as well.
            os.killpg(process.pid, signal.SIGKILL)
            raise SecretsError(f"took longer than {time_limit:g} s") from None
    if process.returncode:
        raise SecretsError(f"failed with status {process.returncode}")
    try:
        return output.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretsError("printed what is not UTF-8 text") from None


class _Reader:
    """Reads one file from front to back."""

    def __init__(
        self, name: str, text: str, values: dict[str, str], environ: Mapping[str, str], run: Run
    ) -> None:
        self.name = name
        self.text = text
        self.values = values
        self.environ = environ
        self.run = run
        self.at = 0

    def read(self) -> None:
        while self.at < len(self.text):
            blank = _BLANK.match(self.text, self.at)
            if blank:
                self.at = max(blank.end(), self.at + 1)
                continue
            start = self.at
            assignment = _ASSIGNMENT.match(self.text, start)
            if assignment is None:
                raise self.error(start, "should be NAME=VALUE")
            self.at = assignment.end()
            try:
                self.values[assignment[1]] = self.value(start)
            except SecretsError as error:
                raise self.error(start, f"{assignment[1]}: {error}") from None
            if not _BLANK.match(self.text, self.at):
                raise self.error(start, f"{assignment[1]}: something follows the closing quote")

    def error(self, offset: int, message: str) -> SecretsError:
        line = self.text.count("\n", 0, offset) + 1
        return SecretsError(f"{self.name}:{line}: {message}")

    def value(self, start: int) -> str:
        quote = self.text[self.at : self.at + 1]
        if quote == "'":
            end = self.text.find("'", self.at + 1)
            if end < 0:
                raise SecretsError("the single quote has no end")
            value = self.text[self.at + 1 : end]
            self.at = end + 1
            return value
        if quote == '"':
            self.at += 1
            value = self.expand(_QUOTE, _ESCAPES)
            if not self.text.startswith('"', self.at):
                raise SecretsError("the double quote has no end")
            self.at += 1
            return value
        return self.expand(_END, {})

    def expand(self, end_of_value: re.Pattern[str], escapes: Mapping[str, str]) -> str:
        """Take text up to where it ends, with names and commands replaced."""
        pieces: list[str] = []
        while self.at < len(self.text) and not end_of_value.match(self.text, self.at):
            name = _NAME.match(self.text, self.at)
            if self.text[self.at] == "\\" and self.at + 1 < len(self.text):
                escaped = self.text[self.at + 1]
                pieces.append(escapes.get(escaped, escaped))
                self.at += 2
            elif self.text.startswith("$(", self.at):
                end = _closing(self.text, self.at + 1)
                command = self.text[self.at + 2 : end]
                pieces.append(self.run(_NAME.sub(self.known, command)))
                self.at = end + 1
            elif name:
                pieces.append(self.lookup(name[1] or name[2]) or "")
                self.at = name.end()
            else:
                pieces.append(self.text[self.at])
                self.at += 1
        return "".join(pieces)

    def known(self, name: re.Match[str]) -> str:
        value = self.lookup(name[1] or name[2])
        return name[0] if value is None else value

    def lookup(self, name: str) -> str | None:
        return self.values.get(name, self.environ.get(name))


def _closing(text: str, opening: int) -> int:
    """Where the parenthesis at `opening` is closed, heeding those inside and quotes."""
    depth = 0
    quote = ""
    at = opening
    while at < len(text):
        character = text[at]
        if character == "\\" and quote != "'":
            at += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "()":
            depth += 1 if character == "(" else -1
            if depth == 0:
                return at
        at += 1
    raise SecretsError("$( has no closing parenthesis")
