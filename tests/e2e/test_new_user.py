"""What the tutorial does, with applications as people run them: gunicorn and uvicorn."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.sync.client import connect

from tests.e2e.support.apps import App, gunicorn, uvicorn
from tests.e2e.support.proxy import KPROXY, Proxy, run
from tests.e2e.support.stage import Stage
from tests.e2e.support.waiting import wait_until

MIB = 1024 * 1024

DEPLOY = """\
service: shop
image: me/shop # Kamal's own keys are left alone
servers:
  web:
    - {shop}
  api:
    hosts:
      - {api}
    proxy:
      path_prefix: /api
      healthcheck: {{path: /, interval: 0.1}}
proxy:
  hosts: [shop.example, www.shop.example]
  healthcheck: {{interval: 0.1}}
error_pages_path: public
"""


class World(NamedTuple):
    proxy: Proxy
    shop: App
    config: Path


@pytest.fixture(scope="module")
def world(module_stage: Stage) -> Iterator[World]:
    folder = module_stage.folder
    shop = gunicorn("shop:app", folder / "shop.log")
    api = uvicorn("api:app", folder / "api.log")
    try:
        (folder / "public").mkdir()
        (folder / "public" / "502.html").write_text("<h1>The shop is closed</h1>")
        config = folder / "deploy.yml"
        config.write_text(DEPLOY.format(shop=shop.address, api=api.address))
        proxy = module_stage.proxy(config)
        for path in ("/", "/api/"):
            wait_until(f"{path} is served", lambda path=path: ask(proxy, path).status == 200)
        yield World(proxy, shop, config)
    finally:
        shop.stop()
        api.stop()


def ask(proxy: Proxy, path: str, host: str = "shop.example") -> object:
    return proxy.get(path, host)


def test_check_understands_the_file(world: World) -> None:
    done = run([*KPROXY, "check", world.config])
    assert done.returncode == 0, done.stderr
    assert "shop-web" in done.stdout
    assert "shop.example, www.shop.example" in done.stdout


@pytest.mark.parametrize("host", ["shop.example", "www.shop.example"])
def test_both_names_of_the_shop_are_served(world: World, host: str) -> None:
    response = ask(world.proxy, "/", host)
    assert response.text == f"<h1>Shop</h1> of {host} for 127.0.0.1"


def test_the_prefix_belongs_to_the_other_application(world: World) -> None:
    assert ask(world.proxy, "/api/users/7").text == "api /users/7"
    assert world.proxy.logged(path="/api/users/7")["service"] == "shop-api"


def test_curl_reads_a_page_and_the_access_log_tells_of_it(
    world: World, require_tool: Callable[[str], str]
) -> None:
    url = f"http://shop.example:{world.proxy.port}/count/1000"
    resolve = f"shop.example:{world.proxy.port}:127.0.0.1"
    done = subprocess.run(
        [require_tool("curl"), "-sS", "--fail", "--noproxy", "*", "--resolve", resolve, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [str(number) for number in range(1000)]
    entry = world.proxy.logged(path="/count/1000")
    assert (entry["status"], entry["service"]) == (200, "shop-web")
    assert entry["user_agent"].startswith("curl/")


def test_a_300_mb_file_is_uploaded(
    world: World, require_tool: Callable[[str], str], tmp_path: Path
) -> None:
    file = tmp_path / "film"
    digest = hashlib.sha256()
    with file.open("wb") as output:
        for _ in range(300):
            piece = os.urandom(MIB)
            digest.update(piece)
            output.write(piece)
    done = subprocess.run(
        [
            require_tool("curl"),
            "-sS",
            "--fail",
            "--noproxy",
            "*",
            "-HHost: shop.example",
            "--data-binary",
            f"@{file}",
            f"http://127.0.0.1:{world.proxy.port}/upload",
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    file.unlink()
    assert json.loads(done.stdout) == {"size": 300 * MIB, "sha256": digest.hexdigest()}
    assert os.listdir(world.proxy.temp) == []


def test_a_websocket_of_the_application_works(world: World) -> None:
    sock = world.proxy.connect().sock
    with connect("ws://shop.example/api/chat", sock=sock, proxy=None) as socket:
        for word in ("hello", "you"):
            socket.send(word)
            assert socket.recv(timeout=20) == f"you said {word}"


def test_events_of_the_application_arrive(world: World) -> None:
    response = ask(world.proxy, "/api/events")
    assert response.get("content-type") == "text/event-stream"
    assert response.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_a_mistake_in_the_file_is_told_and_the_proxy_serves_on(world: World) -> None:
    good = world.config.read_text()
    try:
        world.config.write_text(good.replace("error_pages_path", "error_page_path"))
        done = run([*KPROXY, "check", world.config])
        assert done.returncode == 1
        assert (
            'error_page_path: is not a known option; did you mean "error_pages_path"?'
            in done.stderr
        )
        world.proxy.send_signal(signal.SIGHUP)
        world.proxy.said("the configuration was not reloaded")
        world.proxy.said("error_page_path: is not a known option")
        assert ask(world.proxy, "/").status == 200
    finally:
        world.config.write_text(good)


def test_when_the_application_is_stopped_visitors_see_the_error_page(world: World) -> None:
    assert ask(world.proxy, "/").status == 200
    world.shop.stop()
    response = ask(world.proxy, "/")
    assert (response.status, response.text) == (502, "<h1>The shop is closed</h1>")
    assert ask(world.proxy, "/api/").status == 200, "the other application is not touched"
