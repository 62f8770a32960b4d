"""Health checks, on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from kproxy.config.model import Healthcheck, Target
from kproxy.upstream.connection import TargetFailed
from kproxy.upstream.probe import AT_ONCE, Prober
from tests.unit.upstream.support import MemoryNetwork, answer, one_message


class Probes:
    """A prober, and what became of what it was asked."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.prober = Prober(self.network, self.clock)
        self.results: list[Any] = []

    def ask(self, check: Healthcheck = Healthcheck(), target: Target = Target("app", 3000)) -> Any:  # noqa: B008
        asked = self.prober.ask(target, check)
        asked.addCallbacks(self.results.append, lambda failure: self.results.append(failure.value))
        self.clock.advance(0)
        return asked

    @property
    def target(self) -> Any:
        return self.network.wires[-1]


def test_a_check_asks_the_target_for_its_path() -> None:
    probes = Probes()
    probes.ask()
    message = one_message(probes.target)
    assert message.start == b"GET /up HTTP/1.1"
    assert message.get(b"host") == [b"app:3000"]
    assert message.get(b"connection") == [b"close"]
    assert message.get(b"user-agent") == [b"kproxy"]
    probes.target.send(answer(code=204))
    assert probes.results == [204]
    assert probes.target.lost is not None


def test_port_host_and_path_can_be_others() -> None:
    probes = Probes()
    probes.ask(Healthcheck(path="/health?x=y", port=9000, host="example.com"), Target("::1", 80))
    assert probes.network.addresses == ["::1:9000"]
    message = one_message(probes.target)
    assert message.start == b"GET /health?x=y HTTP/1.1"
    assert message.get(b"host") == [b"example.com"]


@pytest.mark.parametrize(
    "response",
    [
        answer(b"x" * 10),
        answer(b"x" * 10)[:-5],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.0 200 OK\r\n\r\n",
    ],
)
def test_the_status_counts_as_soon_as_it_comes(response: bytes) -> None:
    probes = Probes()
    probes.ask()
    probes.target.send(response)
    assert probes.results == [200]
    assert probes.target.lost is not None
    assert probes.clock.getDelayedCalls() == []


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    probes = Probes()
    probes.ask()
    probes.target.send(answer(b"", b"Location: /login", code=302))
    assert probes.results == [302]
    assert len(probes.network.attempts) == 1


def test_an_answer_that_does_not_come_in_time_is_a_failure() -> None:
    for silent in (set(), {"app:3000"}):
        probes = Probes()
        probes.network.silent = silent
        probes.ask(Healthcheck(timeout=5))
        probes.clock.advance(5)
        (failure,) = probes.results
        assert isinstance(failure, TargetFailed)
        assert str(failure) == "no answer within 5 s"
        assert all(attempt.given_up for attempt in probes.network.attempts if not attempt.wire)
        assert all(wire.aborted for wire in probes.network.wires)


def test_refusals_nonsense_and_broken_connections_are_failures() -> None:
    refused = Probes()
    refused.network.refusing.add("app:3000")
    refused.ask()
    nonsense = Probes()
    nonsense.ask()
    nonsense.target.send(b"SSH-2.0\r\n\r\n")
    closed = Probes()
    closed.ask()
    closed.target.send_eof()
    for probes in (refused, nonsense, closed):
        (failure,) = probes.results
        assert isinstance(failure, TargetFailed)
        assert str(failure)
        probes.clock.advance(0)
        assert probes.clock.getDelayedCalls() == []


def test_a_check_can_be_cancelled() -> None:
    probes = Probes()
    asked = probes.ask()
    asked.cancel()
    probes.clock.advance(0)
    assert probes.target.aborted
    assert len(probes.results) == 1
    assert probes.clock.getDelayedCalls() == []


def test_checks_of_many_targets_wait_for_each_other() -> None:
    probes = Probes()
    for i in range(AT_ONCE + 2):
        probes.ask(target=Target(f"app{i}", 1))
    assert len(probes.network.attempts) == AT_ONCE
    probes.network.wires[0].send(answer())
    assert len(probes.network.attempts) == AT_ONCE + 1
    probes.network.wires[1].reset()
    assert len(probes.network.attempts) == AT_ONCE + 2


def test_a_check_that_is_cancelled_while_it_waits_is_never_made() -> None:
    probes = Probes()
    asked = [probes.ask(target=Target(f"app{i}", 1)) for i in range(AT_ONCE + 1)]
    asked[-1].cancel()
    probes.network.wires[0].send(answer())
    assert len(probes.network.attempts) == AT_ONCE
