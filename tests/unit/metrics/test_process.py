"""What the process uses that runs the tests."""

from __future__ import annotations

import time
from pathlib import Path
from resource import getpagesize

from kproxy.metrics.process import measure_process

CPU = "kproxy_process_cpu_seconds_total"
MEMORY = "kproxy_process_resident_memory_bytes"


def test_cpu_time_is_that_of_this_process() -> None:
    before = time.process_time()
    ((labels, (seconds,)),) = measure_process("me")[CPU]
    assert labels == ("me",)
    assert before <= seconds <= time.process_time()


def test_memory_is_the_second_number_of_pages(tmp_path: Path) -> None:
    statm = tmp_path / "statm"
    statm.write_text("9000 250 30 1 0 200 0\n")
    assert measure_process("me", statm)[MEMORY] == [(("me",), [250 * getpagesize()])]


def test_without_proc_there_is_the_peak(tmp_path: Path) -> None:
    ((_, (size,)),) = measure_process("me", tmp_path / "none")[MEMORY]
    assert size > 1_000_000
