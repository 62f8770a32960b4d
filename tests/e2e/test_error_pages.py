"""The pages of the proxy's own answers (behaviour.md section 3)."""

from __future__ import annotations

import pytest

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import raw


@pytest.fixture(scope="module")
def proxy(module_stage: Stage) -> Proxy:
    pages = module_stage.folder / "public"
    pages.mkdir()
    (pages / "502.html").write_text("<h1>Our own 502 – sorry</h1>")
    (pages / "503.html").write_text("<h1>Closed: [{{ .Message }}]</h1>")
    (pages / "404.html").write_text("<h1>Our own 404</h1>")
    (pages / "notes.txt").write_text("not a page")
    target = module_stage.target(raw(b"nonsense\r\n\r\n"))
    roles = {
        "app": {
            "hosts": [target.address],
            "proxy": {"buffering": {"max_request_body": 1}},
        },
        "down": {"hosts": ["127.0.0.1:1"]},
    }
    config = module_stage.deploy(roles, error_pages_path="public")
    return module_stage.proxy(config, healthy=("app.example",))


def test_a_page_of_the_folder_takes_the_place_of_the_built_in_one(proxy: Proxy) -> None:
    response = proxy.get()
    assert response.status == 502
    assert response.text == "<h1>Our own 502 – sorry</h1>"
    assert response.get("content-type") == "text/html; charset=utf-8"


def test_the_built_in_page_is_used_for_a_status_that_the_folder_lacks(proxy: Proxy) -> None:
    response = proxy.request("POST", body=b"too much")
    assert response.status == 413
    assert response.text.startswith("<!DOCTYPE html>")
    assert "413" in response.text


def test_the_place_of_the_message_is_empty_without_one(proxy: Proxy) -> None:
    response = proxy.get(host="down.example")
    assert response.status == 503
    assert response.text == "<h1>Closed: []</h1>"


def test_a_head_request_gets_the_length_of_the_page_and_no_page(proxy: Proxy) -> None:
    page = proxy.get().body
    with proxy.connect() as wire:
        wire.send("HEAD / HTTP/1.1\r\nHost: app.example\r\n\r\n")
        response = wire.read_response("HEAD")
        assert (response.status, response.get("content-length")) == (502, str(len(page)))
        # Nothing of a body is in the way of the next answer.
        wire.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n")
        assert wire.read_response().body == page


def test_an_error_page_of_the_application_itself_is_passed_on_untouched(stage: Stage) -> None:
    answer = b"HTTP/1.1 503 Mine\r\nContent-Length: 4\r\nContent-Type: text/mine\r\n\r\nmine"
    proxy = stage.app(stage.target(raw(answer)))
    response = proxy.get()
    assert (response.first, response.body) == ("HTTP/1.1 503 Mine", b"mine")
    assert response.get("content-type") == "text/mine"
