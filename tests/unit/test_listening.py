"""Whether there has to be a port for HTTPS, and what happens where it can't be had."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from kproxy.config import Configuration
from kproxy.config.model import Run, Service
from kproxy.listening import RETRY, CannotListen, HTTPSPort


class System:
    """A system whose ports are all taken but for one.

    @ivar asked: what was asked for.
    @ivar heard: the sockets that are listened on.
    """

    def __init__(self, free: int | None = 8443) -> None:
        self.free = free
        self.asked: list[Any] = []
        self.heard: list[Any] = []
        self.clock = Clock()

    def bind(self, addresses: tuple[str, ...], port: int) -> list[Any]:
        self.asked.append((addresses, port))
        if port != self.free:
            raise CannotListen(f"port {port} is taken")
        return [f"socket {port}"]

    def port(
        self,
        option: int | None = None,
        addresses: tuple[str, ...] = (),
        *,
        ssl: bool = False,
        **run: Any,
    ) -> HTTPSPort:
        configuration = Configuration((Service("app", (), ssl=ssl),), Run(**run))
        port = HTTPSPort(addresses, option, configuration, self.clock, self.bind)
        port.start(self.heard.append)
        return port


@pytest.mark.parametrize(
    ("option", "run", "port"),
    [(None, {}, 443), (None, {"https_port": 8443}, 8443), (8443, {"https_port": 444}, 8443)],
)
def test_the_command_line_wins_over_the_file(option: int | None, run: Any, port: int) -> None:
    system = System(port)
    system.port(option, ("::1",), **run)
    assert system.asked == [(("::1",), port)]


def test_a_proxy_listens_for_https_whether_or_not_a_service_has_it() -> None:
    system = System(443)
    port = system.port()
    assert system.heard == ["socket 443"]
    assert port.why_not() == ""
    assert len(system.asked) == 1


def test_a_proxy_that_needs_no_https_goes_on_without() -> None:
    system = System(None)
    port = system.port()
    assert port.missing == "port 443 is taken"
    assert system.heard == []
    assert system.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("option", "options"),
    [
        (None, {"ssl": True}),
        (None, {"https_port": 444}),
        (None, {"https_port": 443}),
        (443, {}),
    ],
)
def test_where_somebody_counts_on_https_it_is_an_error(option: int | None, options: Any) -> None:
    with pytest.raises(CannotListen):
        System(None).port(option, **options)


def test_port_0_is_no_https_at_all() -> None:
    system = System()
    port = system.port(0, ssl=True)
    assert port.why_not() == "it is turned off"
    assert system.asked == []
    assert system.clock.getDelayedCalls() == []


def test_a_port_that_is_free_by_the_time_that_a_service_needs_it_is_taken_then() -> None:
    system = System(None)
    port = system.port()
    system.free = 443
    assert port.why_not() == port.missing == ""
    assert system.heard == ["socket 443"]


def test_a_port_that_a_service_needs_is_tried_until_it_can_be_had() -> None:
    system = System(None)
    port = system.port()
    assert port.why_not() == port.why_not() == "port 443 is taken"
    system.clock.advance(RETRY)
    assert system.heard == []
    system.free = 443
    system.clock.advance(RETRY)
    assert system.heard == ["socket 443"]
    assert system.clock.getDelayedCalls() == []


def test_it_is_not_tried_any_more_when_the_proxy_ends() -> None:
    system = System(None)
    port = system.port()
    port.why_not()
    port.close()
    port.close()
    assert system.clock.getDelayedCalls() == []
