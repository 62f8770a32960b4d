"""Work in other threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kproxy.threads import result_of


def at_once(work: Callable[[], Any], done: Callable[[], None]) -> None:
    work()
    done()


def test_what_the_work_returns_is_what_comes_of_it() -> None:
    results: list[Any] = []
    result_of(lambda: 42, at_once).addCallback(results.append)
    assert results == [42]


def test_what_the_work_raises_is_what_it_fails_with() -> None:
    def work() -> None:
        raise ValueError("no")

    failures: list[Any] = []
    result_of(work, at_once).addErrback(failures.append)
    with pytest.raises(ValueError, match="no"):
        failures[0].raiseException()


def test_nothing_comes_of_it_before_the_work_is_done() -> None:
    waiting: list[Callable[[], None]] = []
    results: list[Any] = []

    def later(work: Callable[[], Any], done: Callable[[], None]) -> None:
        work()
        waiting.append(done)

    result_of(lambda: 42, later).addCallback(results.append)
    assert results == []
    waiting[0]()
    assert results == [42]
