"""Looking at what a client says before the loop's own TLS reads it.

The sockets are real pairs; the loop is one of which every step is taken by the test.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import eventAsText, globalLogPublisher

from kproxy.http.http1 import HTTP1Connection
from kproxy.http.plain_refusal import PlainRefusal
from kproxy.http.site import Site
from kproxy.snapshot import Snapshot, TLSName
from kproxy.tls.peeking import PeekedGreeting, PeekingListener
from kproxy.tls.server import TLSServer
from tests.unit.http.memory import Echo
from tests.unit.tls.support import TLSClient, issue

A = issue("a.example")
HELLO = TLSClient().hello()


class Loop(asyncio.AbstractEventLoop):
    """As much of a loop as is needed.

    @ivar given: what it was given connections with: the factory, the bytes that are still to be
        read, and the context.
    @ivar fails: raised in place of the end of the handshake.
    """

    def __init__(self) -> None:
        self.readers: dict[int, Any] = {}
        self.tasks: list[Task] = []
        self.timers: list[Any] = []
        self.given: list[tuple[Any, bytes, Any]] = []
        self.low_waters: list[int] = []
        self.fails: BaseException | None = None

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        assert fd.fileno() not in self.readers
        self.readers[fd.fileno()] = callback

    def remove_reader(self, fd: Any) -> Any:
        del self.readers[fd.fileno()]

    def call_later(self, delay: float, callback: Any, *args: Any, **kw: Any) -> Any:
        timer = Timer(delay, callback)
        self.timers.append(timer)
        return timer

    def create_task(self, coro: Any, **kw: Any) -> Any:
        self.tasks.append(Task(coro))
        return self.tasks[-1]

    async def connect_accepted_socket(  # type: ignore[override]
        self, protocol_factory: Any, sock: socket.socket, **options: Any
    ) -> Any:
        low_water = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        self.low_waters.append(low_water)
        self.given.append((protocol_factory, sock.recv(65536), options.get("ssl")))
        sock.close()
        await Turn()
        if self.fails is not None:
            raise self.fails
        return Transport(), None

    def readable(self) -> None:
        """Call who waits for a socket that has something new, as the kernel would."""
        for callback in list(self.readers.values()):
            callback()


class Turn:
    """Something that is not over at once."""

    def __await__(self) -> Any:
        yield None


class Transport:
    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 64 * 1024


class Timer:
    def __init__(self, delay: float, callback: Any) -> None:
        self.delay = delay
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Task:
    """A coroutine that takes its next step when it is told to."""

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine
        self._done: Any = None
        self._error: BaseException | None = None
        self.is_cancelled = False

    def add_done_callback(self, callback: Any) -> None:
        self._done = callback

    def cancelled(self) -> bool:
        return self.is_cancelled

    def exception(self) -> BaseException | None:
        return self._error

    def cancel(self) -> None:
        self.is_cancelled = True
        self.close()
        self._done(self)

    def close(self) -> None:
        self._coroutine.close()

    def step(self) -> None:
        try:
            self._coroutine.send(None)
        except StopIteration:
            self._done(self)
        except Exception as error:
            self._error = error
            self._done(self)


class Port:
    """A listening port of which every connection is a pair of sockets."""

    def __init__(self, *names: TLSName) -> None:
        self.loop = Loop()
        self.clock = Clock()
        self.site = Site(Echo(), Echo(), self.clock)
        self.promise: Deferred[None] = Deferred()
        self.server = TLSServer(self.site, self.clock, lambda name: self.promise)
        self.server.use(Snapshot(tls=names or (TLSName("a.example", A), TLSName("b.example"))))
        self.sockets: list[socket.socket] = []

    def connect(self, data: bytes = b"") -> socket.socket:
        """A client that has already sent something."""
        client, accepted = socket.socketpair()
        self.sockets += [client, accepted]
        client.settimeout(5)
        accepted.setblocking(False)
        client.sendall(data)
        PeekedGreeting(self.loop, accepted, self.server, {}).begin()
        return client

    def close(self) -> None:
        for task in self.loop.tasks:
            task.close()
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.close()


def test_a_hello_that_is_there_is_looked_at_and_left_to_the_loop(port: Port) -> None:
    port.connect(HELLO)
    assert port.loop.readers == {}
    (task,) = port.loop.tasks
    assert len(port.site.connections) == 1
    task.step()
    ((factory, unread, context),) = port.loop.given
    assert unread == HELLO
    assert context is not None
    assert type(factory()) is HTTP1Connection
    task.step()
    assert not port.site.connections


def test_a_hello_that_is_still_to_come_is_waited_for(port: Port) -> None:
    client = port.connect()
    assert len(port.loop.readers) == 1
    client.sendall(HELLO)
    port.loop.readable()
    assert port.loop.readers == {}
    assert len(port.loop.tasks) == 1


def test_the_kernel_is_told_how_much_is_worth_waking_up_for(port: Port) -> None:
    client = port.connect(HELLO[:3])
    accepted = port.sockets[1]
    for end in (5, len(HELLO)):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == end
        client.sendall(HELLO[3 if end == 5 else 5 : end])
        port.loop.readable()
    port.loop.tasks[0].step()
    assert port.loop.low_waters == [1]


def test_a_client_that_leaves_in_the_middle_is_forgotten(port: Port) -> None:
    client = port.connect(HELLO[:100])
    client.close()
    port.loop.readable()
    assert port.loop.readers == {}
    assert not port.site.connections
    assert port.sockets[1].fileno() < 0


def test_a_client_that_never_said_anything_is_forgotten(port: Port) -> None:
    port.connect().close()
    port.loop.readable()
    assert not port.site.connections


def test_ten_seconds_are_enough(port: Port) -> None:
    _, slow = port.connect(), port.connect(HELLO[:50])
    port.clock.advance(9.9)
    slow.sendall(HELLO[50:100])
    port.loop.readable()
    assert len(port.site.connections) == 2
    port.clock.advance(0.1)
    assert not port.site.connections
    assert port.loop.readers == {}
    assert [sock.fileno() < 0 for sock in port.sockets] == [False, True] * 2


def test_a_handshake_that_the_loop_does_not_finish_in_time_is_given_up(port: Port) -> None:
    port.connect(HELLO)
    port.loop.tasks[0].step()
    port.clock.advance(10)
    assert port.loop.tasks[0].is_cancelled
    assert not port.site.connections


def test_a_connection_that_was_not_given_away_yet_is_closed_when_given_up(port: Port) -> None:
    port.connect(HELLO)
    port.site.abort_all()
    assert port.loop.given == []
    assert port.sockets[1].fileno() < 0
    assert not port.site.connections


def test_an_unknown_name_reads_an_alert_and_the_end_not_a_reset(port: Port) -> None:
    client = port.connect(TLSClient("x.example").hello())
    assert client.recv(100) == b"\x15\x03\x03\x00\x02\x02\x70"
    assert client.recv(100) == b""
    assert not port.site.connections


def test_plain_http_is_given_to_who_answers_it(port: Port) -> None:
    port.connect(b"GET / HTTP/1.1\r\n\r\n")
    port.loop.tasks[0].step()
    ((factory, unread, context),) = port.loop.given
    assert type(factory()) is PlainRefusal
    assert unread == b"GET / HTTP/1.1\r\n\r\n"
    assert context is None


def test_a_client_that_waits_for_a_certificate_goes_on_when_it_is_there(port: Port) -> None:
    port.connect(TLSClient("b.example").hello())
    assert port.loop.tasks == []
    assert len(port.loop.readers) == 1
    port.clock.advance(20)
    assert len(port.site.connections) == 1
    port.server.use(Snapshot(tls=(TLSName("b.example", issue("b.example")),)))
    port.promise.callback(None)
    port.loop.tasks[0].step()
    assert port.loop.low_waters == [1]
    assert port.loop.readers == {}


def test_a_client_that_leaves_while_it_waits_for_a_certificate_is_forgotten(port: Port) -> None:
    port.connect(TLSClient("b.example").hello()).close()
    port.loop.readable()
    assert not port.site.connections
    port.server.use(Snapshot(tls=(TLSName("b.example", issue("b.example")),)))
    port.promise.callback(None)
    assert port.loop.tasks == []


def test_a_draining_site_closes_who_has_not_asked_for_anything_yet(port: Port) -> None:
    port.connect(HELLO[:10])
    done: list[Any] = []
    port.site.drain().addCallback(done.append)
    assert port.sockets[1].fileno() < 0
    assert done


def log_of(port: Port, error: BaseException) -> list[str]:
    """What the log says when a handshake ends with an error."""
    events: list[Any] = []
    port.loop.fails = error
    port.connect(HELLO)
    port.loop.tasks[0].step()
    globalLogPublisher.addObserver(events.append)
    try:
        port.loop.tasks[0].step()
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert not port.site.connections
    return [eventAsText(event) for event in events]


def test_handshakes_that_fail_by_what_clients_do_are_no_news(port: Port) -> None:
    assert log_of(port, ConnectionResetError()) == []


def test_handshakes_that_fail_for_another_reason_are(port: Port) -> None:
    (line,) = log_of(port, ZeroDivisionError("odd"))
    assert "odd" in line


# Accepting.


class Backlog:
    """A listening socket with connections that wait on it."""

    def __init__(self, *waiting: Any) -> None:
        self.waiting = list(waiting)
        self.descriptor = 1000

    def fileno(self) -> int:
        return self.descriptor

    def accept(self) -> Any:
        if not self.waiting:
            raise BlockingIOError
        found = self.waiting.pop(0)
        if isinstance(found, Exception):
            raise found
        return found, ("192.0.2.1", 1)

    def close(self) -> None:
        self.descriptor = -1


def listening(port: Port, *errors: Any, connections: int = 0) -> tuple[PeekingListener, Backlog]:
    pairs = [socket.socketpair() for _ in range(connections)]
    port.sockets += [sock for pair in pairs for sock in pair]
    backlog = Backlog(*errors, *[accepted for _, accepted in pairs])
    listener = PeekingListener(port.loop, backlog, port.server)  # type: ignore[arg-type]
    listener.resume()
    return listener, backlog


def test_all_that_wait_are_accepted(port: Port) -> None:
    _, backlog = listening(port, connections=5)
    port.loop.readers[1000]()
    assert backlog.waiting == []
    assert len(port.site.connections) == 5


def test_a_flood_of_connections_does_not_keep_the_loop_from_its_work(port: Port) -> None:
    _, backlog = listening(port, connections=100)
    port.loop.readers[1000]()
    assert len(backlog.waiting) == 36


def test_no_more_are_accepted_once_the_limit_is_reached(port: Port) -> None:
    listener, backlog = listening(port, connections=5)
    port.site.connections_changed = lambda: len(port.site.connections) < 3 or listener.pause()
    port.loop.readers[1000]()
    assert len(port.site.connections) == 3
    assert len(backlog.waiting) == 2
    assert 1000 not in port.loop.readers
    listener.resume()
    assert 1000 in port.loop.readers


def test_a_connection_that_was_gone_before_it_was_accepted_is_passed_over(port: Port) -> None:
    _, backlog = listening(port, ConnectionAbortedError(), connections=1)
    port.loop.readers[1000]()
    port.loop.readers[1000]()
    assert backlog.waiting == []


def test_without_descriptors_it_is_tried_again_a_second_later(port: Port) -> None:
    listener, _ = listening(port, OSError(errno.EMFILE, "Too many open files"), connections=1)
    port.loop.readers[1000]()
    assert 1000 not in port.loop.readers
    (timer,) = port.loop.timers
    assert timer.delay == 1
    timer.callback()
    port.loop.readers[1000]()
    assert len(port.site.connections) == 1
    listener.close()


def test_a_listener_that_is_closed_does_not_try_again(port: Port) -> None:
    listener, backlog = listening(port, OSError(errno.EMFILE, "Too many open files"))
    port.loop.readers[1000]()
    listener.close()
    assert port.loop.timers[0].is_cancelled
    assert backlog.fileno() < 0
    listener.resume()
    assert port.loop.readers == {}
