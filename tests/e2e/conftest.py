"""What every end-to-end test may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """For one test."""
    with Stage(tmp_path) as stage:
        yield stage


@pytest.fixture(scope="module")
def module_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """For all tests of a module."""
    with Stage(tmp_path_factory.mktemp("e2e")) as stage:
        yield stage
