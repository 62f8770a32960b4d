"""What a connection costs that does nothing: memory before and after many of them."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection

from bench.cases import Case
from bench.metrics import Sample
from bench.processes import connect

SETTLE_SECONDS = 0.5


class ClosedError(Exception):
    """The proxy closed connections that were to stay open."""


def open_connections(stack: ExitStack, case: Case, port: int, count: int) -> list[HTTPConnection]:
    """Open connections that have made one request each, and leave closing them to ``stack``."""
    opened = []
    for _ in range(count):
        connection = stack.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=10)))
        connection.sock = connect(port, case.host(0), case.tls, timeout=10)
        connection.request("GET", case.path, headers={"Host": case.host(0)})
        connection.getresponse().read()
        opened.append(connection)
    return opened


def is_open(connection: HTTPConnection) -> bool:
    """Whether neither side has closed an idle connection."""
    if connection.sock is None:
        return False
    connection.sock.setblocking(False)
    try:
        # TLS can't be peeked at, but nothing is to come anyway.
        connection.sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False


def measure(case: Case, port: int, memory_kb: Callable[[], int]) -> Sample:
    """KB per idle connection; the first tenth only warms the allocator."""
    with ExitStack() as stack:
        open_connections(stack, case, port, case.connections // 10)
        time.sleep(SETTLE_SECONDS)
        before = memory_kb()
        opened = open_connections(stack, case, port, case.connections)
        time.sleep(SETTLE_SECONDS)
        after = memory_kb()
        still_open = sum(map(is_open, opened))
    if still_open < case.connections:
        raise ClosedError(f"only {still_open} of {case.connections} connections stayed open")
    return {"idle_kb": (after - before) / case.connections, "memory_mb": before / 1024}
