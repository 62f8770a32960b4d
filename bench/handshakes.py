"""TLS handshakes: ``openssl s_time``, one after the other."""

from __future__ import annotations

import re
import subprocess

from bench.metrics import Sample
from bench.processes import find_program
from bench.wrk import LoadError

_DONE = re.compile(r"^(\d+) connections in (\d+) real seconds", re.M)


def run(port: int, seconds: int, resumed: bool) -> dict[str, int]:
    """Shake hands for some seconds.

    @param resumed: by the ticket of the first handshake, in TLS 1.2, whose handshake brings it
        along; else in full, in TLS 1.3.
    """
    program = find_program("openssl")
    if program is None:
        raise LoadError("openssl isn't on PATH")
    argv = [program, "s_time", "-connect", f"127.0.0.1:{port}", "-time", str(seconds)]
    argv += ["-tls1_2", "-reuse"] if resumed else ["-tls1_3", "-new"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30, check=False)
    return parse(done.stdout + done.stderr)


def parse(output: str) -> dict[str, int]:
    """How many there were, and in how many seconds."""
    found = _DONE.findall(output)
    if not found or not int(found[-1][0]):
        raise LoadError(f"openssl s_time reported no connection: {output.strip()[-300:]}")
    connections, seconds = found[-1]
    return {"connections": int(connections), "seconds": int(seconds)}


def sample(totals: dict[str, int], cpu_ns: int) -> Sample:
    """The metrics of one round, given what the proxy spent on it."""
    return {
        "handshakes": totals["connections"] / totals["seconds"],
        "cpu_us": cpu_ns / 1e3 / totals["connections"],
    }
