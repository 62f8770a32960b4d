"""How evenly the workers of a proxy share its connections."""

from __future__ import annotations

from contextlib import ExitStack, closing
from http.client import HTTPConnection

from bench import idle, processes, procfs
from bench.cases import Case
from bench.runner import Running

CASE = Case("shares", "64 keep-alive connections", connections=64)
CLOSE_SECONDS = 10.0


def open_at_once(stack: ExitStack, case: Case, port: int, count: int) -> None:
    """Open all connections before one of them makes its request."""
    opened = []
    for _ in range(count):
        connection = stack.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=10)))
        connection.sock = processes.connect(port, case.host(0), timeout=10)
        opened.append(connection)
    for connection in opened:
        connection.request("GET", case.path, headers={"Host": case.host(0)})
    for connection in opened:
        connection.getresponse().read()


def smallest_shares(proxy: Running, trials: int) -> list[float]:
    """Of each trial, what part of the connections that worker has which has the fewest.

    Connections come one after the other, and in every second trial all at once.
    """

    def counts() -> list[int]:
        workers = (pid for pid in proxy.pids() if pid != proxy.process.pid)
        return [len(procfs.client_ports(pid, proxy.port)) for pid in workers]

    def none_left() -> bool:
        return not any(counts())

    found = []
    for number in range(trials):
        processes.wait_until(none_left, proxy.process, proxy.workdir, CLOSE_SECONDS)
        with ExitStack() as stack:
            open_connections = open_at_once if number % 2 else idle.open_connections
            open_connections(stack, CASE, proxy.port, CASE.connections)
            held = counts()
        found.append(min(held) / sum(held))
    return found
