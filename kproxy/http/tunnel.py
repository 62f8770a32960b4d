"""Two connections tied together, after an upgrade: what comes in at one goes out at the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class TunnelEnd(asyncio.Protocol):
    """One end, as the protocol of its connection.

    Back pressure: while this end can't be written to, the other is not read from. Half-close: when
    this end has nothing more to say, the other is told so, and may still answer. A transport of TLS
    has no half-close: it closes when its peer does, and what it can't be told closes it.
    """

    __slots__ = ("_closed", "_ended", "_transport", "other", "received")

    def __init__(self, transport: Any, closed: Callable[[], None]) -> None:
        self._transport = transport
        self._closed = closed
        self._ended = False
        self.received = 0
        self.other: TunnelEnd

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.other._transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        other = self.other
        if other._ended:
            other._transport.close()
            self._transport.close()
        elif other._transport.can_write_eof():
            other._transport.write_eof()
        else:
            other._transport.close()
        return bool(self._transport.can_write_eof())

    def pause_writing(self) -> None:
        self.other._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other._transport.is_closing():
            self.other._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        if error is None:
            self.other._transport.close()
        else:
            self.other._transport.abort()
        self._closed()


def tie(client: Any, target: Any, closed: Callable[[int], object]) -> tuple[TunnelEnd, TunnelEnd]:
    """Tie two asyncio transports together.

    @param closed: called once, when both are closed, with the bytes that went to the client.
    """
    open_ends = 2

    def one_closed() -> None:
        nonlocal open_ends
        open_ends -= 1
        if open_ends == 0:
            closed(ends[1].received)

    ends = (TunnelEnd(client, one_closed), TunnelEnd(target, one_closed))
    ends[0].other, ends[1].other = ends[1], ends[0]
    client.set_protocol(ends[0])
    target.set_protocol(ends[1])
    for transport in (client, target):
        if not transport.is_closing():
            transport.resume_reading()
    return ends
