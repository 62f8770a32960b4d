"""What tests of every kind may ask for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest


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
