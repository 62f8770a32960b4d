"""``ssl: true`` as a new user sees it: in a browser (Chromium), which trusts the CA (pebble)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.support.apps import App, uvicorn
from tests.e2e.support.automatic import HOST, StartPebble, World
from tests.e2e.support.browser import Browser
from tests.e2e.support.stage import Stage
from tests.e2e.support.waiting import wait_until


@pytest.fixture(scope="module")
def app(module_stage: Stage) -> Iterator[App]:
    with uvicorn("page:app", module_stage.folder / "app.log") as app:
        yield app


@pytest.fixture(scope="module")
def world(module_stage: Stage, start_module_pebble: StartPebble, app: App) -> World:
    world = World(module_stage, start_module_pebble)
    world.start(world.deploy(address=app.address))
    wait_until("the page is served", lambda: world.get()[0] == 200)
    return world


@pytest.fixture
def browser(world: World, require_tool: Callable[[str], str], tmp_path: Path) -> Browser:
    programs = require_tool("chromium"), require_tool("certutil")
    return Browser(tmp_path, *programs, {80: world.http, 443: world.https}, HOST)


def shown(page: str, part: str) -> str | None:
    """The text of a part of the page; None: there is no such part."""
    found = re.search(f'<p id="{part}">(.*?)</p>', page)
    return found and found[1]


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_page_is_loaded_over_http2_and_its_websocket_works(
    world: World, browser: Browser, scheme: str
) -> None:
    browser.trust(world.trusted_file())
    page = browser.open(f"{scheme}://{HOST}/from-{scheme}")
    assert shown(page, "protocol") == "h2"
    assert shown(page, "heard") == "you said hello"

    loaded = world.proxy.logged(path=f"/from-{scheme}", scheme="https")
    assert (loaded["status"], loaded["proto"]) == (200, "HTTP/2.0")
    assert "Chrome" in loaded["user_agent"]
    chat = world.proxy.logged(path=f"/chat/from-{scheme}")
    assert (chat["status"], chat["proto"], chat["scheme"]) == (101, "HTTP/2.0", "https")
    if scheme == "http":
        redirect = world.proxy.logged(path="/from-http", scheme="http")
        assert (redirect["status"], redirect["proto"]) == (301, "HTTP/1.1")


def test_a_browser_that_does_not_trust_the_ca_shows_no_page(world: World, browser: Browser) -> None:
    page = browser.open(f"https://{HOST}/untrusted")
    assert shown(page, "protocol") is None
    assert "/untrusted" not in {entry["path"] for entry in world.proxy.log_lines()}
