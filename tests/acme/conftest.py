"""What the tests against real CAs and name servers may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.reactor import Turns


@pytest.fixture(scope="module")
def turns() -> Iterator[Turns]:
    """The real reactor."""
    turns = Turns()
    yield turns
    turns.close()


@pytest.fixture(scope="session")
def pebble_with_ari(require_built: Callable[[str, int], str]) -> str:
    """The path of a pebble that has renewal information, which Debian's has not."""
    return require_built("pebble-ari", 24)
