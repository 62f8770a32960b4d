"""Several targets of one service, and what happens before the first is up (sections 2 and 5)."""

from __future__ import annotations

import json
from collections import Counter

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, says
from tests.e2e.support.waiting import wait_until
from tests.support.ports import free_port


def answers(proxy: Proxy, count: int) -> Counter[str]:
    return Counter(proxy.get().text for _ in range(count))


def test_targets_take_turns(stage: Stage) -> None:
    proxy = stage.app(*(stage.target(says(name)) for name in "abc"))
    wait_until("all are up", lambda: len(answers(proxy, 3)) == 3)
    assert answers(proxy, 30) == {"a": 10, "b": 10, "c": 10}


def test_the_targets_that_are_up_at_boot_serve_and_the_others_join_later(stage: Stage) -> None:
    port = free_port()
    hosts = [stage.target(says("up")).address, f"127.0.0.1:{port}"]
    proxy = stage.proxy(stage.deploy({"app": {"hosts": hosts}}), healthy=("app.example",))
    assert answers(proxy, 10) == {"up": 10}
    stage.target(says("late"), port=port)
    wait_until("the other joins", lambda: "late" in answers(proxy, 2))
    assert answers(proxy, 10) == {"up": 5, "late": 5}


def test_a_target_that_goes_down_leaves_the_rotation_and_comes_back(stage: Stage) -> None:
    good, bad = stage.target(says("good")), stage.target(says("bad"))
    proxy = stage.app(good, bad)
    wait_until("both are up", lambda: len(answers(proxy, 2)) == 2)
    bad.healthy = False
    proxy.said(f"{bad.address} is unhealthy")
    assert answers(proxy, 10) == {"good": 10}
    bad.healthy = True
    wait_until("it is back", lambda: "bad" in answers(proxy, 2))


def test_a_target_that_refuses_connections_is_passed_over_before_a_check_has_noticed(
    stage: Stage,
) -> None:
    good, gone = stage.target(says("good")), stage.target(says("gone"))
    hosts = [good.address, gone.address]
    # No check for a minute: nobody but the requests themselves can notice.
    proxy_options = {"healthcheck": {"interval": 60}}
    config = stage.deploy({"app": {"hosts": hosts, "proxy": proxy_options}})
    proxy = stage.proxy(config, healthy=("app.example",))
    wait_until("both are up", lambda: len(answers(proxy, 2)) == 2)
    gone.close()
    # A connection that was kept may die with the first request on it; those after it are served.
    proxy.get()
    proxy.get()
    assert answers(proxy, 10) == {"good": 10}
    assert proxy.request("POST", body=b"not sent twice").text == "good"


def test_without_a_healthy_target_the_answer_is_503_until_there_is_one(stage: Stage) -> None:
    target = stage.target(says("up"))
    target.healthy = False
    proxy = stage.proxy(stage.deploy({"app": {"hosts": [target.address]}}))
    wait_until("it was checked", lambda: target.health_checks)
    assert proxy.get().status == 503
    assert not target.requests
    target.healthy = True
    wait_until("it serves", lambda: proxy.get().status == 200)


def test_a_service_that_does_not_come_up_is_reported_and_tried_on(stage: Stage) -> None:
    port = free_port()
    well = stage.target(says("well"))
    roles = {"app": {"hosts": [f"127.0.0.1:{port}"]}, "other": {"hosts": [well.address]}}
    config = stage.deploy(roles, deploy_timeout=1)
    proxy = stage.proxy(config, healthy=("other.example",))
    line = proxy.said("shop-app is not healthy after 1 s")
    assert json.loads(line)["level"] == "ERROR"
    assert f"127.0.0.1:{port}" in line
    assert proxy.get().status == 503
    stage.target(says("at last"), port=port)
    wait_until("it serves", lambda: proxy.get().text == "at last")
    assert "shop-other is not healthy" not in proxy.output


def test_one_target_is_checked_no_more_once_it_is_healthy(stage: Stage) -> None:
    one, two, three = stage.target(), stage.target(), stage.target()
    roles = {"one": {"hosts": [one.address]}, "more": {"hosts": [two.address, three.address]}}
    stage.proxy(stage.deploy(roles), healthy=("one.example", "more.example"))
    before = len(checks(one))
    # Others are checked on and on, so that there was time.
    seen = len(checks(two))
    wait_until("checks go on elsewhere", lambda: len(checks(two)) > seen + 4)
    assert len(checks(one)) == before == 1


def checks(target: Target) -> list[object]:
    """The checks of the proxy itself, not those that a test sent through it."""
    return [check for check in target.health_checks if not check.has("x-forwarded-for")]


def test_the_health_check_is_what_the_file_says(stage: Stage) -> None:
    target = stage.target(health="/health?deep=1")
    other = stage.target(health="/health?deep=1")
    proxy_options = {"healthcheck": {"path": "/health?deep=1"}}
    config = stage.deploy(
        {"app": {"hosts": [target.address], "proxy": proxy_options}},
        x_kproxy={"healthcheck_port": other.port, "healthcheck_host": "check.example"},
    )
    proxy = stage.proxy(config)
    wait_until("it serves", lambda: proxy.get().status == 200)
    (check,) = checks(other)
    assert check.target == "/health?deep=1"
    assert check.get("host") == "check.example"
    assert not checks(target)


def test_a_redirect_is_not_healthy(stage: Stage) -> None:
    answer = b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    target = stage.target(lambda wire, request: wire.send(answer), health="/elsewhere")
    proxy = stage.proxy(stage.deploy({"app": {"hosts": [target.address]}}))
    wait_until("it was checked twice", lambda: len(target.requests) >= 2)
    assert proxy.get().status == 503
