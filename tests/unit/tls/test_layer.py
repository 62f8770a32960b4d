"""TLS over transports that know nothing of it, from the first byte to the last; in memory."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kproxy.http.site import Limits
from kproxy.snapshot import Snapshot, TLSChallenge, TLSName
from kproxy.sockets import HIGH_WATER
from kproxy.tls.server import TLSServer
from tests.unit.http.memory import (
    Echo,
    Engine,
    Later,
    Producer,
    Upload,
    Wire,
    get,
    post,
    read_messages,
)
from tests.unit.tls.support import TLSClient, client_context, issue

A = issue("a.example")
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class TLSEngine(Engine):
    """A site behind TLS for ``a.example``; the certificate of ``b.example`` is still to come."""

    def __init__(self, resource: Any = None, **more: Any) -> None:
        super().__init__(resource or Echo(), **more)
        self.promise: Deferred[None] = Deferred()
        self.tls = TLSServer(self.site, self.clock, lambda name: self.promise)
        self.handshakes: list[bool] = []
        self.tls.handshake_ended = self.handshakes.append
        self.names = [TLSName("a.example", A), TLSName("b.example")]
        challenge = TLSChallenge("c.example", issue("c.example"))
        self.tls.use(Snapshot(tls=tuple(self.names), tls_challenges=(challenge,)))

    def wire(self) -> Wire:
        """A connection on which nothing has been said."""
        return Wire(self.clock).attach(self.tls.greet())

    def connect(self, *names: str, **more: Any) -> tuple[TLSClient, Wire]:
        """A client that has shaken hands, or has tried to."""
        client, wire = TLSClient(*names, **more), self.wire()
        client.talk(wire)
        return client, wire


@pytest.mark.parametrize("version", [V12, V13])
def test_a_request_is_answered(version: ssl.TLSVersion) -> None:
    resource = Echo()
    client, wire = TLSEngine(resource).connect(context=client_context(version=version))
    assert client.tls.version() == version.name.replace("_", ".")
    client.say(get(b"/one") + get(b"/two"), wire)
    assert [m.body for m in read_messages(client.received)] == [b"GET /one", b"GET /two"]
    assert all(request.isSecure() for request in resource.seen)


def test_a_hello_that_comes_byte_by_byte_is_as_good_as_any() -> None:
    engine, client = TLSEngine(), TLSClient()
    wire = engine.wire()
    wire.send_bytewise(client.hello())
    client.talk(wire)
    client.say(get(), wire)
    assert read_messages(client.received)[0].body == b"GET /"


def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered() -> None:
    client, wire = TLSClient(), TLSEngine().wire()
    wire.send(client.hello())
    client.feed(wire.take())
    assert client.connected
    client.tls.write(get(b"/early"))
    wire.send(client.take())
    client.talk(wire)
    assert read_messages(client.received)[0].body == b"GET /early"


@pytest.mark.parametrize(("name", "reason"), [("x.example", "UNRECOGNIZED_NAME")])
def test_a_name_that_is_not_served_gets_an_alert_and_the_end(name: str, reason: str) -> None:
    engine = TLSEngine()
    client, wire = engine.connect(name)
    assert client.alert is not None
    assert reason in client.alert.upper().replace(" ", "_")
    assert wire.closed
    assert not engine.site.connections


def test_a_client_that_speaks_no_tls_is_closed_on() -> None:
    engine = TLSEngine()
    wire = engine.wire()
    wire.send(b"\x00\x01\x02")
    assert wire.received == b"\x15\x03\x03\x00\x02\x02\x0a"
    assert wire.closed


def test_a_client_that_speaks_plain_http_reads_why_it_gets_nothing() -> None:
    engine = TLSEngine()
    wire = engine.wire()
    wire.send(get(b"/secret"))
    (message,) = read_messages(wire.received)
    assert message.status == 400
    assert b"This port speaks HTTPS" in message.body
    assert b"connection: close" in wire.received.lower()
    wire.send_eof()
    assert not engine.site.connections


def test_a_handshake_that_fails_half_way_gets_openssls_alert() -> None:
    context = client_context(version=V12)
    context.set_ciphers("AES128-GCM-SHA256")
    engine = TLSEngine()
    client, wire = engine.connect(context=context)
    assert client.alert is not None
    assert "HANDSHAKE_FAILURE" in client.alert.upper().replace(" ", "_")
    assert wire.closed
    assert not engine.site.connections


def test_a_client_that_speaks_only_what_is_old_is_told_so() -> None:
    wire = TLSEngine().wire()
    hello = bytearray(TLSClient(context=client_context(version=V12)).hello())
    assert hello[9:11] == b"\x03\x03"
    hello[9:11] = b"\x03\x02"
    wire.send(bytes(hello))
    assert wire.received == b"\x15\x03\x02\x00\x02\x02\x46"  # protocol_version
    assert wire.closed


def test_a_client_that_leaves_in_the_middle_of_its_hello_is_forgotten() -> None:
    engine = TLSEngine()
    wire = engine.wire()
    wire.send(TLSClient().hello()[:100])
    wire.send_eof()
    assert wire.closed
    assert not engine.site.connections


def test_each_handshake_is_counted_once() -> None:
    engine = TLSEngine()
    client, wire = engine.connect()
    client.say(get(), wire)
    client.close(wire)
    assert engine.handshakes == [True]
    engine.connect("x.example")
    engine.connect(context=ssl.create_default_context())
    plain, silent = engine.wire(), engine.wire()
    plain.send(get())
    silent.reset()
    assert engine.handshakes == [True, False, False, False, False]


def test_a_client_that_does_not_trust_us_is_let_go() -> None:
    engine = TLSEngine()
    client, wire = engine.connect(context=ssl.create_default_context())
    assert client.alert == "CERTIFICATE_VERIFY_FAILED"
    assert wire.closed
    assert not engine.site.connections


# Limits.


@pytest.mark.parametrize("sent", [0, 1, 100, None])
def test_a_handshake_that_is_not_over_in_ten_seconds_is_dropped(sent: int | None) -> None:
    engine = TLSEngine()
    wire = engine.wire()
    wire.send(TLSClient().hello()[:sent])
    assert len(engine.site.connections) == 1
    engine.clock.advance(9.9)
    assert wire.lost is None
    engine.clock.advance(0.1)
    wire.turn()
    assert wire.aborted
    assert not engine.site.connections


def test_after_the_handshake_its_limit_is_over() -> None:
    engine = TLSEngine(limits=Limits(headers=60))
    client, wire = engine.connect()
    engine.clock.advance(30)
    assert wire.lost is None
    client.say(get(), wire)
    assert read_messages(client.received)


def test_waiting_for_a_certificate_is_not_on_the_clients_account() -> None:
    engine = TLSEngine()
    client, wire = engine.connect("b.example")
    engine.clock.advance(25)
    assert wire.lost is None
    engine.tls.use(Snapshot(tls=(TLSName("b.example", issue("b.example")),)))
    engine.promise.callback(None)
    client.talk(wire)
    assert client.connected
    client.say(get(), wire)
    assert read_messages(client.received)


def test_after_waiting_the_handshake_has_its_limit_again() -> None:
    engine = TLSEngine()
    _, wire = engine.connect("b.example")
    engine.clock.advance(25)
    engine.tls.use(Snapshot(tls=(TLSName("b.example", issue("b.example")),)))
    engine.promise.callback(None)
    engine.clock.advance(10)
    wire.turn()
    assert wire.aborted


def test_a_client_that_leaves_while_it_waits_is_forgotten() -> None:
    engine = TLSEngine()
    _, wire = engine.connect("b.example")
    wire.reset()
    assert not engine.site.connections
    engine.tls.use(Snapshot(tls=(TLSName("b.example", issue("b.example")),)))
    engine.promise.callback(None)
    engine.clock.advance(100)
    assert not engine.site.connections


def test_what_a_client_sends_while_it_waits_is_bounded() -> None:
    engine = TLSEngine()
    _, wire = engine.connect("b.example")
    wire.send(bytes(10_000), bytes(10_000))
    assert not wire.reading
    engine.tls.use(Snapshot(tls=(TLSName("b.example", issue("b.example")),)))
    engine.promise.callback(None)
    assert wire.producerState == "producing"


def test_a_draining_site_closes_what_is_in_its_handshake() -> None:
    engine = TLSEngine()
    wire, (_, waiting) = engine.wire(), engine.connect("b.example")
    done: list[Any] = []
    engine.site.drain().addCallback(done.append)
    wire.turn()
    assert wire.lost
    assert waiting.lost
    assert done


def test_a_challenge_is_shown_and_that_is_all() -> None:
    engine = TLSEngine()
    client, _ = engine.connect("c.example", context=client_context(alpn=["acme-tls/1"]))
    assert client.connected
    assert client.said_goodbye
    assert client.received == b""


# Bodies, and back pressure.


def test_a_large_upload_arrives_whole() -> None:
    resource = Upload()
    client, wire = TLSEngine(resource).connect()
    body = bytes(range(256)) * 4096
    client.say(post(body), wire)
    assert resource.bodies[0].data == body


def test_an_upload_that_is_not_taken_stops_the_reading() -> None:
    resource = Upload()
    client, wire = TLSEngine(resource).connect()
    client.say(post(bytes(100_000))[:50_000], wire)
    request = resource.requests[0]
    request.body.pause()
    before = len(resource.bodies[0].data)
    client.say(bytes(40_000), wire)
    assert not wire.reading
    assert len(resource.bodies[0].data) == before
    request.body.resume()
    wire.turn()
    assert wire.reading
    assert len(resource.bodies[0].data) == before + 40_000


def test_a_client_that_does_not_read_pauses_the_producer() -> None:
    resource = Later()
    client, wire = TLSEngine(resource).connect()
    client.say(get(), wire)
    producer = Producer()
    request = resource.requests[0]
    request.registerProducer(producer, True)
    wire.stop_reading()
    request.write(bytes(HIGH_WATER * 2))
    assert producer.calls == ["pause"]
    wire.read_on()
    assert producer.calls == ["pause", "resume"]
    request.unregisterProducer()
    request.finish()
    client.talk(wire)
    assert len(read_messages(client.received)[0].body) == HIGH_WATER * 2


# The end.


def test_a_client_that_says_goodbye_gets_ours() -> None:
    engine = TLSEngine()
    client, wire = engine.connect()
    client.close(wire)
    assert client.said_goodbye
    assert wire.closed
    assert not wire.aborted
    assert not engine.site.connections


def test_a_client_that_leaves_without_a_word_is_noticed() -> None:
    resource = Later()
    engine = TLSEngine(resource)
    client, wire = engine.connect()
    client.say(get(), wire)
    ended: list[Any] = []
    resource.requests[0].on_finish(lambda request, failure: ended.append(failure))
    wire.send_eof()
    assert ended[0] is not None
    assert not engine.site.connections


def test_after_the_last_answer_comes_a_goodbye_and_the_end_when_the_client_agrees() -> None:
    engine = TLSEngine()
    client, wire = engine.connect()
    client.say(get(b"/", b"Connection: close"), wire)
    assert read_messages(client.received)[0].body == b"GET /"
    assert client.said_goodbye
    client.close(wire)
    assert wire.closed
    assert not wire.aborted
    assert not engine.site.connections


def test_a_client_that_never_agrees_to_the_end_is_cut_off() -> None:
    engine = TLSEngine(limits=Limits(linger=2))
    client, wire = engine.connect()
    client.say(get(b"/", b"Connection: close"), wire)
    assert wire.lost is None
    engine.clock.advance(2)
    wire.turn()
    assert wire.lost is not None
    assert not engine.site.connections


def test_an_answer_before_the_end_of_the_request_reaches_a_client_that_sends_on() -> None:
    engine = TLSEngine()
    client, wire = engine.connect()
    client.say(post(bytes(1_000_000))[:100_000], wire)
    assert read_messages(client.received)[0].body == b"POST /"
    client.tls.write(bytes(100_000))
    wire.send(client.take())
    assert not wire.aborted
    client.close(wire)
    assert wire.closed
    assert not wire.aborted


def test_noise_after_the_handshake_cuts_the_connection() -> None:
    engine = TLSEngine()
    _, wire = engine.connect()
    wire.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert wire.lost is not None
    assert not engine.site.connections


def test_a_layer_tells_where_the_client_is_and_what_tls_knows() -> None:
    seen: list[Any] = []

    class Looks(Echo):
        def render(self, request: Any) -> bytes:
            transport = request.channel.transport
            seen.append(request.getClientAddress().host)
            seen.append(transport.get_extra_info("ssl_object").version())
            assert not transport.can_write_eof()
            return super().render(request)

    client, wire = TLSEngine(Looks()).connect()
    client.say(get(), wire)
    assert seen == ["192.0.2.7", "TLSv1.3"]


def test_deadlines_are_forgotten_when_the_server_stops() -> None:
    engine = TLSEngine(clock=Clock())
    engine.wire()
    engine.tls.stop()
    engine.site.stop()
    assert engine.clock.getDelayedCalls() == []
