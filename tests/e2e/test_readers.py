"""Read targets, writer affinity, and targets that crash (behaviour.md section 6)."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, says
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Response, response_text
from tests.support.ports import free_port

SELDOM = ("--health-check-interval", "60s")
"""So seldom that nobody but the requests themselves can notice that a target is gone."""


def deployed(stage: Stage, writers: list[Target], readers: list[Target], *options: str) -> Proxy:
    """A proxy with the service app, at targets and read targets."""
    proxy = stage.proxy()
    arguments = ["deploy", "app", *options]
    arguments += [f"--target={target.address}" for target in writers]
    arguments += [f"--read-target={target.address}" for target in readers]
    done = proxy.command(*arguments)
    assert done.returncode == 0, done.stderr
    return proxy


def mark_of(response: Response) -> str:
    """The cookie of somebody who has written, as a browser sends it back."""
    (cookie,) = response.all("set-cookie")
    pair, *attributes = cookie.split("; ")
    assert pair.startswith("kamal-writer=")
    assert {"Path=/", "HttpOnly"} <= set(attributes)
    return pair


def test_reads_go_to_read_targets_and_who_wrote_reads_what_they_wrote(stage: Stage) -> None:
    writer = stage.target(says("writer"))
    readers = [stage.target(says(name)) for name in ("one", "two")]
    proxy = deployed(stage, [writer], readers, "--writer-affinity-timeout", "2s")
    assert {proxy.get().text for _ in range(6)} == {"one", "two"}
    assert proxy.request("HEAD").status == 200
    assert writer.requests == []
    written = proxy.request("POST", body=b"x")
    assert written.text == "writer"
    mark = mark_of(written)
    assert proxy.get(cookie=mark).text == "writer"
    assert not proxy.get(cookie=mark).has("set-cookie")
    assert proxy.get().text in ("one", "two")
    wait_until("it reads as all others", lambda: proxy.get(cookie=mark).text != "writer")


def test_an_application_may_say_that_nothing_was_written(stage: Stage) -> None:
    answer = response_text("nothing", x_writer_affinity="false")
    writer = stage.target(lambda wire, request: wire.send(answer))
    proxy = deployed(stage, [writer], [stage.target(says("reader"))])
    response = proxy.request("POST")
    assert response.text == "nothing"
    assert not response.has("set-cookie")
    assert not response.has("x-writer-affinity")


def test_a_file_may_name_read_targets(stage: Stage) -> None:
    writer, reader = stage.target(says("writer")), stage.target(says("reader"))
    extras = {"read_targets": [reader.address], "writer_affinity_timeout": 60}
    config = stage.deploy({"app": {"hosts": [writer.address]}}, x_kproxy=extras)
    proxy = stage.proxy(config, healthy=("app.example",))
    wait_until("the reader is up", lambda: proxy.get().text == "reader")
    mark = mark_of(proxy.request("POST", body=b"x"))
    assert proxy.get(cookie=mark).text == "writer"


def test_without_a_healthy_read_target_writers_are_read_from(stage: Stage) -> None:
    writer, reader = stage.target(says("writer")), stage.target(says("reader"))
    proxy = deployed(stage, [writer], [reader], "--health-check-interval", "100ms")
    assert proxy.get().text == "reader"
    reader.healthy = False
    proxy.said(f"{reader.address} is unhealthy")
    assert proxy.get().text == "writer"
    reader.healthy = True
    wait_until("it is back", lambda: proxy.get().text == "reader")


def test_read_targets_that_are_replaced_are_drained_of_their_requests(stage: Stage) -> None:
    writer, old, new = (stage.target(says(name)) for name in ("writer", "old", "new"))
    proxy = deployed(stage, [writer], [old])
    assert proxy.get().text == "old"
    done = proxy.command("deploy", "app", "--target", writer.address, "--read-target", new.address)
    assert done.returncode == 0
    old.close()
    assert proxy.get().text == "new"
    assert proxy.request("POST").text == "writer"


def health(proxy: Proxy) -> dict[str, str]:
    (service,) = json.loads(proxy.command("list", "--json").stdout)["services"]
    targets: list[dict[str, Any]] = service["targets"] + service["read_targets"]
    return {target["address"]: target["health"] for target in targets}


def test_a_target_that_crashed_costs_no_request_and_counts_as_unhealthy(stage: Stage) -> None:
    good, gone = stage.target(says("good")), stage.target(says("gone"))
    proxy = deployed(stage, [good, gone], [], *SELDOM)
    # Each worker, of two perhaps, takes turns by itself.
    assert {proxy.get().text for _ in range(3)} == {"good", "gone"}
    gone.close()
    answers = [proxy.request("POST", body=b"sent once").text for _ in range(10)]
    assert answers == ["good"] * 10
    assert sum(request.method == "POST" for request in good.requests) == 10
    assert health(proxy) == {good.address: "healthy", gone.address: "unhealthy"}
    proxy.said(f"{gone.address} is unhealthy: it refused a connection")


def test_a_target_that_crashed_is_back_with_the_next_check(stage: Stage) -> None:
    port = free_port()
    good, first = stage.target(says("good")), stage.target(says("first"), port=port)
    proxy = deployed(stage, [good, first], [], "--health-check-interval", "200ms")
    first.close()
    assert {proxy.get().text for _ in range(4)} == {"good"}
    stage.target(says("second"), port=port)
    wait_until("it is back", lambda: proxy.get().text == "second")


def test_a_read_target_that_crashed_costs_no_request(stage: Stage) -> None:
    writer, reader = stage.target(says("writer")), stage.target(says("reader"))
    proxy = deployed(stage, [writer], [reader], *SELDOM)
    reader.close()
    assert [proxy.get().text for _ in range(4)] == ["writer"] * 4
    assert health(proxy) == {writer.address: "healthy", reader.address: "unhealthy"}


def test_the_only_target_stays_and_serves_as_soon_as_it_is_back(stage: Stage) -> None:
    port = free_port()
    first = stage.target(says("first"), port=port)
    proxy = deployed(stage, [first], [], *SELDOM)
    first.close()
    assert proxy.get().status == 502
    stage.target(says("second"), port=port)
    assert proxy.get().text == "second"


def test_cookies_stay_below_the_path_of_their_service(stage: Stage) -> None:
    answer = response_text("x", set_cookie="a=1; Path=/inside")
    target = stage.target(lambda wire, request: wire.send(answer))
    options = ("--path-prefix=/api", "--scope-cookie-paths")
    proxy = deployed(stage, [target], [], *options)
    assert proxy.get("/api/x").all("set-cookie") == ["a=1; Path=/api/inside"]
