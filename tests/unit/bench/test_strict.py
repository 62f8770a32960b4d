"""Clients that notice everything."""

import asyncio

import pytest

from bench.cases import Case
from bench.strict import Client, Clients, Seen, head_of

CASE = Case("strict", "strict")


class Transport:
    """What a client writes, and whether it has ended the connection."""

    def __init__(self):
        self.written = []
        self.ended = ""

    def get_extra_info(self, name):
        return ("127.0.0.1", 50_000)

    def write(self, data):
        self.written.append(data)

    def close(self):
        self.ended = "closed"

    def abort(self):
        self.ended = "aborted"


@pytest.fixture
def clients():
    return Clients(CASE, 80)


@pytest.fixture
def client(clients):
    """A client that has asked once."""

    async def made():
        return Client(clients)

    client = asyncio.run(made())
    client.connection_made(Transport())
    return client


def answer(body, fields="", status=200):
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
    return head.encode("ascii") + body


def reasons(clients):
    return [failure.why for failure in clients.seen.failures]


def test_a_head_is_read_when_it_is_whole():
    assert head_of(b"HTTP/1.1 200 OK\r\nA: b\r\n") is None
    assert head_of(b"HTTP/1.1 200 OK\r\nServer: a: b\r\n\r\nxy") == (200, {"server": "a: b"}, b"xy")


def test_after_an_answer_in_pieces_a_client_asks_again(clients, client):
    transport = client._transport
    whole = answer(clients.body)
    client.data_received(whole[:50])
    client.data_received(whole[50:-1])
    assert len(transport.written) == 1
    client.data_received(whole[-1:])
    assert transport.written == [b"GET /120b HTTP/1.1\r\nHost: s0.bench.test\r\n\r\n"] * 2
    assert len(clients.seen.seconds) == 1
    assert not clients.seen.failures


def test_an_announced_end_is_no_failure(clients, client):
    client.data_received(answer(clients.body, "Connection: close\r\n"))
    assert client._transport.ended == "closed"
    client.connection_lost(None)
    assert not clients.seen.failures
    assert clients.seen.reconnected == 1


@pytest.mark.parametrize("received", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_an_end_while_an_answer_is_due_is_a_failure(clients, client, received):
    client.data_received(received)
    client.connection_lost(None)
    (failure,) = clients.seen.failures
    assert failure.client_port == 50_000
    assert failure.why == f"lost after {len(received)} bytes of the answer: None"


def test_another_status_is_a_failure(clients, client):
    client.data_received(answer(b"sorry", status=502))
    assert reasons(clients) == ["status 502, Content-Length 5"]
    assert client._transport.ended == "aborted"
    client.connection_lost(None)
    assert len(clients.seen.failures) == 1


def test_another_body_is_a_failure(clients, client):
    client.data_received(answer(clients.body[::-1]))
    assert reasons(clients) == ["the body was another one"]


def test_more_than_the_body_is_a_failure(clients, client):
    client.data_received(answer(clients.body) + b"x")
    assert reasons(clients) == ["the body was another one"]


def test_what_is_no_head_is_a_failure(clients, client):
    client.data_received(b"nonsense\r\n\r\n")
    assert reasons(clients) == ["no answer, but b'nonsense\\r\\n\\r\\n'"]


def test_nobody_asks_once_all_are_to_stop(clients, client):
    clients.stopping = True
    client.data_received(answer(clients.body))
    assert client._transport.ended == "closed"
    assert len(client._transport.written) == 1


def test_the_longest_silence_is_between_two_answers_of_anybody():
    seen = Seen()
    for now in (100.0, 100.5, 102.5, 102.75):
        seen.answered(0.01, now)
    assert seen.sample()["silence_ms"] == 2000
    assert seen.sample()["requests"] == 4
