"""How a client's HTTP/2 connection ends (RFC 9113 section 6.8), told of by either side.

In three steps:

1. GOAWAY, so that no new stream comes. When the proxy drains, it is said twice: first that the
   connection will end, since a request may be on its way; then, when that must have arrived (a ping
   has come back, or the client had its time), which stream was the last to be served.
2. The last stream.
3. A time to read on (`lingering`): a close with bytes unread would destroy what is on its way to the
   client. Then the close.

An error of the connection goes from the first step to the third.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes

from kproxy.http.http2_machine import LAST_STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from kproxy.http.http2_machine import Machine
    from kproxy.http.http2_outbox import Outbox

FINAL_GOAWAY: Final = 1.0
"""Seconds between the announcement that the connection will end, and that no new request is taken,
for a client that does not answer the ping between them."""
PING_DATA: Final = b"kproxy\0\0"


class Leaving:
    """The end of one connection.

    @ivar last_stream: of those that are served.
    """

    __slots__ = (
        "_begun",
        "_clock",
        "_linger",
        "_machine",
        "_outbox",
        "_streams",
        "_timer",
        "last_stream",
    )

    def __init__(
        self,
        clock: IReactorTime,
        machine: Machine,
        outbox: Outbox,
        streams: Sized,
        linger: Callable[[], object],
    ) -> None:
        """@param streams: those that there are.
        @param linger: begins the last step."""
        self._clock = clock
        self._machine = machine
        self._outbox = outbox
        self._streams = streams
        self._linger = linger
        self._begun = False
        self._timer: IDelayedCall | None = None
        self.last_stream = LAST_STREAM

    def announce(self) -> bool:
        """The proxy drains. Whether this is news."""
        if self._begun:
            return False
        self._begun = True
        self._goaway(LAST_STREAM, ErrorCodes.NO_ERROR)
        self._machine.ping(PING_DATA)
        self._timer = self._clock.callLater(FINAL_GOAWAY, self._take_no_more)
        return True

    def ping_answered(self, data: bytes) -> None:
        if data == PING_DATA and self._timer is not None:
            self._timer.cancel()
            self._take_no_more()

    def _take_no_more(self) -> None:
        self._timer = None
        self.last_stream = self._machine.highest_inbound_stream_id
        self._goaway(self.last_stream, ErrorCodes.NO_ERROR)
        self.stream_ended()
        self._outbox.flush()

    def client_leaves(self) -> None:
        """The client opens no more streams, and waits for those that it has."""
        self._begun = True
        self.last_stream = self._machine.highest_inbound_stream_id
        self.stream_ended()

    def stream_ended(self) -> None:
        """Perhaps that was the last."""
        if self.last_stream != LAST_STREAM and not self._streams:
            self._linger()

    def at_once(self, code: ErrorCodes) -> None:
        """Nothing more is served: the connection is idle, or there was an error."""
        self._goaway(self._machine.highest_inbound_stream_id, code)

    def _goaway(self, last_stream: int, code: ErrorCodes) -> None:
        self._outbox.write(self._machine.goaway_frame(last_stream, code))

    def stop(self) -> None:
        """The last step has begun, or there is no connection any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
