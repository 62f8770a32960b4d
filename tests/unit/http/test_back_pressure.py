"""Neither side can make the other's bytes pile up in memory."""

from __future__ import annotations

from tests.unit.http.memory import (
    Engine,
    Later,
    Producer,
    Receiver,
    Upload,
    Wire,
    get,
    post,
    read_messages,
)

KB = 1024


def streaming_answer() -> tuple[Wire, Later, Producer]:
    later = Later()
    client = Engine(later).client()
    client.send(get())
    producer = Producer()
    later.requests[0].registerProducer(producer, True)
    return client, later, producer


def test_a_client_that_does_not_read_pauses_the_producer_and_reading_on_resumes_it() -> None:
    client, later, producer = streaming_answer()
    later.requests[0].write(b"x" * 60 * KB)
    assert producer.calls == []
    client.stop_reading()
    later.requests[0].write(b"x" * 60 * KB)
    assert producer.calls == []
    later.requests[0].write(b"x" * 10 * KB)
    assert producer.calls == ["pause"]
    client.read_on()
    assert producer.calls == ["pause", "resume"]
    later.requests[0].unregisterProducer()
    later.requests[0].finish()
    assert len(read_messages(client.received)[0].body) == 130 * KB


def test_a_producer_that_comes_while_the_client_does_not_read_is_paused_at_once() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(get() + get())
    client.stop_reading()
    later.answer(0, b"x" * 100 * KB)
    producer = Producer()
    later.requests[1].registerProducer(producer, True)
    assert producer.calls == ["pause"]
    client.read_on()
    assert producer.calls == ["pause", "resume"]


def test_a_producer_that_is_done_is_left_alone() -> None:
    client, later, producer = streaming_answer()
    client.stop_reading()
    later.requests[0].unregisterProducer()
    later.requests[0].write(b"x" * 100 * KB)
    later.requests[0].finish()
    client.read_on()
    assert producer.calls == []


def test_a_producer_of_a_request_that_is_over_hears_nothing_of_the_next() -> None:
    client, later, producer = streaming_answer()
    later.requests[0].write(b"x")
    later.requests[0].unregisterProducer()
    later.requests[0].finish()
    client.stop_reading()
    client.send(get())
    later.answer(1, b"x" * 100 * KB)
    client.read_on()
    assert producer.calls == []


def test_a_paused_body_stops_the_reading_of_the_connection() -> None:
    resource = Upload()
    client = Engine(resource).client()
    client.send(post(b"x" * 100 * KB)[: -100 * KB])
    body = resource.requests[0].body
    client.send(b"x" * KB)
    assert resource.bodies[0].data == b"x" * KB
    body.pause()
    client.send(*[b"x" * KB] * 50)
    assert not client.reading
    # What was on its way when it paused is one piece; it waits with the connection.
    assert resource.bodies[0].data == b"x" * KB
    assert client.unread == 49 * KB
    body.resume()
    client.turn()
    assert client.reading
    assert len(resource.bodies[0].data) == 51 * KB
    client.send(*[b"x" * KB] * 49)
    assert read_messages(client.received)[0].body == b"x" * 100 * KB


def test_a_body_that_nobody_wants_yet_is_not_read() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(post(b"x" * 100 * KB)[: -100 * KB], *[b"x" * KB] * 100)
    assert not client.reading
    assert client.unread == 99 * KB
    receiver = Receiver()
    later.requests[0].body.start(receiver)
    client.turn()
    assert receiver.data == b"x" * 100 * KB


def test_a_connection_is_read_again_for_the_request_after_a_body_that_was_paused() -> None:
    later = Later()
    client = Engine(later).client()
    client.send(post(b"x" * 10)[:-10], b"x" * 4)
    assert not client.reading
    receiver = Receiver()
    later.requests[0].body.start(receiver)
    client.turn()
    client.send(b"x" * 6)
    later.answer(0, b"a")
    client.send(get())
    later.answer(1, b"b")
    assert [message.body for message in read_messages(client.received)] == [b"a", b"b"]


def test_pausing_and_resuming_over_and_over_loses_nothing() -> None:
    resource = Upload()
    client = Engine(resource).client()
    text = bytes(range(256)) * 40
    client.send(post(text)[: -len(text)])
    body = resource.requests[0].body
    resource.bodies[0].on_data = lambda data: body.pause()
    for i in range(0, len(text), 100):
        client.send(text[i : i + 100])
        if i % 300 == 0:
            body.resume()
            client.turn()
    for _ in range(200):
        body.resume()
        client.turn()
    assert read_messages(client.received)[0].body == text
