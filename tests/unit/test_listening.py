"""Ports: those that are inherited, and that for HTTPS, which may not be had."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from twisted.internet.task import Clock

from kproxy import listening
from kproxy.config import Configuration
from kproxy.config.model import Run, Service
from kproxy.listening import RETRY, Binder, CannotListen, HTTPSPort, Port


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


# Sockets, bound or inherited. They are bound to nothing here.


class Kernel:
    """What `bound_socket` asks for a socket.

    @ivar refused: the addresses that can't be had.
    @ivar made: the sockets that it gave.
    """

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.made: list[socket.socket] = []

    def bound_socket(self, address: str, port: int) -> socket.socket:
        if address in self.refused:
            raise OSError(98, "Address already in use")
        self.made.append(sock := socket.socket())
        return sock


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Any:
    kernel = Kernel()
    monkeypatch.setattr(listening, "bound_socket", kernel.bound_socket)
    yield kernel
    for sock in kernel.made:
        sock.close()


def inherited(address: str, port: int) -> Port:
    return Port(address, port, socket.socket().detach())


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_without_addresses_both_families_are_bound(kernel: Kernel) -> None:
    binder = Binder()
    assert binder.bind((), 80) == kernel.made
    assert [(port.address, port.port) for port in binder.ports()] == [("0.0.0.0", 80), ("::", 80)]
    assert [port.descriptor for port in binder.ports()] == [s.fileno() for s in kernel.made]


def test_a_machine_without_ipv6_has_the_other(kernel: Kernel) -> None:
    kernel.refused = {"::"}
    assert Binder().bind((), 80) == kernel.made
    with pytest.raises(CannotListen, match=r"can't listen on :: port 80: Address already in use"):
        Binder().bind(("127.0.0.1", "::"), 80)


def test_of_several_addresses_all_are_had_or_none(kernel: Kernel) -> None:
    kernel.refused = {"127.0.0.2"}
    binder = Binder()
    with pytest.raises(CannotListen):
        binder.bind(("127.0.0.1", "127.0.0.2"), 80)
    assert [sock.fileno() for sock in kernel.made] == [-1]
    assert binder.ports() == ()


def test_a_socket_that_listens_already_is_taken_where_it_is_asked_for(kernel: Kernel) -> None:
    one, two = inherited("127.0.0.1", 80), inherited("127.0.0.1", 443)
    binder = Binder([one, two])
    (https,) = binder.bind(("127.0.0.1",), 443)
    (http,) = binder.bind(("127.0.0.1",), 80)
    with http, https:
        assert (http.fileno(), https.fileno()) == (one.descriptor, two.descriptor)
        assert kernel.made == []
        assert set(binder.ports()) == {one, two}
        binder.close_unwanted()
        assert is_open(one.descriptor)
        assert is_open(two.descriptor)


def test_one_that_nobody_asks_for_is_closed(kernel: Kernel) -> None:
    wanted, old = inherited("127.0.0.1", 81), inherited("127.0.0.1", 80)
    other = inherited("127.0.0.2", 81)
    binder = Binder([wanted, old, other])
    (sock,) = binder.bind(("127.0.0.1",), 81)
    with sock:
        binder.close_unwanted()
        binder.close_unwanted()
        assert not is_open(old.descriptor)
        assert not is_open(other.descriptor)
        assert binder.ports() == (wanted,)


def test_one_is_taken_once(kernel: Kernel) -> None:
    port = inherited("127.0.0.1", 80)
    binder = Binder([port])
    (first,) = binder.bind(("127.0.0.1",), 80)
    (second,) = binder.bind(("127.0.0.1",), 80)
    with first:
        assert first.fileno() == port.descriptor
        assert kernel.made == [second]


def test_what_was_closed_does_not_listen(kernel: Kernel) -> None:
    binder = Binder()
    (sock,) = binder.bind(("127.0.0.1",), 80)
    sock.close()
    assert binder.ports() == ()
