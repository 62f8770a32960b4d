"""What the tests against real CAs and name servers may ask for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.reactor import Turns


@pytest.fixture(scope="module")
def turns() -> Iterator[Turns]:
    """The real reactor."""
    turns = Turns()
    yield turns
    turns.close()


@pytest.fixture(scope="session")
def pebble_with_ari() -> str:
    """The path of a pebble that has renewal information, which Debian's has not."""
    path = Path(sys.executable).parent / "pebble-ari"
    if not path.exists():
        pytest.skip("needs a newer pebble than Debian's: see .ci/pebble")
    return str(path)
