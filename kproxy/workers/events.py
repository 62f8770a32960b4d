"""What a worker logs, in the log of the control process."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel, formatEvent
from zope.interface import implementer

from kproxy.workers.channel import Channel
from kproxy.workers.frames import Message


@implementer(ILogObserver)
class ChannelEvents:
    """Sends events of ``twisted.logger``."""

    def __init__(self, channel: Channel, reactor: Any) -> None:
        self._channel = channel
        self._reactor = reactor

    def __call__(self, event: Mapping[str, Any]) -> None:
        message = event_message(event)
        if threading.current_thread() is threading.main_thread():
            self._channel.tell("event", **message)
        else:
            self._reactor.callFromThread(lambda: self._channel.tell("event", **message))


def event_message(event: Mapping[str, Any]) -> Message:
    """An event as JSON can carry it."""
    failure = event.get("log_failure")
    return {
        "level": event.get("log_level", LogLevel.info).name,
        "logger": event.get("log_namespace", ""),
        "text": formatEvent(dict(event)),
        "traceback": None if failure is None else failure.getTraceback(),
    }


def log_again(message: Message, worker: int) -> None:
    """Log what a worker has sent.

    @param worker: its process id.
    """
    text, trace = message["text"], message["traceback"]
    Logger(message["logger"]).emit(
        LogLevel.levelWithName(message["level"]),
        "{text} (worker {worker})" if trace is None else "{text} (worker {worker})\n{trace}",
        text=text,
        worker=worker,
        trace=trace,
    )
