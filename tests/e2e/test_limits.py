"""What a client may send at most (issue: limits with clear answers)."""

from __future__ import annotations

import socket

import pytest

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, seen_by
from tests.e2e.support.wire import Response, request_text


@pytest.fixture(scope="module")
def target(module_stage: Stage) -> Target:
    return module_stage.target()


@pytest.fixture(scope="module")
def running(module_stage: Stage, target: Target) -> Proxy:
    return module_stage.app(target)


@pytest.fixture
def proxy(running: Proxy, target: Target) -> Proxy:
    target.forget()
    return running


def many(fields: int, size: int = 1) -> dict[str, str]:
    return {f"X-{number}": "x" * size for number in range(fields)}


def test_a_request_line_of_8_kb_is_served(proxy: Proxy) -> None:
    path = "/" + "x" * (8 * 1024 - len("GET / HTTP/1.1"))
    assert seen_by(proxy.get(path).body)["target"] == path


@pytest.mark.parametrize("size", [8 * 1024, 100_000, 1_000_000])
def test_a_longer_request_line_is_414(proxy: Proxy, target: Target, size: int) -> None:
    assert proxy.refuse(request_text(path="/" + "x" * size)).status == 414
    assert target.seen == b""


def test_a_request_line_that_does_not_end_is_414(proxy: Proxy) -> None:
    assert proxy.refuse(b"GET /" + b"x" * 100_000).status == 414


def test_100_header_fields_are_served_and_one_more_is_431(proxy: Proxy, target: Target) -> None:
    assert proxy.request(headers=many(99)).status == 200
    target.forget()
    assert proxy.refuse(request_text(headers=many(100))).status == 431
    assert target.seen == b""


def test_headers_of_64_kb_are_served_and_larger_ones_are_431(proxy: Proxy, target: Target) -> None:
    assert proxy.request(headers=many(60, 1000)).status == 200
    target.forget()
    assert proxy.refuse(request_text(headers=many(70, 1000))).status == 431
    assert target.seen == b""


def test_headers_that_do_not_end_are_431(proxy: Proxy, target: Target) -> None:
    data = b"GET / HTTP/1.1\r\nHost: app.example\r\nX: " + b"x" * 200_000
    assert proxy.refuse(data).status == 431
    assert target.seen == b""


def test_a_refusal_is_read_by_a_client_that_goes_on_sending(proxy: Proxy) -> None:
    """A reset would destroy the answer on its way."""
    with proxy.connect() as wire:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.send(b"GET /" + b"x" * 9000)
        wire.send(b"x" * 50_000)
        response: Response = wire.read_response()
        assert response.status == 414
        assert "414" in response.text
