"""How a command fails."""

from __future__ import annotations


class CommandError(Exception):
    """A command can't do its work; the message is all that the user reads."""
