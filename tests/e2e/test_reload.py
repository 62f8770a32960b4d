"""HUP: the configuration is read again, and what differs is deployed without a gap."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support.proxy import Load, Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, echo, says
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Request, Wire, request_text, response_text
from tests.support.ports import free_port


def clients(proxy: Proxy, answers: Counter[str], host: str = "app.example") -> Load:
    """Clients that ask over connections that they keep, some with bodies, and note who answered."""

    def ask(stop: Callable[[], bool]) -> None:
        number = 0
        with proxy.connect() as wire:
            while not stop():
                number += 1
                body = b"x" * (number % 3 * 5000)
                wire.send(request_text("POST" if body else "GET", "/load", host, body=body))
                response = wire.read_response()
                assert response.status == 200, response
                answers[response.text] += 1
                if response.has("connection"):
                    raise AssertionError("the connection was to be closed")

    return Load(ask, clients=6)


def one(target: Target, **proxy: Any) -> dict[str, Any]:
    return {"app": {"hosts": [target.address], "proxy": proxy}}


def test_targets_are_exchanged_under_load_without_one_failed_request(stage: Stage) -> None:
    targets = [stage.target(says(name)) for name in "abcd"]
    proxy = stage.proxy(stage.deploy(one(targets[0])), healthy=("app.example",))
    answers: Counter[str] = Counter()
    with clients(proxy, answers) as load:
        wait_until("a serves", lambda: answers["a"])
        for number, target in enumerate(targets[1:], 1):
            stage.deploy(one(target))
            proxy.send_signal(signal.SIGHUP)
            proxy.said("deployed shop-app", count=number)
            name = "abcd"[number]
            seen = answers[name]
            wait_until(f"{name} serves", lambda name=name, seen=seen: answers[name] > seen + 20)
            assert proxy.get().text == name
    assert not load.failures
    assert set(answers) == set("abcd")


def test_changed_options_take_effect_under_load_without_one_failed_request(stage: Stage) -> None:
    target = stage.target(says("a"))
    proxy = stage.proxy(stage.deploy(one(target)), healthy=("app.example",))
    answers: Counter[str] = Counter()
    with clients(proxy, answers) as load:
        changes: list[dict[str, Any]] = [
            {"buffering": {"requests": False, "responses": False}},
            {"buffering": {"max_request_body": 20_000}},
            {"forward_headers": False},
        ]
        for number, change in enumerate(changes, 1):
            stage.deploy(one(target, **change))
            proxy.send_signal(signal.SIGHUP)
            proxy.said("deployed shop-app", count=number)
            if "buffering" in change:
                limit = change["buffering"].get("max_request_body")
                status = proxy.request("POST", body=b"x" * 20_001).status
                assert status == (413 if limit else 200)
    assert not load.failures
    target.forget()
    proxy.get(x_forwarded_for="1.2.3.4")
    assert target.requests[0].get("x-forwarded-for") == "127.0.0.1"


def test_services_come_and_go_without_touching_the_others(stage: Stage) -> None:
    app, other = stage.target(says("app")), stage.target(says("other"))
    proxy = stage.proxy(stage.deploy(one(app)), healthy=("app.example",))
    assert proxy.get(host="other.example").status == 404
    answers: Counter[str] = Counter()
    with clients(proxy, answers) as load:
        checks = len(app.health_checks)
        for number in (1, 2):
            stage.deploy({**one(app), "other": {"hosts": [other.address]}})
            proxy.send_signal(signal.SIGHUP)
            proxy.said("deployed shop-other", count=number)
            assert proxy.get(host="other.example").text == "other"
            stage.deploy(one(app))
            proxy.send_signal(signal.SIGHUP)
            proxy.said("removed shop-other", count=number)
            assert proxy.get(host="other.example").status == 404
    assert not load.failures
    assert "deployed shop-app" not in proxy.output
    assert len(app.health_checks) == checks


def test_a_bad_file_changes_nothing_and_is_reported(stage: Stage) -> None:
    proxy = stage.proxy(stage.deploy(one(stage.target(says("a")))), healthy=("app.example",))
    good = (stage.folder / "deploy.yml").read_text()
    answers: Counter[str] = Counter()
    with clients(proxy, answers) as load:
        for bad, complaint in (
            (good + "\nwhat: 1\n", "what: is not a known option"),
            ("service: [", "is not YAML"),
            (None, "deploy.yml"),
        ):
            replace(stage.folder / "deploy.yml", bad)
            count = len(proxy.output.split("the configuration was not reloaded"))
            proxy.send_signal(signal.SIGHUP)
            proxy.said("the configuration was not reloaded", count=count)
            proxy.said(complaint)
            assert proxy.get().text == "a"
        # And the way back is open.
        replace(
            stage.folder / "deploy.yml", good.replace("app.example", "moved.example,app.example")
        )
        proxy.send_signal(signal.SIGHUP)
        proxy.said("deployed shop-app")
        assert proxy.get(host="moved.example").text == "a"
    assert not load.failures


def replace(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
    else:
        new = path.with_name("new")
        new.write_text(text)
        new.replace(path)


def test_new_targets_that_do_not_come_up_leave_the_old_ones_serving(stage: Stage) -> None:
    old = stage.target(says("old"))
    proxy = stage.proxy(stage.deploy(one(old)), healthy=("app.example",))
    answers: Counter[str] = Counter()
    port = free_port()
    with clients(proxy, answers) as load:
        nobody = {"app": {"hosts": [f"127.0.0.1:{port}"]}}
        stage.deploy(nobody, deploy_timeout=1)
        proxy.send_signal(signal.SIGHUP)
        line = proxy.said("deployment failed")
        assert "shop-app" in line
        assert f"127.0.0.1:{port}" in line
        assert proxy.get().text == "old"
    assert not load.failures
    assert set(answers) == {"old"}


def test_an_unchanged_file_deploys_nothing(stage: Stage) -> None:
    target = stage.target(says("a"))
    proxy = stage.proxy(stage.deploy(one(target)), healthy=("app.example",))
    checks = len(target.health_checks)
    proxy.send_signal(signal.SIGHUP)
    proxy.said("the configuration was read again")
    assert proxy.get().text == "a"
    assert "deploying" not in proxy.output
    assert len(target.health_checks) == checks


def test_a_request_under_way_is_finished_by_the_target_that_has_it(stage: Stage) -> None:
    arrived, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def script(wire: Wire, request: Request) -> None:
        if request.target == "/slow":
            arrived.set()
            assert go_on.wait(30)
        wire.send(response_text("old"))
        if request.target == "/slow" and wire.at_end():
            closed.set()

    old, new = stage.target(script), stage.target(says("new"))
    proxy = stage.proxy(stage.deploy(one(old)), healthy=("app.example",))
    with proxy.connect() as wire:
        wire.send(request_text(path="/slow"))
        assert arrived.wait(20)
        stage.deploy(one(new))
        proxy.send_signal(signal.SIGHUP)
        proxy.said("deployed shop-app")
        assert proxy.get().text == "new"
        go_on.set()
        assert wire.read_response().text == "old"
        assert closed.wait(20), "the connection to a target that is gone is not kept"
        wire.send(request_text())
        assert wire.read_response().text == "new"


def test_a_request_that_was_still_being_collected_goes_to_the_new_target(stage: Stage) -> None:
    old, new = stage.target(says("old")), stage.target(says("new"))
    proxy = stage.proxy(stage.deploy(one(old)), healthy=("app.example",))
    with proxy.connect() as wire:
        wire.send(request_text("POST", headers={"Content-Length": "8"}) + b"half")
        proxy.get()
        stage.deploy(one(new))
        proxy.send_signal(signal.SIGHUP)
        proxy.said("deployed shop-app")
        old.close()
        wire.send(b"half")
        assert wire.read_response().text == "new"


def test_an_upgraded_connection_of_a_target_that_is_gone_is_closed_at_once(stage: Stage) -> None:
    ended = threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.send("HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        if wire.at_end():
            ended.set()

    old, new = stage.target(script), stage.target(says("new"))
    proxy = stage.proxy(stage.deploy(one(old)), healthy=("app.example",))
    with proxy.connect() as wire:
        wire.send(request_text(headers={"Connection": "Upgrade", "Upgrade": "chat"}))
        assert wire.read_response().status == 101
        stage.deploy(one(new))
        proxy.send_signal(signal.SIGHUP)
        assert wire.at_end()
    assert ended.wait(20)


def test_many_reloads_at_once_end_with_the_last_file(stage: Stage) -> None:
    targets = [stage.target(says(str(number))) for number in range(6)]
    proxy = stage.proxy(stage.deploy(one(targets[0])), healthy=("app.example",))
    answers: Counter[str] = Counter()
    with clients(proxy, answers) as load:
        for target in targets[1:]:
            stage.deploy(one(target))
            proxy.send_signal(signal.SIGHUP)
        wait_until("the last one serves", lambda: proxy.get().text == "5")
        proxy.get()
        assert proxy.get().text == "5"
    assert not load.failures


def test_reloads_leave_no_files_and_connections_behind(stage: Stage) -> None:
    targets = [stage.target(echo), stage.target(echo)]
    proxy = stage.proxy(stage.deploy(one(targets[0])), healthy=("app.example",))

    def descriptors() -> int:
        return len(list(Path(f"/proc/{proxy.process.pid}/fd").iterdir()))

    def reload(number: int) -> None:
        stage.deploy(one(targets[number % 2]))
        proxy.send_signal(signal.SIGHUP)
        proxy.said("deployed shop-app", count=number)
        assert proxy.get().status == 200

    reload(1)
    reload(2)
    before = descriptors()
    for number in range(3, 13):
        reload(number)
    wait_until("all is closed", lambda: descriptors() <= before + 1)


def test_a_request_that_outlasts_the_drain_timeout_is_ended(stage: Stage) -> None:
    arrived, ended = threading.Event(), threading.Event()

    def script(wire: Wire, request: Request) -> None:
        arrived.set()
        if wire.at_end():
            ended.set()

    old, new = stage.target(script), stage.target(says("new"))
    config = stage.deploy(one(old), drain_timeout=1)
    proxy = stage.proxy(config, healthy=("app.example",))
    with proxy.connect() as wire:
        wire.send(request_text())
        assert arrived.wait(20)
        stage.deploy(one(new), drain_timeout=1)
        proxy.send_signal(signal.SIGHUP)
        assert wire.read_response().status == 504
        assert ended.wait(20)
        wire.send(request_text())
        assert wire.read_response().text == "new"


@pytest.mark.parametrize(
    ("workers", "when"), [("2", "kproxy restart --all"), ("0", "the next start")]
)
def test_what_a_reload_cannot_change_is_said(stage: Stage, workers: str, when: str) -> None:
    target = stage.target(says("a"))
    proxy = stage.proxy(
        stage.deploy(one(target)), healthy=("app.example",), options=("--workers", workers)
    )
    stage.deploy(one(target), x_kproxy={"access_log": str(stage.folder / "access.log")})
    proxy.send_signal(signal.SIGHUP)
    proxy.said(f"access_log has changed, which takes effect with {when}")
