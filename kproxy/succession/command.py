"""How this process was started, so that another program can be started in the same way."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line of ``twistd kproxy``."""

    program: tuple[str, ...]
    """The interpreter, twistd, and twistd's own options."""
    arguments: tuple[str, ...]
    """``kproxy``, and its options."""
    folder: str
    """Where relative paths begin."""
    takes_options: bool = True
    """Whether there may be more options of twistd."""

    def again(self, extra: Sequence[str] = ()) -> list[str]:
        """@param extra: more options of twistd, which win over those that are there."""
        return [*self.program, *(extra if self.takes_options else ()), *self.arguments]


def command_line(
    arguments: Sequence[str],
    argv: Sequence[str] = sys.argv,
    original: Sequence[str] = sys.orig_argv,
    executable: str = sys.executable,
) -> CommandLine | None:
    """How this process was started; None: not as ``twistd kproxy``, so that it can't be again.

    @param arguments: those behind ``kproxy``.
    @param argv: what the interpreter gave to twistd.
    @param original: what the interpreter was started with.
    """
    count = len(arguments) + 1
    given = list(original[-count:])
    if given != list(argv[-count:]) or given != ["kproxy", *arguments]:
        return None
    program = (executable, *original[1:-count])
    # `python -m twisted` is another program than twistd. It has none of the options, and no need.
    is_twist = ("-m", "twisted") in pairwise(program)
    return CommandLine(program, tuple(given), os.getcwd(), takes_options=not is_twist)


def whole_command_line() -> CommandLine:
    """That of a program which runs twistd by itself, and knows best with which options."""
    return CommandLine((sys.executable, *sys.orig_argv[1:]), (), os.getcwd(), takes_options=False)


def options_again(twistd: Mapping[str, Any], *, daemon: bool) -> list[str]:
    """The options of twistd with which a program goes on in this process, which works in the folder
    that twistd has gone to.

    @param twistd: those that it was started with.
    @param daemon: whether it has gone to the background: it must not do so again.
    """
    # The file has the right number already, and that of a process which runs.
    options = ["--pidfile="]
    if daemon:
        options.append("--nodaemon")
        if not twistd.get("syslog"):
            options.append(f"--logfile={Path(twistd.get('logfile') or 'twistd.log').absolute()}")
    return options
