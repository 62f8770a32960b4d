"""Whoever writes is marked by a cookie (behaviour.md section 6: readers)."""

from __future__ import annotations

from typing import Any

import pytest

from kproxy.wrappers.response_buffer import ResponseBuffer
from kproxy.wrappers.writer_affinity import Options, WriterAffinity
from tests.unit.wrappers.support import Held, Response, Says, Serve, get, post

MARK = b"kamal-writer=1003000; Path=/; Expires=Thu, 01 Jan 1970 00:16:44 GMT; HttpOnly"


def marked(leaf: Any, **options: Any) -> WriterAffinity:
    return WriterAffinity(leaf, Options(now=lambda: 1000.0, **options))


def cookies(response: Response) -> list[bytes]:
    return response.all(b"set-cookie")


def test_a_write_is_marked_with_the_time_until_which_it_counts(serve: Serve) -> None:
    response = serve(marked(Says(b"done", code=201))).ask(post(b"x"))
    assert (response.code, response.body) == (201, b"done")
    assert cookies(response) == [MARK]


def test_a_longer_time_counts_longer(serve: Serve) -> None:
    response = serve(marked(Says(b"done"), timeout=60.0)).ask(post(b"x"))
    assert cookies(response)[0].startswith(b"kamal-writer=1060000; ")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_is_not_marked(serve: Serve, method: str) -> None:
    response = serve(marked(Says(b"read"))).ask(get(method=method))
    assert response.code == 200
    assert cookies(response) == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_everything_else_is(serve: Serve, method: str) -> None:
    assert cookies(serve(marked(Says(b""))).ask(get(method=method))) == [MARK]


def test_the_applications_own_cookies_stay(serve: Serve) -> None:
    response = serve(marked(Says(b"", set_cookie=b"a=b"))).ask(post(b"x"))
    assert cookies(response) == [b"a=b", MARK]


def test_an_application_may_say_that_nothing_was_written_and_clients_do_not_see_it(
    serve: Serve,
) -> None:
    response = serve(marked(Says(b"", x_writer_affinity=b"false"))).ask(post(b"x"))
    assert cookies(response) == []
    assert response.header(b"x-writer-affinity") is None


def test_any_other_word_of_that_header_is_removed_too(serve: Serve) -> None:
    response = serve(marked(Says(b"", x_writer_affinity=b"true"))).ask(post(b"x"))
    assert cookies(response) == [MARK]
    assert response.header(b"x-writer-affinity") is None


def test_a_response_that_is_buffered_is_marked_as_well(serve: Serve) -> None:
    site = serve(ResponseBuffer(marked(Says(b"a", b"b"))))
    response = site.ask(post(b"x"))
    assert (response.body, cookies(response)) == (b"ab", [MARK])


def test_a_response_in_pieces_is_passed_on_as_it_comes(serve: Serve) -> None:
    leaf = Held()
    client = serve(marked(leaf)).connect()
    client.send(post(b"x"))
    leaf.request.write(b"first")
    assert b"first" in client.received
    assert MARK in client.received
    leaf.request.write(b" last")
    leaf.request.finish()
    assert client.response().body == b"first last"
