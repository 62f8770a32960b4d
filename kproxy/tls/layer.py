"""TLS between a transport and a protocol of asyncio's shape, where no loop has it: on Twisted's own
transports, those in memory included.

Below, it is the protocol of a transport that carries what is encrypted. Above, it is the transport of
the protocol that the client is welcomed with. In between is OpenSSL, with buffers in memory.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

from kproxy.tls.alerts import TLSAlert
from kproxy.tls.clienthello import MOST
from kproxy.tls.greeting import Greeting
from kproxy.tls.server import TLSServer, Welcome

READ = 64 * 1024
"""Bytes that are decrypted at a time."""


class TLSLayer(Greeting):
    """One connection, from its first byte to its last."""

    def __init__(self, server: TLSServer) -> None:
        super().__init__(server)
        self._lower: Any = None
        self._hello = b""
        self._needed = 1
        self._protocol: Any = None
        self._welcome: Welcome | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: Any = None
        self._paused = False
        self._closing = False

    # The protocol of what is below.

    def connection_made(self, transport: Any) -> None:
        self._lower = transport
        self.begin()

    def data_received(self, data: bytes) -> None:
        if self._tls is not None:
            self._incoming.write(data)
            self._advance()
        elif not self._closing:
            self._hello += data
            if self._needed and len(self._hello) >= self._needed:
                self._needed = self.look(self._hello)
            elif len(self._hello) > MOST:
                self._lower.pause_reading()  # until there is a certificate

    def eof_received(self) -> bool:
        """An end without the goodbye of TLS: what is lost with it, nobody knows."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._server.goodbyes.remove(self)
        self.end()
        if self._protocol is not None:
            protocol, self._protocol = self._protocol, None
            protocol.connection_lost(error)

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    # The beginning.

    def go_on(self, welcome: Welcome) -> None:
        self._lower.resume_reading()
        hello, self._hello = self._hello, b""
        if welcome.context is None:
            self._closing = True  # for this layer
            protocol = welcome.factory()
            self._lower.set_protocol(protocol)
            protocol.connection_made(self._lower)
            self.end()
            protocol.data_received(hello)
            return
        self._welcome = welcome
        self._tls = welcome.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(hello)
        self._advance()

    def turn_away(self, alert: TLSAlert) -> None:
        self._closing = True
        self._lower.write(alert.record())
        self._lower.close()

    def abort(self) -> None:
        self._closing = True
        self._lower.abort()

    # What comes.

    def _advance(self) -> None:
        """Do what can be done with what has come."""
        if self._welcome is not None and not self._shake_hands():
            return
        if self._closing:
            self._read_into_void()
        elif not self._paused:
            self._read()

    def _shake_hands(self) -> bool:
        """Whether the handshake is over, and there is a protocol."""
        assert self._welcome is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return False
        except ssl.SSLError:
            self._closing = True
            self._send()  # OpenSSL's alert
            self._lower.close()
            return False
        self._send()
        self._protocol, self._welcome = self._welcome.factory(), None
        self._protocol.connection_made(self)
        self.end()
        return True

    def _read(self) -> None:
        """Pass on what has come, until the protocol wants no more."""
        while not self._paused and not self._closing:
            try:
                data = self._tls.read(READ)
            except ssl.SSLWantReadError:
                self._send()
                return
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError:
                self.abort()
                return
            if not data:
                self._protocol.eof_received()
                self.close()
                return
            self._protocol.data_received(data)
        if self._closing:
            self._read_into_void()

    def _read_into_void(self) -> None:
        """After our goodbye nothing matters but the client's."""
        try:
            while self._tls.read(READ):
                pass
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError:
            pass
        self._lower.close()

    def _send(self) -> None:
        data = self._outgoing.read()
        if data:
            self._lower.write(data)

    # The transport of what is above.

    def write(self, data: bytes) -> None:
        if not self._closing and data:
            self._tls.write(data)  # all of it, since the buffer in memory takes everything
            self._send()

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        """Say goodbye when all has been sent, and wait for the client's."""
        if self._closing:
            return
        self._closing = True
        self._server.goodbyes.add(self)
        with contextlib.suppress(ssl.SSLError):  # it has said it, and now wants to read
            self._tls.unwrap()
        self._send()
        self._lower.resume_reading()
        self._read_into_void()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True
        self._lower.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._lower.resume_reading()
            self._server.clock.callLater(0, self._read_on)

    def _read_on(self) -> None:
        """What had been decrypted, or had come, before the protocol paused."""
        if not self._paused and not self._closing:
            self._read()

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_write_buffer_size(self) -> int:
        return int(self._lower.get_write_buffer_size())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else self._lower.get_extra_info(name, default)
