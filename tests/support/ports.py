"""Ports for servers that tests start.

They lie below those that the system gives to outgoing connections. One of the latter that was free
a moment ago may be a client's the next moment: tests open thousands of connections, and several
runs may share a machine.
"""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

_FIRST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _candidates() -> Iterator[int]:
    """One after the other, so that none is given out twice for a long time; processes begin at
    different ones."""
    try:
        last = int(_RANGE.read_text().split()[0])
    except OSError:
        last = 32_768
    if last - _FIRST < 1000:  # no room below them
        last = 65_536
    ports = range(_FIRST, last)
    begin = random.SystemRandom().randrange(len(ports))
    return itertools.chain(ports[begin:], itertools.cycle(ports))


_ports = _candidates()


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody had a moment ago, neither for TCP nor for UDP."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in _ports:
        with ExitStack() as held:
            try:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    sock = held.enter_context(socket.socket(family, kind))
                    # What a server asks for: a port whose last connections linger is as good.
                    if kind == socket.SOCK_STREAM:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError("there are always more")


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]
