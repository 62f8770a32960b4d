"""What an operation waits for: a line that changes on a terminal, else a line for each news."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TextIO

STEPS = {
    "waiting": "Waiting for other operations",
    "rehearsing": "Trying whether the program that is installed now comes up",
    "replacing": "It does, and takes over",
}
"""Those of a restart."""


class Shown:
    """Shows events; use it as a context manager, so that the terminal is left clean."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._last = ""
        self._pending = False
        self._checks: dict[str, str] = {}

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pending:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def show(self, event: Mapping[str, Any]) -> None:
        text = describe(event)
        if self._terminal:
            stays = event["event"] in ("switched", "warning")
            if event["event"] == "check":
                self._checks[event["target"]] = text
                text = "; ".join(self._checks.values())
            self._stream.write(f"\r\x1b[K{text}\n" if stays else f"\r\x1b[K{self._cut(text)}")
            self._pending = not stays
        elif text != self._last:
            self._stream.write(text + "\n")
            self._last = text
        self._stream.flush()

    def _cut(self, text: str) -> str:
        """As much as fits on one line, since only that line can be written over."""
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            columns = 0
        columns = columns or 80
        return text if len(text) < columns else text[: columns - 2] + "…"


def describe(event: Mapping[str, Any]) -> str:
    """An event in words."""
    kind = event["event"]
    if kind == "queued":
        return f"Waiting for another operation on {event['service']}"
    if kind == "check":
        count = f"health check {event['attempt']} of {event['target']}"
        return f"{count}: {'healthy' if event['healthy'] else event['failure']}"
    if kind == "switched":
        rollout = "The rollout of " if event.get("rollout") else ""
        return f"{rollout}{event['service']} is served by {', '.join(event['targets'])}"
    if kind == "draining":
        left = event["requests"]
        return f"Draining: {left} request{'' if left == 1 else 's'} left"
    if kind == "restart":
        return STEPS.get(event["step"], str(event["step"]))
    if kind == "warning":
        return f"Warning: {event['message']}"
    return str(kind)
