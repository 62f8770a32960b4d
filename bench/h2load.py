"""The load generator for HTTP/2: h2load, of nghttp2."""

from __future__ import annotations

import re
import subprocess

from bench.cases import Case
from bench.processes import find_program
from bench.wrk import LoadError

INSTALL_HINT = "h2load isn't on PATH: apt-get install nghttp2-client"

_REQUESTS = re.compile(r"^requests: (\d+) total, .* (\d+) succeeded, (\d+) failed", re.M)
_FINISHED = re.compile(r"^finished in ([\d.]+)(ms|s|us|m)", re.M)
_TRAFFIC = re.compile(r"^traffic: .*?\((\d+)\) total", re.M)
_MEAN = re.compile(r"^time for request: +\S+ +\S+ +([\d.]+)(us|ms|s)", re.M)
_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


def parse(output: str) -> dict[str, int]:
    """The totals in h2load's output, named as wrk's; LoadError if there are none.

    It knows no percentiles: ``p50_us`` and ``p99_us`` are its mean.
    """
    requests, finished = _REQUESTS.search(output), _FINISHED.search(output)
    traffic, mean = _TRAFFIC.search(output), _MEAN.search(output)
    if not (requests and finished and traffic and mean):
        raise LoadError(f"h2load reported nothing: {output.strip()[-300:]}")
    mean_us = round(float(mean[1]) * _US[mean[2]])
    return {
        "requests": int(requests[2]),
        "bytes": int(traffic[1]),
        "duration_us": round(float(finished[1]) * _US[finished[2]]),
        "p50_us": mean_us,
        "p99_us": mean_us,
        **dict.fromkeys(("connect", "read", "write", "timeout"), 0),
        "status": int(requests[3]),
    }


def run(case: Case, port: int, seconds: int) -> dict[str, int]:
    """Load a proxy for some seconds: one request at a time on each connection."""
    program = find_program("h2load")
    if program is None:
        raise LoadError(INSTALL_HINT)
    argv = [program, "--threads=1", f"--clients={case.connections}", "--max-concurrent-streams=1"]
    argv += [f"--duration={seconds}", f"--connect-to=127.0.0.1:{port}"]
    argv.append(f"https://{case.host(0)}:{port}{case.path}")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30, check=False)
    if done.returncode:
        raise LoadError(f"h2load exited with {done.returncode}: {done.stderr.strip()[-300:]}")
    return parse(done.stdout)
