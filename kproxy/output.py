"""Where the lines of the access log and the proxy's own events go."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.python.logfile import LogFile

from kproxy.config import Configuration
from kproxy.lines import LineWriter
from kproxy.logs import EventLog, takes_events
from kproxy.threads import InThread


def access_log_path(configuration: Configuration, twistd: Mapping[str, Any]) -> Path | None:
    """Where the access log goes; None: to standard output, which a daemon does not have."""
    if configuration.access_log is not None or twistd.get("nodaemon", True):
        return configuration.access_log
    logfile = twistd.get("logfile")
    if logfile and logfile != "-":
        return Path(logfile).absolute().parent / "access.log"
    return Path(twistd.get("rundir") or ".").absolute() / "access.log"


class Output:
    """What this process writes.

    @param twistd: the options of twistd.
    @ivar access_log: the file of the access log; None: standard output.
    @ivar events: writes the proxy's own events to standard output, if that is not for twistd to do.
    """

    def __init__(
        self,
        configuration: Configuration,
        twistd: Mapping[str, Any],
        reactor: Any,
        in_thread: InThread,
    ) -> None:
        self.access_log = access_log_path(configuration, twistd)
        self.events: EventLog | None = None
        self._lines = LineWriter(reactor, in_thread, self.access_log)
        self._writers = [self._lines]
        self.write = self._lines.write
        if takes_events(twistd):
            lines = self._lines
            if self.access_log is not None:
                lines = LineWriter(reactor, in_thread, None)
                self._writers.append(lines)
            # Whatever ends this process, but for a kill.
            atexit.register(lines.close)
            self.events = EventLog(lines.write, reactor.callFromThread)

    def reopen(self, rotate: Any) -> None:
        """Open files anew, after a log rotation.

        @param rotate: twistd's handler of the signal that asks for it.
        """
        self._lines.reopen()
        log_file = _log_file_of(rotate)
        if log_file is not None:
            log_file.reopen()
        elif callable(rotate):
            rotate(None, None)

    def flush(self) -> None:
        """Write what waits, now."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Write what waits of the access log, and what may still come as it comes."""
        self._lines.close()


def _log_file_of(handler: Any) -> LogFile | None:
    """The log file of twistd. Only the handler that twistd has for USR1 knows it, and all that one
    does is to rotate; a file that somebody else's rotation has moved away would be written on."""
    cells = getattr(handler, "__closure__", None) or ()
    return next((c.cell_contents for c in cells if isinstance(c.cell_contents, LogFile)), None)
