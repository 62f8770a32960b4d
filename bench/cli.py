"""The command line: chooses cases and proxies, runs them, prints and saves the results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from bench import origin, processes, report, wrk
from bench.cases import CASES, Case, Kind
from bench.proxies import PROXIES
from bench.proxies.base import Proxy
from bench.runner import Runner

INTERRUPTED = 130


def positive(text: str) -> int:
    """An argument that is a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("should be at least 1")
    return number


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [case.name for case in CASES]
    proxies = [proxy.name for proxy in PROXIES]
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the results here too")
    parser.add_argument("--case", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--proxy", nargs="+", choices=proxies, default=proxies, metavar="NAME")
    parser.add_argument("--rounds", type=positive, default=3, help="per case and proxy (3)")
    parser.add_argument("--seconds", type=positive, default=3, help="of load in a round (3)")
    parser.add_argument("--list", action="store_true", help="show cases and proxies, and stop")
    return parser.parse_args(argv)


def show_list() -> None:
    """What there is, and which proxies are missing."""
    print("Cases:")
    for case in CASES:
        print(f"  {case.name:20} {case.title}")
    print("Proxies:")
    for proxy in PROXIES:
        reason = proxy.available()
        print(f"  {proxy.name:20} {proxy.version() if reason is None else f'skipped: {reason}'}")


def machine() -> dict[str, Any]:
    """Where and when the figures were taken."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def cpu_model() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def tell(text: str) -> None:
    """Progress, apart from the results."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def interrupt(number: int, frame: object) -> NoReturn:
    """End as on Ctrl-C, so that everything started is stopped."""
    raise KeyboardInterrupt


def run(options: argparse.Namespace, cases: Sequence[Case], proxies: Sequence[Proxy]) -> None:
    """All cases; each is printed, and the file written anew, as soon as it is done."""
    processes.raise_file_limit()
    results: dict[str, Any] = {
        "machine": machine(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "versions": {proxy.name: proxy.version() for proxy in proxies},
        "skipped": {
            proxy.name: reason
            for proxy in PROXIES
            if proxy.name in options.proxy and (reason := proxy.available()) is not None
        },
        "cases": {},
    }
    print(report.introduction(results))
    with TemporaryDirectory(prefix="bench-origin-") as folder, origin.running(Path(folder)) as port:
        runner = Runner(port, options.rounds, options.seconds, tell)
        for case in cases:
            result = runner.run(case, proxies)
            print(f"\n{report.case_markdown(result)}", end="", flush=True)
            results["cases"][case.name] = report.case_json(result)
            if options.json:
                options.json.write_text(json.dumps(results, indent=2) + "\n")


def finish(work: Callable[[], None]) -> int:
    """Do what was asked for, to the end or until it is interrupted; the exit status."""
    signal.signal(signal.SIGTERM, interrupt)
    try:
        work()
    except processes.NotReadyError as failure:
        print(f"the origin doesn't run: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: everything that was started has been stopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def main(argv: Sequence[str]) -> int:
    """Run the comparison; the exit status."""
    options = arguments(argv)
    if options.list:
        show_list()
        return 0
    cases = [case for case in CASES if case.name in options.case]
    proxies = [
        proxy for proxy in PROXIES if proxy.name in options.proxy and proxy.available() is None
    ]
    if any(case.kind is Kind.LOAD for case in cases) and processes.find_program("wrk") is None:
        print(wrk.INSTALL_HINT, file=sys.stderr)
        return 1
    return finish(lambda: run(options, cases, proxies))
