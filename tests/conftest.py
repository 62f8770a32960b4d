"""What tests of every kind may ask for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.pebble import Pebble


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


@pytest.fixture
def start_pebble(
    require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Pebble]]:
    """A function that starts a CA (its options are those of `Pebble`), which ends with the test."""
    for command in ("pebble", "pebble-challtestsrv"):
        require_tool(command)
    with ExitStack() as started:

        def start(**options: Any) -> Pebble:
            return started.enter_context(Pebble(tmp_path_factory.mktemp("ca"), **options))

        yield start
