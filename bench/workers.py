"""What a second worker gains, and what workers cost: ``python -m bench.workers``.

kproxy without workers, with one and with two, beside nginx with one and with two; then what restarts
and the death of a worker cost those who ask meanwhile. Needs the installation that `make bench` makes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench import mishaps, origin, processes, procfs, report, spreading, wrk
from bench.cases import Case, Kind
from bench.cli import finish, machine, positive, tell
from bench.metrics import BUSY, CPU, ERRORS, P50, P99, RPS, STARTUP_MS, Metric, Sample, medians
from bench.proxies.base import Proxy
from bench.proxies.kproxy import INSTALLED_TWISTD, KProxy
from bench.proxies.nginx import Nginx
from bench.runner import FAILURES, CaseResult, Runner, load, running
from kproxy.cli.errors import CommandError

METRICS = (RPS, P50, P99, CPU, BUSY, ERRORS)
KEEP_ALIVE = Case("keep-alive", "120-byte GET, 32 keep-alive connections", metrics=METRICS)
NEW_CONNECTION = Case(
    "new-connection", "120-byte GET, a connection for each", close=True, metrics=METRICS
)
STARTUP = Case(
    "startup",
    "from start to the first proxied 200",
    kind=Kind.STARTUP,
    metrics=(STARTUP_MS,),
    headline=STARTUP_MS,
)
LARGE = Case("large", "100 KB responses", path="/100k")
REFERENCES = ("kproxy-0", "kproxy-1", "nginx-1")


class WithWorkers(KProxy):
    """kproxy with so many workers."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.name = f"kproxy-{workers}"


class NginxWithWorkers(Nginx):
    """nginx with so many workers."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.name = f"nginx-{workers}"


KPROXIES = tuple(map(WithWorkers, (0, 1, 2)))
NGINXES = tuple(map(NginxWithWorkers, (1, 2)))
TWO = KPROXIES[2]


@dataclass(frozen=True)
class Target:
    """What a figure should be; without a limit it is only told."""

    what: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def wanted(self) -> str:
        """The limit, in words."""
        if self.least is not None:
            return f">= {self.least:g}"
        return "" if self.most is None else f"<= {self.most:g}"

    @property
    def met(self) -> bool | None:
        """Whether it is; None: there is no limit."""
        if self.least is not None:
            return self.value >= self.least
        return None if self.most is None else self.value <= self.most

    def row(self) -> list[str]:
        """A line of the report."""
        verdict = {True: "met", False: "MISSED", None: ""}[self.met]
        return [self.what, f"{self.value:,.2f}", self.wanted, verdict]


@dataclass
class Part:
    """What came of one part: plain data, the same for people, and what it should be."""

    results: Any
    text: str
    targets: list[Target]


@dataclass(frozen=True)
class Setting:
    """What all parts need."""

    origin_port: int
    options: argparse.Namespace

    def compare(self, case: Case, proxies: Sequence[Proxy]) -> CaseResult:
        """All rounds of a case, of the proxies that are here."""
        runner = Runner(self.origin_port, self.options.rounds, self.options.seconds, tell)
        return runner.run(case, [each for each in proxies if each.available() is None])

    @contextmanager
    def two_workers(self) -> Iterator[mishaps.Controlled]:
        """A kproxy with two workers, all of which serve."""
        with running(TWO, mishaps.LOAD, self.origin_port) as started:
            command = INSTALLED_TWISTD.with_name("kproxy")
            kproxy = mishaps.Controlled(started, command, TWO.workers)
            kproxy.serving()
            yield kproxy


def ratio(found: dict[str, Sample], of: str, to: str, metric: Metric) -> float:
    """Of two proxies' figures; nan if there is none of one of them."""
    if of not in found or to not in found:
        return float("nan")
    return found[of][metric.key] / found[to][metric.key]


def gains(rounds: dict[str, list[Sample]]) -> list[Target]:
    """What workers gain, and what they cost.

    The gain is that of each proxy's best round, since whatever else runs on the machine only takes away
    from requests per second. CPU time, which hardly depends on it, goes by the median.
    """
    best = {name: max(each, key=lambda sample: sample[RPS.key]) for name, each in rounds.items()}
    kproxy, nginx = (ratio(best, f"{name}-2", f"{name}-1", RPS) for name in ("kproxy", "nginx"))
    found = {name: medians(each) for name, each in rounds.items()}
    return [
        Target("requests/s, kproxy 2 : 1 workers, best rounds", kproxy),
        Target("requests/s, nginx 2 : 1 workers, best rounds", nginx),
        Target("the gain of kproxy : that of nginx", kproxy / nginx, least=0.9),
        Target("CPU/request, kproxy 2 : 1", ratio(found, "kproxy-2", "kproxy-1", CPU), most=1.1),
        Target("CPU/request, nginx 2 : 1", ratio(found, "nginx-2", "nginx-1", CPU)),
        Target("CPU/request, kproxy 1 : 0", ratio(found, "kproxy-1", "kproxy-0", CPU)),
    ]


def compared(setting: Setting, case: Case, proxies: Sequence[Proxy]) -> Part:
    """A case of all proxies."""
    result = setting.compare(case, proxies)
    targets = gains(result.rounds) if case is KEEP_ALIVE else []
    text = report.case_markdown(result, REFERENCES)
    return Part(report.case_json(result, REFERENCES), text, targets)


def speed(setting: Setting) -> Part:
    """Requests per second and CPU time, over connections that are kept."""
    return compared(setting, KEEP_ALIVE, (*KPROXIES, *NGINXES))


def connections(setting: Setting) -> Part:
    """The same with a connection for each request."""
    return compared(setting, NEW_CONNECTION, (*KPROXIES, NGINXES[0]))


def startup(setting: Setting) -> Part:
    """Until the first answer."""
    return compared(setting, STARTUP, (KPROXIES[0], TWO))


def shares(setting: Setting) -> Part:
    """How evenly workers share 64 connections."""
    found = {}
    for proxy in (TWO, NGINXES[1]):
        with running(proxy, spreading.CASE, setting.origin_port) as started:
            tell(f"shares of {spreading.CASE.connections} connections, {proxy.name}")
            found[proxy.name] = spreading.smallest_shares(started, setting.options.trials)
    rows = [
        [name, f"{min(each):.2f}", f"{median(each):.2f}", str(len(each))]
        for name, each in found.items()
    ]
    text = report.table(["the smaller share", "least", "median", "trials"], rows)
    least = min(found[TWO.name])
    return Part(found, text, [Target("the smaller share of 64 connections", least, least=0.4)])


def memory(setting: Setting) -> Part:
    """What each process holds after load."""
    with setting.two_workers() as kproxy:
        for case in (KEEP_ALIVE, LARGE):
            tell(f"memory: {case.title}")
            load(case, kproxy.running, setting.options.seconds)
        pids = [kproxy.running.process.pid, *kproxy.serving()]
        found = [procfs.process_memory(pid) for pid in pids]
    names = ("control", *(f"worker {number}" for number in range(1, len(pids))))
    rows = [
        [name, *(f"{each[key] / 1024:.1f}" for key in ("rss", "pss", "uss"))]
        for name, each in zip(names, found, strict=True)
    ]
    text = report.table(["MB after load", "resident", "proportional", "unique"], rows)
    most = {key: max(each[key] for each in found[1:]) / 1024 for key in ("rss", "pss")}
    return Part(
        dict(zip(names, found, strict=True)),
        text,
        [
            Target("MB of a worker after load, proportional", most["pss"], most=60),
            Target("MB of a worker after load, resident", most["rss"], most=60),
        ],
    )


def restart(setting: Setting) -> Part:
    """Requests while workers are replaced."""
    return restarted(setting, ("restart",))


def restart_all(setting: Setting) -> Part:
    """Requests while the control process is replaced as well."""
    return restarted(setting, ("restart", "--all"))


def restarted(setting: Setting, words: tuple[str, ...]) -> Part:
    """Requests while one restart follows the other."""
    command = f"kproxy {' '.join(words)}"
    count = setting.options.restarts
    tell(f"{count} times {command}")
    with setting.two_workers() as kproxy:
        found = mishaps.restarts(kproxy, words, count)
    rows = []
    for name in ("at_rest", "restarting"):
        seen = found[name]
        times = [f"{seen[key]:.1f}" for key in ("p50_ms", "p99_ms", "most_ms", "silence_ms")]
        ended = [f"{seen['downloads']}", f"{len(seen['failed_downloads'])}"]
        rows.append([name, f"{seen['requests']:,}", f"{seen['failed']}", *times, *ended])
    head = ["", "requests", "failed", "p50 ms", "p99 ms", "most ms", "silence ms"]
    took = found["took_ms"]
    lines = [
        f"### {count} times {command}, {took['median'] / 1e3:.2f} s each",
        "",
        report.table([*head, "downloads", "failed"], rows),
        "",
        *(f"- command: {each}" for each in found["refused"]),
        *(f"- request: {each}" for each in found["restarting"]["failures"]),
        *(f"- download: {each}" for each in found["restarting"]["failed_downloads"]),
        *(f"- kproxy says: {each}" for each in found["complaints"]),
    ]
    seen = found["restarting"]
    slower = seen["p99_ms"] / found["at_rest"]["p99_ms"]
    targets = [
        Target(f"failed requests, {command}", seen["failed"], most=0),
        Target(f"failed downloads, {command}", len(seen["failed_downloads"]), most=0),
        Target(f"failed commands, {command}", len(found["refused"]), most=0),
        Target(f"p99 meanwhile : at rest, {command}", slower),
    ]
    return Part(found, "\n".join(lines), targets)


def kill(setting: Setting) -> Part:
    """Requests when a worker is killed. Each time it is another kproxy's, since workers that are killed
    again and again are replaced ever more slowly."""
    found = []
    for number in range(setting.options.kills):
        tell(f"kill -9, {number + 1} of {setting.options.kills}")
        with setting.two_workers() as kproxy:
            found.append(mishaps.kill(kproxy))
    keys = ("held", "lost", "lost_of_others", "replaced_ms")
    rows = [[key, *(f"{each[key]:.0f}" for each in found)] for key in keys]
    text = report.table(["kill -9", *map(str, range(1, len(found) + 1))], rows)
    slowest = max(each["replaced_ms"] for each in found) / 1e3
    others = sum(each["lost_of_others"] for each in found)
    more = sum(each["lost"] > each["held"] for each in found)
    return Part(
        found,
        text,
        [
            Target("requests lost that the killed worker did not hold", others, most=0),
            Target("kills that cost more requests than it held", more, most=0),
            Target("s until the killed worker is replaced, at most", slowest, most=1),
        ],
    )


PARTS: dict[str, Callable[[Setting], Part]] = {
    "speed": speed,
    "connections": connections,
    "startup": startup,
    "shares": shares,
    "memory": memory,
    "restart": restart,
    "restart-all": restart_all,
    "kill": kill,
}


def run(options: argparse.Namespace) -> None:
    """All parts that are asked for; each is printed, and the file written anew, when it is done."""
    results: dict[str, Any] = {"machine": machine(), "parts": {}, "targets": [], "failed": {}}
    targets: list[Target] = []
    print(", ".join(str(value) for value in results["machine"].values()))
    with TemporaryDirectory(prefix="bench-origin-") as folder, origin.running(Path(folder)) as port:
        for name in options.part:
            try:
                part = PARTS[name](Setting(port, options))
            except (*FAILURES, CommandError) as failure:
                print(f"\n{name} was not measured: {failure}", flush=True)
                results["failed"][name] = str(failure)
                continue
            print(f"\n{part.text}", flush=True)
            targets += part.targets
            results["parts"][name] = part.results
            results["targets"] = [{**asdict(each), "met": each.met} for each in targets]
            if options.json:
                options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{report.table(['', 'measured', 'wanted', ''], [each.row() for each in targets])}")


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the results here too")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--rounds", type=positive, default=3, help="of each proxy (3)")
    parser.add_argument("--seconds", type=positive, default=1, help="of load in a round (1)")
    parser.add_argument("--trials", type=positive, default=10, help="of opening connections (10)")
    parser.add_argument("--restarts", type=positive, default=20, help="of each kind (20)")
    parser.add_argument("--kills", type=positive, default=10, help="of a worker (10)")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Measure, and print the results; the exit status."""
    options = arguments(argv)
    reason = TWO.available() or (None if processes.find_program("wrk") else wrk.INSTALL_HINT)
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    return finish(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
