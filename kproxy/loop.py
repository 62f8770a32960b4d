"""uvloop's event loop, with readers and writers that hear of every error.

Twisted's own transports are readers and writers: the channels to workers, the socket of the
``kproxy`` command, connections to a CA. uvloop leaves them to libuv, which stops to poll a socket as
soon as there is an error; uvloop then calls them once more, for the last time. Whoever reads, that
time, what came before the connection was reset never reads that it was, and waits for ever
(https://github.com/MagicStack/uvloop/issues/552 is another way to meet it). So the standard library's
selector polls them here, as it does in asyncio's own loop, and the loop polls the selector. What
asyncio and uvloop call transports has nothing to do with all that, nor have requests.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Any

import uvloop

Call = Callable[[], object]


class Loop(uvloop.Loop):
    """The loop of a process."""

    # For sockets that listen, which meet no such errors: this is quicker.
    add_listener = uvloop.Loop.add_reader
    remove_listener = uvloop.Loop.remove_reader

    def __init__(self) -> None:
        super().__init__()
        self._selector = selectors.DefaultSelector()
        super().add_reader(self._selector.fileno(), self._look)

    def close(self) -> None:
        if not self.is_closed():
            super().remove_reader(self._selector.fileno())
            self._selector.close()
        super().close()

    def add_reader(  # type: ignore[override]
        self, fd: Any, callback: Callable[..., Any], *args: Any
    ) -> None:
        self._add(fd, selectors.EVENT_READ, lambda: callback(*args))

    def add_writer(  # type: ignore[override]
        self, fd: Any, callback: Callable[..., Any], *args: Any
    ) -> None:
        self._add(fd, selectors.EVENT_WRITE, lambda: callback(*args))

    def remove_reader(self, fd: Any) -> bool:  # type: ignore[override]
        return self._remove(fd, selectors.EVENT_READ)

    def remove_writer(self, fd: Any) -> bool:  # type: ignore[override]
        return self._remove(fd, selectors.EVENT_WRITE)

    def _calls(self, fd: Any) -> dict[int, Call]:
        """What is called for a descriptor, by the event."""
        key = self._selector.get_map().get(fd)
        calls: dict[int, Call] = {} if key is None else key.data
        return calls

    def _add(self, fd: Any, event: int, call: Call) -> None:
        calls = self._calls(fd)
        self._set(fd, calls, {**calls, event: call})

    def _remove(self, fd: Any, event: int) -> bool:
        calls = self._calls(fd)
        self._set(fd, calls, {other: call for other, call in calls.items() if other != event})
        return event in calls

    def _set(self, fd: Any, old: dict[int, Call], new: dict[int, Call]) -> None:
        events = sum(new)
        if old and new:
            self._selector.modify(fd, events, new)
        elif new:
            self._selector.register(fd, events, new)
        elif old:
            self._selector.unregister(fd)

    def _look(self) -> None:
        for key, events in self._selector.select(0):
            for event in (selectors.EVENT_READ, selectors.EVENT_WRITE):
                # What was called before may have removed this one.
                call = self._calls(key.fd).get(event) if events & event else None
                if call is not None:
                    self._run(call)

    def _run(self, call: Call) -> None:
        try:
            call()
        except Exception as error:
            self.call_exception_handler({"message": "a callback broke", "exception": error})
