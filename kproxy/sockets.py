"""Sockets, and what the kernel knows of them, whatever loop they are served by."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import Sequence
from typing import Any

BACKLOG = 4096
RETRY = 1.0
"""Seconds until a socket that could not be listened on (no descriptors left) is tried again."""
HIGH_WATER = 64 * 1024
"""Bytes that wait to be sent before a producer is asked to pause."""


def bound_socket(address: str, port: int) -> socket.socket:
    """A TCP socket that listens.

    @param address: IPv4 or IPv6; IPv6 sockets take IPv6 only, so that both families can be bound.
    @raise OSError: the address can't be had.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def reset_when_closed(transport: Any) -> None:
    """Let the peer see a reset, in place of an end that it could take for an orderly one.

    Twisted's own transports do that whenever they are aborted; asyncio's and uvloop's never do.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        # A copy, since uvloop's socket object can't set options; they are those of the connection.
        with socket.socket(fileno=os.dup(sock.fileno())) as copy:
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def send_now(transport: Any, parts: Sequence[bytes | memoryview]) -> int:
    """Write to a transport's socket, past the transport, as much as it takes at once.

    @return: bytes that it took; 0 also where bytes would overtake others, where there is no socket to
        write to as it is, and where it is broken, which the transport will find out by itself.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_write_buffer_size() or transport.is_closing():
        return 0
    try:
        return os.writev(sock.fileno(), parts)
    except OSError:
        return 0


def unconfirmed(transport: Any) -> int:
    """Bytes that are on their way to the peer; 0 also where nobody knows."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return 0
    try:
        count = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(count, sys.byteorder)
