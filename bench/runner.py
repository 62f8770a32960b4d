"""One case, all proxies, in interleaved rounds: A B C, A B C, …"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import h2load, handshakes, idle, processes, procfs, wrk
from bench.cases import Case, Kind
from bench.metrics import Sample, medians
from bench.proxies.base import Proxy

WARM_UP_SECONDS = 1
READY_SECONDS = 180.0
"""Long, for 10,000 services take some proxies a while to read."""

FAILURES = (processes.NotReadyError, wrk.LoadError, idle.ClosedError, OSError)


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that answers."""

    process: processes.Process
    port: int
    workdir: Path
    startup_ms: float
    """From its start to the first 200 that came through it."""

    def pids(self) -> list[int]:
        """Its processes."""
        return procfs.session_pids(self.process.pid)

    def cpu_ns(self) -> int:
        """What they have spent so far, and those that have ended."""
        return procfs.cpu_ns(self.pids()) + procfs.ended_cpu_ns(self.process.pid)

    def memory_kb(self) -> int:
        """What they hold."""
        return procfs.memory_kb(self.pids())


@dataclass(slots=True)
class CaseResult:
    """What came of one case: the rounds of each proxy, or why there are none."""

    case: Case
    rounds: dict[str, list[Sample]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def medians(self) -> dict[str, Sample]:
        """Proxy → the medians of its rounds."""
        return {name: medians(rounds) for name, rounds in self.rounds.items()}

    def drop(self, proxy: str, reason: str) -> None:
        """Leave a proxy out of the result, with all its rounds."""
        self.rounds.pop(proxy, None)
        self.skipped[proxy] = reason


@contextmanager
def running(proxy: Proxy, case: Case, origin_port: int) -> Iterator[Running]:
    """A proxy that answers for every host of the case, for as long as the block lasts."""
    with ExitStack() as stack:
        workdir = Path(stack.enter_context(TemporaryDirectory(prefix=f"bench-{proxy.name}-")))
        port = processes.free_port()
        began = time.perf_counter()
        process = stack.enter_context(
            processes.stopped_at_exit(proxy.start(origin_port, port, workdir, case))
        )

        def answers(host: str) -> Callable[[], bool]:
            return lambda: processes.status_of(port, host, case.tls) == 200

        first, *others = case.hosts_under_load
        processes.wait_until(answers(first), process, workdir, READY_SECONDS)
        startup_ms = (time.perf_counter() - began) * 1e3
        for host in others:
            processes.wait_until(answers(host), process, workdir, READY_SECONDS)
        yield Running(process, port, workdir, startup_ms)


def load(case: Case, proxy: Running, seconds: int) -> Sample:
    """One round of load, after a warm-up."""
    lua = proxy.workdir / "bench.lua"
    lua.write_text(wrk.script(case))

    def ask(seconds: int) -> dict[str, int]:
        if case.http2:
            return h2load.run(case, proxy.port, seconds)
        return wrk.run(case, proxy.port, lua, seconds)

    ask(WARM_UP_SECONDS)
    before, busy = proxy.cpu_ns(), procfs.busy_ns()
    totals = ask(seconds)
    busy = procfs.busy_ns() - busy
    sample = wrk.sample(totals, proxy.cpu_ns() - before)
    return {**sample, "busy_cores": busy / 1e3 / totals["duration_us"]}


def shake_hands(case: Case, proxy: Running, seconds: int) -> Sample:
    """One round of handshakes, after a warm-up."""
    handshakes.run(proxy.port, WARM_UP_SECONDS, case.resumed)
    before = proxy.cpu_ns()
    totals = handshakes.run(proxy.port, seconds, case.resumed)
    return handshakes.sample(totals, proxy.cpu_ns() - before)


def measure(case: Case, proxy: Running, seconds: int) -> Sample:
    """One round of whatever kind the case is."""
    if case.kind is Kind.STARTUP:
        return {"startup_ms": proxy.startup_ms}
    if case.kind is Kind.IDLE:
        return idle.measure(case, proxy.port, proxy.memory_kb)
    if case.kind is Kind.HANDSHAKE:
        return shake_hands(case, proxy, seconds)
    return load(case, proxy, seconds)


class Runner:
    """Runs cases against one origin."""

    def __init__(
        self, origin_port: int, rounds: int, seconds: int, tell: Callable[[str], None]
    ) -> None:
        self._origin_port = origin_port
        self._rounds = rounds
        self._seconds = seconds
        self._tell = tell

    def run(self, case: Case, proxies: Sequence[Proxy]) -> CaseResult:
        """All rounds of a case. A proxy that fails is left out; the others go on."""
        result = CaseResult(case)
        able = []
        for proxy in proxies:
            reason = proxy.cannot(case)
            if reason is None:
                able.append(proxy)
            else:
                result.drop(proxy.name, reason)
        if case.kind in (Kind.LOAD, Kind.HANDSHAKE):
            self._run_kept(result, able)
        else:
            self._run_fresh(result, able)
        return result

    def _run_kept(self, result: CaseResult, proxies: Sequence[Proxy]) -> None:
        """All proxies run from the first round to the last, idle while others are loaded."""
        with ExitStack() as stack:
            kept: dict[str, Running] = {}
            for proxy in proxies:
                self._tell(f"{result.case.name}: starting {proxy.name}")
                try:
                    kept[proxy.name] = stack.enter_context(
                        running(proxy, result.case, self._origin_port)
                    )
                except FAILURES as failure:
                    result.drop(proxy.name, str(failure))
            for number in range(self._rounds):
                for name, proxy_running in kept.items():
                    self._round(result, number, name, proxy_running)

    def _run_fresh(self, result: CaseResult, proxies: Sequence[Proxy]) -> None:
        """A new process for every round."""
        for number in range(self._rounds):
            for proxy in proxies:
                try:
                    with running(proxy, result.case, self._origin_port) as started:
                        self._round(result, number, proxy.name, started)
                except FAILURES as failure:
                    result.drop(proxy.name, str(failure))

    def _round(self, result: CaseResult, number: int, name: str, proxy: Running) -> None:
        if name in result.skipped:
            return
        self._tell(f"{result.case.name}: round {number + 1} of {self._rounds}, {name}")
        try:
            result.rounds.setdefault(name, []).append(measure(result.case, proxy, self._seconds))
        except FAILURES as failure:
            result.drop(name, str(failure))
