"""What a client's HTTP/2 connection has to send: in order, in few pieces, and each stream in turn.

The rules that keep it right:

1. All that goes out passes `_out`, in order; frames that h2 made by itself are taken from it first.
2. It is handed to the transport in one piece when what came in has been looked at to its end, or at
   once when something else brought it about.
3. A stream that has to wait for the connection stands in line. Whoever is first sends one frame, and
   goes to the end of the line. That is done once for all that came in together, so that a window
   that is opened byte by byte does not make a frame of each.
4. What was read of targets and can't be sent is little: each stream pauses whoever makes its response
   when it has something that waits, and all of those that can't send pause once `MOST_HELD` wait.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from kproxy.sockets import unconfirmed

if TYPE_CHECKING:
    from kproxy.http.http2_machine import Machine
    from kproxy.http.http2_response import StreamResponse

SEND_AT_ONCE: Final = 64 * 1024
"""Bytes of responses that are handed to the transport in one piece."""
MOST_UNSENT: Final = 256 * 1024
"""Bytes that wait for the client, over which it is not listened to."""
MOST_HELD: Final = 1024 * 1024
"""Bytes that wait in streams, over which no target is read from before its stream can send."""


class Outbox:
    """The way from streams to the transport.

    @ivar transport: where it leads; None before and behind the life of the connection.
    @ivar blocked: the transport takes nothing now.
    @ivar collecting: more is about to come, so that `flush` waits.
    @ivar line: streams that have something to do, and room for it in their own windows.
    @ivar flowing: streams whose producers have not been paused.
    @ivar held: bytes that wait in streams.
    """

    __slots__ = (
        "_machine",
        "_out",
        "_pumping",
        "_secure",
        "_size",
        "_unsent",
        "blocked",
        "collecting",
        "flowing",
        "held",
        "line",
        "transport",
    )

    def __init__(self, machine: Machine, secure: bool) -> None:
        self.transport: Any = None
        self.blocked = False
        self.collecting = False
        self.line: deque[StreamResponse] = deque()
        self.flowing: set[StreamResponse] = set()
        self.held = 0
        self._machine = machine
        self._secure = secure
        self._unsent = 0
        self._out: list[bytes | memoryview] = []
        self._size = 0
        self._pumping = False

    def write(self, *parts: bytes | memoryview) -> None:
        """Frames that h2 did not make, behind those that it did."""
        made = self._machine.data_to_send()
        if made:
            self._out.append(made)
        self._out += parts
        self._size += len(parts[-1])
        if self._size >= SEND_AT_ONCE:
            self._hand_over()

    def flush(self) -> None:
        """Send what there is to send, unless more is about to come."""
        if not self.collecting and not self._pumping:
            self._hand_over()

    def _hand_over(self) -> None:
        made = self._machine.data_to_send()
        out = self._out
        if not out:
            if made and self.transport is not None:
                self.transport.write(made)
            return
        self._out = []
        self._size = 0
        if made:
            out.append(made)
        if self.transport is not None:
            self.transport.write(b"".join(out))

    def line_up(self, stream: StreamResponse) -> None:
        """Let a stream go on as soon as the connection has room."""
        if not stream.in_line and stream.can_go_on():
            stream.in_line = True
            self.line.append(stream)

    def pump(self) -> None:
        """Let the streams in line go on, in turn, as long as there is room."""
        if self._pumping:
            return
        machine, line = self._machine, self.line
        self._pumping = True
        try:
            while line and not self.blocked and machine.outbound_flow_control_window > 0:
                stream = line.popleft()
                stream.in_line = False
                if stream.can_go_on():
                    stream.go_on()
                    self.line_up(stream)
        finally:
            self._pumping = False
        self.flush()

    def hold(self, size: int) -> None:
        """So much more waits in a stream."""
        self.held += size
        if self.held > MOST_HELD:
            for stream in list(self.flowing):
                stream.wait_if_full()

    # What waits in the transport.

    def unsent(self) -> int:
        """Bytes that the client has not got; beneath TLS there may be some that its transport does
        not tell of."""
        waiting: int = self.transport.get_write_buffer_size()
        return waiting or (unconfirmed(self.transport) if self._secure else 0)

    def overflows(self) -> bool:
        """Whether so much waits that the client should not ask for more."""
        return self.blocked and self.transport.get_write_buffer_size() > MOST_UNSENT

    def remember(self) -> int:
        """Note how much waits now, and say it."""
        self._unsent = self.unsent()
        return self._unsent

    def moves(self) -> bool:
        """Whether the client has taken anything since that was noted."""
        before = self._unsent
        return self.remember() < before
