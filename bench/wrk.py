"""The load generator: wrk, driven by a small Lua script that prints its totals as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from bench.cases import Case
from bench.metrics import Sample
from bench.processes import find_program

MARK = "BENCH "
INSTALL_HINT = "wrk isn't on PATH: apt-get install wrk (or build https://github.com/wg/wrk)"

REPORT_LUA = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nBENCH {"requests": %d, "bytes": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, ' ..
    '"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
"""

ROTATE_LUA = """
local requests, turn = {}, 0
init = function(args)
  for index, host in ipairs(hosts) do
    wrk.headers["Host"] = host
    requests[index] = wrk.format()
  end
end
request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
"""


class LoadError(Exception):
    """wrk failed, or reported no request at all."""


def script(case: Case) -> str:
    """The Lua script of a case. One request is left to wrk to repeat; several are made up front."""
    hosts = case.hosts_under_load
    lines = [f'wrk.headers["Host"] = "{hosts[0]}"']
    if case.close:
        lines.append('wrk.headers["Connection"] = "close"')
    if case.body_bytes:
        lines.append('wrk.method = "POST"')
        lines.append('wrk.headers["Content-Type"] = "application/octet-stream"')
        lines.append(f'wrk.body = string.rep("x", {case.body_bytes})')
    if len(hosts) > 1:
        lines.append("hosts = {" + ", ".join(f'"{host}"' for host in hosts) + "}")
        lines.append(ROTATE_LUA)
    return "\n".join(lines) + REPORT_LUA


def parse(output: str) -> dict[str, int]:
    """The totals in wrk's output; LoadError if there are none."""
    for line in output.splitlines():
        if line.startswith(MARK):
            totals: dict[str, int] = json.loads(line.removeprefix(MARK))
            return totals
    raise LoadError(f"wrk reported nothing: {output.strip()[-300:]}")


def sample(totals: dict[str, int], cpu_ns: int) -> Sample:
    """The metrics of one round, given what the proxy spent on it."""
    if not totals["requests"]:
        raise LoadError(f"not one request was answered: {totals}")
    seconds = totals["duration_us"] / 1e6
    return {
        "rps": totals["requests"] / seconds,
        "mb_s": totals["bytes"] / 1e6 / seconds,
        "p50_ms": totals["p50_us"] / 1e3,
        "p99_ms": totals["p99_us"] / 1e3,
        "cpu_us": cpu_ns / 1e3 / totals["requests"],
        "errors": sum(totals[key] for key in ("connect", "read", "write", "timeout", "status")),
    }


def run(case: Case, port: int, lua: Path, seconds: int) -> dict[str, int]:
    """Load a proxy for some seconds."""
    program = find_program("wrk")
    if program is None:
        raise LoadError(INSTALL_HINT)
    argv = [program, "--threads", "1", "--connections", str(case.connections)]
    argv += ["--duration", f"{seconds}s", "--timeout", "10s", "--latency", "--script", str(lua)]
    server = f"https://{case.host(0)}" if case.tls else "http://127.0.0.1"
    argv.append(f"{server}:{port}{case.path}")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30, check=False)
    if done.returncode:
        raise LoadError(f"wrk exited with {done.returncode}: {done.stderr.strip()[-300:]}")
    return parse(done.stdout)
