"""The Unix socket that the ``kproxy`` command talks to."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.unix import Port as UNIXPort

LONGEST = 107
"""Bytes that the kernel takes for the path of a socket."""


class SocketInUse(Exception):
    """The socket can't be had; the text says why, and who has it."""


def make_way(path: Path) -> None:
    """Remove a socket that nobody listens on.

    @raise SocketInUse: somebody does, or there can be no socket of that name.
    """
    if len(os.fsencode(path)) > LONGEST:
        raise SocketInUse(f"can't listen on the socket {path}: its path is over {LONGEST} bytes")
    if not path.parent.is_dir():
        raise SocketInUse(f"can't listen on the socket {path}: there is no folder {path.parent}")
    owner = _owner(path)
    if owner is not None:
        who = f" with the process id {owner}" if owner else ""
        raise SocketInUse(
            f"another kproxy{who} has the socket {path}; --socket gives this one another"
        )
    try:
        if path.is_socket():
            path.unlink()
    except OSError as error:
        raise SocketInUse(f"can't replace the socket {path}: {error.strerror}") from error


def listen(reactor: Any, path: Path, factory: Any, inherited: int = -1) -> Any:
    """Listen on a new socket, which only its owner can use.

    @param inherited: the descriptor of one that listens already, and is taken over; negative: there
        is none.
    @return: the port.
    @raise SocketInUse: it can't be made.
    """
    if inherited >= 0:
        adopted: Any = _OwnersPort
        port = adopted._fromListeningDescriptor(reactor, inherited, factory)
        port.startListening()
        os.close(inherited)
        return port
    # The mode is set after the socket is bound; until then the mask keeps others out.
    mask = os.umask(0o177)
    try:
        return reactor.listenUNIX(str(path), factory, mode=0o600)
    except (CannotListenError, OSError) as error:
        reason = getattr(error, "socketError", error)
        raise SocketInUse(f"can't listen on the socket {path}: {reason}") from error
    finally:
        os.umask(mask)


class _OwnersPort(UNIXPort):
    """What `adoptStreamPort` makes, which lets everybody connect."""

    def __init__(self, path: Any, factory: Any, reactor: Any) -> None:
        super().__init__(path, factory, mode=0o600, reactor=reactor)


def _owner(path: Path) -> int | None:
    """Who listens there: a process id, 0 if that can't be told; None if nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        try:
            sock.connect(str(path))
        except TimeoutError:
            return 0  # somebody listens, and is busy
        except OSError:
            return None
        if not hasattr(socket, "SO_PEERCRED"):
            return 0
        size = struct.calcsize("3i")
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int(struct.unpack("3i", credentials)[0])
