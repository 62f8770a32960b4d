"""The fatal alerts that are sent before there is a TLS engine to send them (RFC 8446 section 6)."""

from __future__ import annotations

UNEXPECTED_MESSAGE = 10
RECORD_OVERFLOW = 22
ILLEGAL_PARAMETER = 47
DECODE_ERROR = 50
PROTOCOL_VERSION = 70
INTERNAL_ERROR = 80
UNRECOGNIZED_NAME = 112
NO_APPLICATION_PROTOCOL = 120


class TLSAlert(Exception):
    """Why a client is sent away.

    @ivar code: the description that the client gets to know.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code

    def record(self) -> bytes:
        """The fatal alert, as it goes over the wire."""
        return b"\x15\x03\x03\x00\x02\x02" + bytes([self.code])
