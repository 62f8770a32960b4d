"""How many workers there should be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kproxy.config import Configuration
from kproxy.service import worker_count
from kproxy.workers.count import cpus, parse


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with 8 CPUs, and the files of its control groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, 8),
        (
            {
                "proc/self/cgroup": "0::/system.slice/kproxy.service\n",
                "sys/fs/cgroup/system.slice/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/system.slice/kproxy.service/cpu.max": "max 100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1234\n3:memory:/docker/1234\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_auto_is_what_affinity_and_control_groups_allow(
    machine: Any, files: dict[str, str], count: int
) -> None:
    assert cpus(machine(files)) == count


@pytest.mark.parametrize("text", ["-1", "257", "many", "", "1.5"])
def test_a_number_of_workers_is_auto_or_a_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"int|from 0 to 256"):
        parse(text)


@pytest.mark.parametrize(
    ("option", "file", "count"), [(None, None, cpus()), (None, 3, 3), (2, 3, 2), (0, 3, 0)]
)
def test_the_command_line_wins_over_the_file(
    option: int | None, file: int | None, count: int
) -> None:
    assert worker_count({"workers": option}, Configuration(workers=file)) == count
