"""TLS between a transport and a protocol of asyncio's shape, once the handshake is done.

Below, it is the protocol of a transport that carries what is encrypted. Above, it is the transport of
the protocol that the client is welcomed with. In between is OpenSSL, with buffers in memory.

It is used on every loop and reactor. uvloop's own TLS does the same in Cython, and is no faster for it:
most of the time is OpenSSL's. It takes more than twice the memory, wants a connection of which nothing
has been read, and tells no client why a handshake failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kproxy.tls.server import TLSServer

RECORD = 16 * 1024
"""The most that one record of TLS holds (RFC 8446 section 5.1). No more is encrypted or decrypted at a
time, since OpenSSL's buffers keep the size of the largest piece that they ever held."""


class TLSLayer(asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_closing",
        "_incoming",
        "_outgoing",
        "_paused",
        "_protocol",
        "_server",
        "_tls",
        "_transport",
    )

    _transport: Any

    def __init__(
        self,
        server: TLSServer,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        protocol: Any,
    ) -> None:
        """@param tls: has shaken hands; it reads from `incoming`, and writes to `outgoing`.
        @param protocol: what the client is served by.
        """
        self._server = server
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._protocol = protocol
        self._paused = False
        self._closing = False

    # The protocol of what is below.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._protocol.connection_made(self)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), RECORD):
            self._incoming.write(data[start : start + RECORD])
            if self._closing:
                self._read_into_void()
            else:
                self._read()

    def eof_received(self) -> bool:
        """An end without the goodbye of TLS: what is lost with it, nobody knows."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._server.goodbyes.remove(self)
        self._protocol.connection_lost(error)
        self._protocol = None

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def _read(self) -> None:
        """Pass on what has come, until the protocol wants no more."""
        while self._incoming.pending and not self._paused and not self._closing:
            try:
                data = self._tls.read(RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError:
                self.abort()
                return
            if not data:
                self._protocol.eof_received()
                self.close()
                return
            self._protocol.data_received(data)
        if self._outgoing.pending:  # TLS has its own affairs, such as new keys
            self._send()

    def _read_into_void(self) -> None:
        """After our goodbye nothing matters but the client's."""
        try:
            while self._tls.read(RECORD):
                pass
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError:
            pass
        self._transport.close()

    def _send(self) -> None:
        self._transport.write(self._outgoing.read())

    # The transport of what is above.

    def write(self, data: bytes) -> None:
        if self._closing or not data:
            return
        if len(data) <= RECORD:
            self._tls.write(data)
            self._send()
            return
        view = memoryview(data)
        records = []
        for start in range(0, len(data), RECORD):
            self._tls.write(view[start : start + RECORD])
            records.append(self._outgoing.read())
        self._transport.writelines(records)

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
        self._transport.resume_reading()
        self._read_into_void()

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._transport.resume_reading()
            if self._incoming.pending:
                self._server.clock.callLater(0, self._read)

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_write_buffer_size(self) -> int:
        return int(self._transport.get_write_buffer_size())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else self._transport.get_extra_info(name, default)
