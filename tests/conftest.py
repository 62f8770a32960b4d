"""What tests of every kind may ask for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.pebble import Pebble

StartPebble = Callable[..., Pebble]


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """A function that gives the path of a command that the test runs.

    Where the command is missing the test is skipped, with its reason. In CI it fails instead: a
    skip that nobody reads would let a whole kind of tests vanish.
    """

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is not None:
            return path
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed: add it to TEST_TOOLS in Makefile", pytrace=False)
        pytest.skip(f"{name} is not installed")

    return find


@pytest.fixture(scope="session")
def require_built() -> Callable[[str, int], str]:
    """The same for what `.ci/go` builds, where there is a Go of that version (1.X): a CI that has none
    is as good as any."""

    def find(name: str, go: int) -> str:
        path = Path(sys.executable).parent / name
        if path.exists():
            return str(path)
        if os.environ.get("CI") and _go() >= go:
            pytest.fail(f"{name} is not there, though Go could build it: see .ci/go", pytrace=False)
        pytest.skip(f"{name} is not there, which Go 1.{go} could build: see .ci/go")

    return find


def _go() -> int:
    """Which Go there is: the 24 of 1.24; 0: none."""
    if shutil.which("go") is None:
        return 0
    said = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False)
    found = re.match(r"go1\.(\d+)", said.stdout)
    return int(found[1]) if found else 0


@contextmanager
def _starting_pebble(
    require_tool: Callable[[str], str], folders: pytest.TempPathFactory
) -> Iterator[StartPebble]:
    for command in ("pebble", "pebble-challtestsrv"):
        require_tool(command)
    with ExitStack() as started:

        def start(**options: Any) -> Pebble:
            return started.enter_context(Pebble(folders.mktemp("ca"), **options))

        yield start


@pytest.fixture
def start_pebble(
    require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartPebble]:
    """A function that starts a CA (its options are those of `Pebble`), which ends with the test."""
    with _starting_pebble(require_tool, tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def start_module_pebble(
    require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartPebble]:
    """The same, for all tests of a module."""
    with _starting_pebble(require_tool, tmp_path_factory) as start:
        yield start
