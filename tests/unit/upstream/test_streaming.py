"""Bodies on their way through: at the pace of the slower side, in little memory."""

from __future__ import annotations

from tests.unit.http.memory import get, post
from tests.unit.upstream.support import Proxy, answer, one_message

KB = 1024
CHUNKED_HEAD = get(b"/", b"Transfer-Encoding: chunked", method=b"POST")


def test_a_body_goes_to_the_target_while_it_arrives() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(post(b"hello")[:-5])
    assert proxy.target.take().endswith(b"\r\n\r\n")
    client.send(b"he")
    assert proxy.target.take() == b"he"
    client.send(b"llo")
    assert proxy.target.take() == b"llo"


def test_a_chunked_body_goes_to_the_target_chunk_by_chunk() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(CHUNKED_HEAD)
    proxy.target.take()
    client.send(b"2\r\nhe\r\n1\r\nl\r\n")
    assert proxy.target.take() == b"2\r\nhe\r\n1\r\nl\r\n"
    client.send(b"5\r\nlo")
    assert proxy.target.take() == b"2\r\nlo\r\n"
    client.send(b"xyz\r\n0\r\n\r\n")
    assert proxy.target.take() == b"3\r\nxyz\r\n0\r\n\r\n"


def test_nothing_is_read_of_a_body_before_there_is_a_connection_for_it() -> None:
    proxy = Proxy()
    proxy.network.silent.add("app:1")
    client = proxy.client()
    client.send(post(b"x" * 100 * KB)[: -100 * KB], *[b"x" * 10 * KB] * 10)
    assert client.unread == 90 * KB
    proxy.network.attempts[0].succeed()
    client.turn()
    assert one_message(proxy.target).body == b"x" * 100 * KB


def test_a_slow_target_slows_an_upload() -> None:
    for text in (post(b"x" * 1000 * KB)[: -1000 * KB], CHUNKED_HEAD + b"%x\r\n" % (1000 * KB)):
        proxy = Proxy()
        client = proxy.client()
        client.send(text)
        proxy.target.stop_reading()
        client.send(*[b"x" * 10 * KB] * 100)
        assert not client.reading
        assert len(proxy.target.dataBuffer) < 100 * KB
        assert client.unread > 900 * KB
        for _ in range(200):
            proxy.target.read_some(10 * KB)
            assert len(proxy.target.dataBuffer) < 100 * KB
        client.send(
            b""
            if text.startswith(b"POST / HTTP/1.1\r\nHost: example.com\r\nC")
            else b"\r\n0\r\n\r\n"
        )
        proxy.target.read_on()
        assert one_message(proxy.target).body == b"x" * 1000 * KB
        proxy.target.send(answer())
        assert one_message(client).status == 200


def test_a_slow_client_slows_a_download() -> None:
    length = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1000 * KB)
    until_close = b"HTTP/1.1 200 OK\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (1000 * KB)
    for head in (length, until_close, chunked):
        proxy = Proxy()
        client = proxy.client()
        client.send(get())
        client.stop_reading()
        proxy.target.send(head, *[b"x" * 10 * KB] * 100)
        assert not proxy.target.reading
        assert len(client.dataBuffer) < 100 * KB
        assert proxy.target.unread > 900 * KB
        for _ in range(200):
            client.read_some(10 * KB)
            assert len(client.dataBuffer) < 100 * KB
        if head is chunked:
            proxy.target.send(b"\r\n0\r\n\r\n")
        elif head is until_close:
            proxy.target.send_eof()
        client.read_on()
        assert one_message(client).body == b"x" * 1000 * KB


def test_a_connection_that_was_slowed_down_is_read_again_for_the_next_request() -> None:
    proxy = Proxy()
    client = proxy.client()
    client.send(get())
    client.stop_reading()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * KB)
    proxy.target.send(head + b"x" * 90 * KB)
    assert not proxy.target.reading
    proxy.target.send(b"x" * 10 * KB)
    client.read_on()
    assert one_message(client).body == b"x" * 100 * KB
    assert proxy.target.reading
    client.send(get())
    proxy.target.send(answer(b"next"))
    assert one_message(client).body == b"next"
    assert len(proxy.network.attempts) == 1


def test_a_buffered_response_lets_the_target_go_before_a_slow_client_has_it() -> None:
    proxy = Proxy(buffer_responses=True)
    client = proxy.client()
    client.send(get())
    client.stop_reading()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1000 * KB)
    proxy.target.send(head, *[b"x" * 10 * KB] * 100)
    assert proxy.idle == 1
    # What the client does not take waits in a file.
    assert len(client.dataBuffer) < 600 * KB
    for _ in range(20):
        client.read_on()
        client.stop_reading()
    client.read_on()
    assert one_message(client).body == b"x" * 1000 * KB


def test_a_client_that_leaves_a_download_half_way_stops_it() -> None:
    for buffered in (False, True):
        proxy = Proxy(buffer_responses=buffered)
        client = proxy.client()
        client.send(get())
        client.stop_reading()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1000 * KB)
        proxy.target.send(head, *[b"x" * 10 * KB] * (100 if buffered else 20))
        client.reset()
        proxy.target.turn()
        assert proxy.active == 0
        assert proxy.target.aborted is not buffered


def test_a_large_body_in_a_file_reaches_the_target_whole() -> None:
    proxy = Proxy(buffer_requests=True)
    client = proxy.client()
    body = bytes(range(256)) * 4000
    client.send(
        post(body)[: -len(body)], *[body[i : i + 10_000] for i in range(0, len(body), 10_000)]
    )
    assert one_message(proxy.target).body == body
    proxy.target.send(answer())
    assert one_message(client).status == 200
