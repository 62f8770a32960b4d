"""The proxy's own events on standard output, one JSON object a line, as the access log has them.

twistd's text is for people who run one program by hand. Under a supervisor the same stream holds the
access log, and whoever collects it wants one format.
"""

from __future__ import annotations

import json
import string
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from twisted.logger import ILogObserver, LogLevel, formatEvent
from zope.interface import implementer

LEVELS = {LogLevel.warn: "WARN", LogLevel.critical: "ERROR"}
"""Where the access log's names of levels are not simply Twisted's in capitals."""

_PLAIN = (str, int, float, bool, type(None))
_OURS = frozenset({"time", "level", "msg", "logger", "traceback"})
_fields_of = string.Formatter().parse


@implementer(ILogObserver)
class EventLog:
    """Writes events of ``twisted.logger`` as JSON.

    ``time``, ``level``, ``msg`` and ``logger`` (the part of the program), then what the message was
    made from, each under its own name; ``error`` and ``traceback`` of what nobody had foreseen.

    @param write: takes a line, in the reactor's thread.
    @param from_thread: lets something be called in the reactor's thread.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        from_thread: Callable[[Callable[[], object]], object],
    ) -> None:
        self._write = write
        self._from_thread = from_thread

    def __call__(self, event: Mapping[str, Any]) -> None:
        line = event_line(event)
        if threading.current_thread() is threading.main_thread():
            self._write(line)
        else:
            self._from_thread(lambda: self._write(line))


def event_line(event: Mapping[str, Any]) -> str:
    """An event as one line of JSON."""
    moment = datetime.fromtimestamp(event["log_time"], timezone.utc)
    level = event.get("log_level", LogLevel.info)
    entry = {
        "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "level": LEVELS.get(level, level.name.upper()),
        "msg": formatEvent(dict(event)),
        "logger": event.get("log_namespace", ""),
    }
    entry.update(_told(event))
    failure = event.get("log_failure")
    if failure is not None:
        entry["error"] = f"{failure.type.__name__}: {failure.getErrorMessage()}"
        entry["traceback"] = failure.getTraceback()
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"


def _told(event: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """What the message speaks of. Other things that an event carries are not for the log."""
    for _, name, _, _ in _fields_of(event.get("log_format") or ""):
        if name and name in event and name not in _OURS and not name.startswith("log_"):
            value = event[name]
            yield name, value if isinstance(value, _PLAIN) else str(value)


def takes_events(twistd: Mapping[str, Any]) -> bool:
    """Whether twistd would write to standard output, and nobody has asked for a format.

    @param twistd: the options of twistd itself.
    """
    elsewhere = twistd.get("logger") or twistd.get("syslog")
    return (
        bool(twistd.get("nodaemon")) and twistd.get("logfile") in (None, "", "-") and not elsewhere
    )
