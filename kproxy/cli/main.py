"""The frame of the ``kproxy`` command.

A group of commands is a module with a function ``register(commands)``. It adds a parser for each
command and says what runs it: ``parser.set_defaults(run=function)``, where the function takes the
arguments and returns the exit status. What a command needs it imports when it runs, so that the
others start fast. A command that can't do its work raises `CommandError`.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

from kproxy import __version__
from kproxy.cli import check, completion, deploy, explain, rollout, run, services, wrappers
from kproxy.cli.arguments import Parser
from kproxy.cli.errors import CommandError

GROUPS = (run, deploy, rollout, services, explain, check, wrappers, completion)
INTERRUPTED = 130
"""What a shell reports for a command that SIGINT ended."""
READER_GONE = 141
"""The same for SIGPIPE."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    @param arguments: without the program's name; by default those of the process.
    @return: the exit status: 0 done, 1 failed, 2 wrong usage.
    """
    try:
        options = parser().parse_args(arguments)
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except CommandError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        _forget_output()
        return READER_GONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        print(
            f"kproxy: a fault of kproxy's own: {type(error).__name__}: {error} "
            f"({place.filename}:{place.lineno}); please report it",
            file=sys.stderr,
        )
        return 1


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = Parser(prog="kproxy", description="A reverse proxy that deploys without gaps.")
    top.add_argument("--version", action="version", version=f"kproxy {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in GROUPS:
        group.register(commands)
    return top


def _forget_output() -> None:
    # The interpreter flushes standard output once more when it ends, and would complain.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
