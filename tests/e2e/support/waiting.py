"""Waiting for something to become true, without a fixed sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds after which it is given up. No test asserts how long it took."""


def wait_until(
    what: str, check: Callable[[], T], patience: float = PATIENCE, every: float = 0.01
) -> T:
    """Check again and again.

    @param what: what is waited for, for the message of the failure.
    @return: the first true result.
    """
    deadline = time.monotonic() + patience
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain: {what}")
        time.sleep(every)
