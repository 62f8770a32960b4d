"""Nothing that an operator does costs, misleads or repeats a request (kproxy under load)."""

from __future__ import annotations

import signal
from typing import Any

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target
from tests.e2e.support.traffic import Traffic, app
from tests.e2e.support.waiting import wait_until

QUICK = ("--health-check-interval", "100ms")


def run(proxy: Proxy, *arguments: str) -> None:
    """Run a command, which has to succeed."""
    done = proxy.command(*arguments)
    assert done.returncode == 0, done.stderr


def deploy(proxy: Proxy, target: Target, *options: str) -> None:
    run(proxy, "deploy", "app", "--target", target.address, *QUICK, *options)


def test_deployments_under_load_and_long_downloads(stage: Stage) -> None:
    targets = [stage.target(app(str(number))) for number in range(4)]
    proxy = stage.proxy()
    deploy(proxy, targets[0])
    with Traffic(proxy) as traffic:
        for number in range(1, 4):
            old, new = targets[number - 1], targets[number]
            traffic.goes_to(str(number - 1))
            deploy(proxy, new)
            count = len(old.requests)
            # Whoever deployed may stop the old target now.
            old.close()
            traffic.goes_to(str(number))
            assert len(old.requests) == count
    traffic.was_sent_once(*targets)


def test_deployments_with_buffers_under_load(stage: Stage) -> None:
    targets = [stage.target(app(str(number))) for number in range(3)]
    proxy = stage.proxy()
    buffers = ("--buffer-requests", "--buffer-responses")
    deploy(proxy, targets[0], *buffers)
    with Traffic(proxy) as traffic:
        for number in (1, 2):
            traffic.goes_to(str(number - 1))
            deploy(proxy, targets[number], *buffers)
        traffic.goes_to("2")
    traffic.was_sent_once(*targets)


def test_pauses_with_a_deployment_in_between(stage: Stage) -> None:
    old, new = stage.target(app("old")), stage.target(app("new"))
    proxy = stage.proxy()
    deploy(proxy, old, "--buffer-requests")
    with Traffic(proxy) as traffic:
        traffic.goes_to("old")
        run(proxy, "pause", "app")
        run(proxy, "resume", "app")
        traffic.goes_to("old")
        run(proxy, "pause", "app")
        count = len(old.requests)
        deploy(proxy, new, "--buffer-requests")
        assert len(old.requests) == count
        assert new.requests == []
        run(proxy, "resume", "app")
        traffic.goes_to("new")
    traffic.was_sent_once(old, new)


def test_reloads_with_other_targets_options_hosts_and_paths(stage: Stage) -> None:
    one, two, other = (stage.target(app(name)) for name in ("one", "two", "other"))
    untouched = {"hosts": [other.address], "proxy": {"host": "other.example"}}

    def write(target: Target, **proxy: Any) -> Any:
        streaming = {"requests": False, "responses": False}
        app_proxy = {"host": "app.example", "buffering": streaming, **proxy}
        return stage.deploy(
            {"app": {"hosts": [target.address], "proxy": app_proxy}, "x": untouched}
        )

    proxy = stage.proxy(write(one), healthy=("app.example", "other.example"))
    checks = len(other.health_checks)
    with Traffic(proxy, hosts=("app.example", "other.example"), path="/api/load") as traffic:
        traffic.goes_to("one")
        write(two)
        run(proxy, "reload")
        traffic.goes_to("two")
        write(two, response_timeout=20)
        proxy.send_signal(signal.SIGHUP)
        proxy.said("the configuration was read again", count=2)
        traffic.goes_to("two")
        write(two, host="app.example,www.example")
        run(proxy, "reload")
        assert proxy.get("/api/x", "www.example").text.startswith("two ")
        write(two, path_prefix="/api")
        run(proxy, "reload")
        assert proxy.get("/x", "app.example").status == 404
        traffic.goes_to("two")
        write(one, path_prefix="/api", strip_path_prefix=False)
        run(proxy, "reload")
        traffic.goes_to("one")
        traffic.goes_to("other")
    # Nobody was let out of the side door: the other service was not deployed again.
    assert len(other.health_checks) == checks
    sent = [one, two, other]
    for target in sent:
        target.requests = [request for request in target.requests if request.has("x-id")]
    traffic.was_sent_once(*sent)


def test_a_host_that_moves_to_a_service_that_takes_its_time(stage: Stage) -> None:
    one, two = stage.target(app("one")), stage.target(app("two"))
    # The one that takes it is new, and the one that gives it changes at once, or goes away.
    givers = {"a": {"hosts": [one.address], "proxy": {"host": "a.example,moving.example"}}}
    proxy = stage.proxy(stage.deploy(givers), healthy=("moving.example",))
    with Traffic(proxy, hosts=("moving.example",)) as traffic:
        for name, roles in (
            (
                "two",
                {
                    "a": {"hosts": [one.address], "proxy": {"host": "a.example"}},
                    "b": {"hosts": [two.address], "proxy": {"host": "moving.example"}},
                },
            ),
            ("one", {"c": {"hosts": [one.address], "proxy": {"host": "moving.example"}}}),
        ):
            taker = two if name == "two" else one
            taker.healthy = False
            checks = len(taker.health_checks)
            stage.deploy(roles)
            reloading = proxy.command_in_background("reload")
            wait_until("it is asked twice", lambda t=taker, c=checks: len(t.health_checks) > c + 1)
            traffic.goes_to("one" if name == "two" else "two")
            assert reloading.poll() is None
            taker.healthy = True
            said = reloading.communicate(timeout=20)
            assert reloading.returncode == 0, said
            traffic.goes_to(name)
    traffic.was_sent_once(one, two)
    assert proxy.get(host="a.example").status == 404
