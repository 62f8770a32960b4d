"""Listening and connecting: the translation between asyncio's shape and Twisted's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from kproxy.network import (
    Carrier,
    LoopListener,
    LoopNetwork,
    ReactorListener,
    ReactorNetwork,
    network_of,
)
from tests.unit.http.memory import CLIENT, PROXY, Wire


class Recorder:
    """A protocol of asyncio's shape that remembers what it is told."""

    def __init__(self, *, stays: bool = False) -> None:
        self.stays = stays
        self.told: list[Any] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.stays

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append(("lost", error))


# A protocol of asyncio's shape over a transport of Twisted's.


def carried(*, stays: bool = False) -> tuple[Recorder, Wire]:
    recorder = Recorder(stays=stays)
    return recorder, Wire(Clock()).attach(recorder)


def test_bytes_pass_both_ways() -> None:
    recorder, wire = carried()
    wire.send(b"a", b"b")
    assert recorder.told == [b"a", b"b"]
    recorder.transport.write(b"1")
    recorder.transport.writelines([b"2", b"3"])
    assert wire.take() == b"123"


def test_an_orderly_end_is_no_error_and_a_broken_connection_is_one() -> None:
    recorder, wire = carried()
    recorder.transport.close()
    wire.turn()
    assert recorder.told == [("lost", None)]
    recorder, wire = carried()
    wire.reset()
    ((_, error),) = recorder.told
    assert isinstance(error, ConnectionLost)


def test_the_others_end_closes_the_connection_unless_the_protocol_stays() -> None:
    recorder, wire = carried()
    wire.send_eof()
    assert recorder.told == ["eof", ("lost", None)]
    recorder, wire = carried(stays=True)
    wire.send_eof()
    assert recorder.told == ["eof"]
    recorder.transport.write(b"still here")
    assert wire.take() == b"still here"


def test_half_a_close() -> None:
    recorder, wire = carried(stays=True)
    assert recorder.transport.can_write_eof()
    recorder.transport.write_eof()
    assert wire.half_closed
    wire.send(b"x")
    assert recorder.told == [b"x"]


def test_a_transport_that_can_not_half_close_is_not_asked_to() -> None:
    carrier = Carrier(Recorder())
    carrier.makeConnection(StringTransport())
    assert not carrier.can_write_eof()
    carrier.write_eof()


def test_closing_twice_or_after_the_end_does_no_harm() -> None:
    recorder, wire = carried()
    transport = recorder.transport
    assert not transport.is_closing()
    transport.close()
    assert transport.is_closing()
    transport.close()
    transport.resume_reading()
    wire.turn()
    transport.close()
    transport.abort()
    transport.resume_reading()
    assert recorder.told == [("lost", None)]


def test_an_abort_drops_what_waits() -> None:
    recorder, wire = carried()
    wire.stop_reading()
    recorder.transport.write(b"x" * 100)
    assert recorder.transport.get_write_buffer_size() == 100
    recorder.transport.abort()
    assert recorder.transport.is_closing()
    wire.turn()
    assert wire.aborted
    wire.read_on()
    assert wire.received == b""


def test_a_close_sends_what_waits_first() -> None:
    recorder, wire = carried()
    wire.stop_reading()
    recorder.transport.write(b"x" * 100)
    recorder.transport.close()
    wire.turn()
    assert wire.lost is None
    wire.read_on()
    assert wire.received == b"x" * 100
    assert wire.closed


def test_a_full_buffer_pauses_the_writing_and_an_empty_one_resumes_it() -> None:
    recorder, wire = carried()
    wire.stop_reading()
    recorder.transport.write(b"x" * 70_000)
    assert recorder.told == ["pause"]
    wire.read_on()
    assert recorder.told == ["pause", "resume"]


def test_reading_can_be_paused() -> None:
    recorder, wire = carried()
    recorder.transport.pause_reading()
    wire.send(b"x")
    assert recorder.told == []
    recorder.transport.resume_reading()
    wire.turn()
    assert recorder.told == [b"x"]


def test_another_protocol_can_take_over() -> None:
    recorder, wire = carried()
    other = Recorder()
    recorder.transport.set_protocol(other)
    wire.send(b"x")
    wire.reset()
    assert recorder.told == []
    assert other.told[0] == b"x"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (CLIENT, ("192.0.2.7", 54321)),
        (IPv6Address("TCP", "::1", 80, 1, 2), ("::1", 80, 1, 2)),
        (UNIXAddress(b"/run/x"), b"/run/x"),
        (UNIXAddress(None), ""),
    ],
)
def test_addresses_are_told_in_asyncios_form(address: Any, told: Any) -> None:
    recorder = Recorder()
    Wire(Clock(), PROXY, address).attach(recorder)
    assert recorder.transport.get_extra_info("peername") == told
    assert recorder.transport.get_extra_info("sockname") == ("192.0.2.1", 80)
    assert recorder.transport.get_extra_info("socket", "none") == "none"


# On any reactor.


def test_the_network_is_the_reactors() -> None:
    assert isinstance(network_of(MemoryReactorClock()), ReactorNetwork)


def dialled() -> tuple[Any, list[Any], list[Recorder], Any]:
    reactor = MemoryReactorClock()
    failures: list[Any] = []
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    give_up = ReactorNetwork(reactor).connect("127.0.0.1", 3000, factory, failures.append)
    return reactor, failures, made, give_up


def test_a_connection_of_a_reactor_gets_a_protocol() -> None:
    reactor, failures, made, _ = dialled()
    ((host, port, factory, timeout, _),) = reactor.tcpClients
    assert (host, port) == ("127.0.0.1", 3000)
    assert timeout <= 5
    protocol = factory.buildProtocol(None)
    wire = Wire(Clock())
    protocol.makeConnection(wire)
    (recorder,) = made
    recorder.transport.write(b"hello")
    assert wire.received == b"hello"
    protocol.dataReceived(b"x")
    assert recorder.told == [b"x"]
    assert failures == []


def test_a_connection_of_a_reactor_that_is_refused_says_so() -> None:
    reactor, failures, made, _ = dialled()
    reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(ConnectError()))
    reactor.advance(5)
    (failure,) = failures
    assert isinstance(failure, OSError)
    assert str(failure)
    assert made == []


def test_a_connection_of_a_reactor_that_takes_too_long_says_so() -> None:
    reactor, failures, _, _ = dialled()
    reactor.advance(5)
    reactor.advance(5)
    if not failures:
        # HostnameEndpoint leaves the limit of each attempt to connectTCP, which got it.
        assert reactor.tcpClients[0][3] <= 5
        reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(TimeoutError()))
    assert len(failures) == 1


def test_a_connection_of_a_reactor_can_be_given_up() -> None:
    reactor, failures, made, give_up = dialled()
    give_up()
    reactor.advance(10)
    assert failures == []
    assert made == []


def test_a_port_of_a_reactor_can_be_paused() -> None:
    class Port:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def __getattr__(self, name: str) -> Any:
            return lambda: self.calls.append(name)

    port = Port()
    listener = ReactorListener(port)
    listener.pause()
    listener.resume()
    listener.close()
    assert port.calls == ["stopReading", "startReading", "stopListening"]


# On asyncio's loops.


class Loop(asyncio.SelectorEventLoop):
    """A real loop, but for its clock and its sockets, which are the test's."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__()
        self.dialled: list[tuple[Any, ...]] = []
        self.answer: asyncio.Future[Any] | None = None
        self.servers: list[Server] = []
        self.fails: Exception | None = None
        self.problems: list[Any] = []
        self.set_exception_handler(lambda loop, context: self.problems.append(context))

    def time(self) -> float:
        return self.now

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None) -> Any:  # type: ignore[override]
        self.dialled.append((factory, host, port))
        self.answer = self.create_future()
        await self.answer
        return None, factory()

    async def create_server(self, factory: Any, *, sock: Any, backlog: int) -> Any:  # type: ignore[override]
        if self.fails is not None:
            sock.close()
            raise self.fails
        self.servers.append(Server(factory, sock))
        return self.servers[-1]

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and happen what is due."""
        self.now += seconds
        for _ in range(10):
            self.call_soon(self.stop)
            self.run_forever()

    @property
    def listening(self) -> int:
        return sum(not server.closed for server in self.servers)


class Server:
    def __init__(self, factory: Any, sock: Any) -> None:
        self.factory, self.sock, self.closed = factory, sock, False

    def close(self) -> None:
        self.closed = True
        self.sock.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.turn()
    assert loop.problems == []
    loop.close()


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


def test_the_network_of_a_loop_is_the_loops(loop: Loop) -> None:
    class Reactor:
        _asyncioEventloop = loop

    assert isinstance(network_of(Reactor()), LoopNetwork)


def connecting(loop: Loop) -> tuple[list[Any], list[Any], Any]:
    made: list[Any] = []
    failures: list[Any] = []

    def factory() -> Any:
        made.append(object())
        return made[-1]

    give_up = LoopNetwork(loop).connect("app.example", 3000, factory, failures.append)
    loop.turn()
    assert loop.dialled[-1][1:] == ("app.example", 3000)
    return made, failures, give_up


def test_a_connection_of_a_loop_gets_a_protocol_and_no_limit_stays(loop: Loop) -> None:
    made, failures, _ = connecting(loop)
    assert loop.answer is not None
    loop.answer.set_result(None)
    loop.turn()
    assert len(made) == 1
    loop.turn(10)
    assert failures == []


@pytest.mark.parametrize(
    "error",
    [OSError("refused"), socket.gaierror(-2, "unknown"), UnicodeError("x"), ValueError("x")],
)
def test_a_connection_of_a_loop_that_can_not_be_had_says_so(loop: Loop, error: Exception) -> None:
    made, failures, _ = connecting(loop)
    assert loop.answer is not None
    loop.answer.set_exception(error)
    loop.turn()
    assert failures == [error]
    loop.turn(10)
    assert failures == [error]
    assert made == []


def test_a_connection_of_a_loop_that_takes_too_long_says_so(loop: Loop) -> None:
    made, failures, _ = connecting(loop)
    loop.turn(4.9)
    assert failures == []
    loop.turn(0.2)
    (failure,) = failures
    assert isinstance(failure, TimeoutError)
    assert str(failure) == "no connection within 5 s"
    assert made == []


def test_a_connection_of_a_loop_can_be_given_up(loop: Loop) -> None:
    made, failures, give_up = connecting(loop)
    give_up()
    loop.turn(10)
    give_up()
    assert failures == []
    assert made == []
    assert loop.answer is not None
    assert loop.answer.cancelled()


def test_giving_up_just_as_the_time_is_over_tells_nothing(loop: Loop) -> None:
    _, failures, give_up = connecting(loop)
    loop.now += 5
    give_up()
    loop.turn()
    assert failures == []


def test_a_listener_accepts_pauses_and_goes_on(loop: Loop, sock: socket.socket) -> None:
    listener = LoopNetwork(loop).listen(sock, Recorder)
    loop.turn()
    assert loop.listening == 1
    assert loop.servers[0].factory is Recorder
    listener.pause()
    listener.pause()
    assert loop.listening == 0
    assert sock.fileno() >= 0
    listener.resume()
    listener.resume()
    loop.turn()
    assert loop.listening == 1
    listener.close()
    assert loop.listening == 0
    assert sock.fileno() < 0


def test_a_listener_that_changes_its_mind_at_once_settles_on_the_last(
    loop: Loop, sock: socket.socket
) -> None:
    listener = LoopNetwork(loop).listen(sock, Recorder)
    listener.pause()
    loop.turn()
    assert loop.listening == 0
    listener.resume()
    listener.pause()
    listener.resume()
    loop.turn()
    assert loop.listening == 1
    assert len(loop.servers) - loop.listening <= 2
    listener.close()


def test_a_listener_that_is_closed_before_it_began_never_begins(
    loop: Loop, sock: socket.socket
) -> None:
    listener = LoopNetwork(loop).listen(sock, Recorder)
    listener.close()
    loop.turn()
    assert loop.listening == 0
    assert sock.fileno() < 0


def test_a_listener_that_can_not_go_on_tries_again(loop: Loop, sock: socket.socket) -> None:
    loop.fails = OSError(24, "Too many open files")
    listener: LoopListener = LoopNetwork(loop).listen(sock, Recorder)
    loop.turn()
    assert loop.listening == 0
    loop.fails = None
    loop.turn(1)
    assert loop.listening == 1
    listener.close()
    loop.turn(10)
    assert loop.listening == 0
