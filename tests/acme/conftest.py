"""What the tests against real CAs and name servers may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.reactor import Turns


@pytest.fixture(scope="module")
def turns() -> Iterator[Turns]:
    """The real reactor."""
    turns = Turns()
    yield turns
    turns.close()
