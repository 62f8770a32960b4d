"""Rollouts: a part of the visitors is served by other targets (behaviour.md section 6)."""

from __future__ import annotations

import json
import signal
from typing import Any

from tests.e2e.support.proxy import Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, says
from tests.e2e.support.traffic import Traffic, app
from tests.e2e.support.waiting import wait_until

QUICK = ("--health-check-interval", "100ms")


def run(proxy: Proxy, *arguments: str) -> None:
    """Run a command, which has to succeed."""
    done = proxy.command(*arguments)
    assert done.returncode == 0, done.stderr


def served(stage: Stage, old: Target) -> Proxy:
    """A proxy with the service app at a target."""
    proxy = stage.proxy()
    run(proxy, "deploy", "app", "--target", old.address, *QUICK)
    return proxy


def visitor(value: str) -> dict[str, str]:
    return {"cookie": f"theme=dark; kamal-rollout={value}"}


def by_value(proxy: Proxy, *values: str) -> list[str]:
    """Who answers visitors with these values of the cookie."""
    return [proxy.get(**visitor(value)).text for value in values]


def fnv(value: str) -> int:
    """The hash by its definition, as a check of the proxy's."""
    digest = 2166136261
    for byte in value.encode():
        digest = ((digest ^ byte) * 16777619) % 2**32
    return digest


def test_the_cookie_decides_who_goes_to_the_rollout(stage: Stage) -> None:
    old, new = stage.target(says("old")), stage.target(says("new"))
    proxy = served(stage, old)
    run(proxy, "rollout", "deploy", "app", "--target", new.address)
    assert by_value(proxy, "qa") == ["old"]
    run(proxy, "rollout", "set", "app", "--percent", "30", "--list", "qa,me")
    values = [f"{number} visitor" for number in range(30)]
    expected = ["new" if fnv(value) <= 0.3 * 0xFFFFFFFF else "old" for value in values]
    assert by_value(proxy, *values) == expected
    assert set(expected) == {"old", "new"}
    assert by_value(proxy, "qa", "me", "") == ["new", "new", "old"]
    assert proxy.get().text == "old"
    run(proxy, "rollout", "set", "app", "--percent", "100")
    assert by_value(proxy, *values[:5]) == ["new"] * 5
    run(proxy, "rollout", "stop", "app")
    assert by_value(proxy, "qa", *values[:5]) == ["old"] * 6


def test_a_rollout_that_can_not_be_changes_nothing(stage: Stage) -> None:
    old, ill = stage.target(says("old")), stage.target(says("ill"))
    ill.healthy = False
    proxy = served(stage, old)
    for arguments, error in (
        (("deploy", "none", "--target", ill.address), "service not found: none"),
        (("set", "app", "--percent", "10"), "rollout target not set: app"),
        (("set", "app"), "rollout set needs --percent, --list, or both"),
        (("deploy", "app"), "a deployment needs a target"),
        (
            ("deploy", "app", "--target", ill.address, "--deploy-timeout", "300ms"),
            f"app: not healthy within 0.3 s: {ill.address}: it answered 503 to /up",
        ),
    ):
        failed = proxy.command("rollout", *arguments)
        assert failed.returncode == 1
        assert failed.stderr.splitlines()[-1].startswith(f"Error: {error}")
    run(proxy, "rollout", "stop", "app")
    assert by_value(proxy, "qa") == ["old"]
    assert ill.requests == []


def test_a_rollout_is_listed(stage: Stage) -> None:
    old, new = stage.target(says("old")), stage.target(says("new"))
    proxy = served(stage, old)
    run(proxy, "rollout", "deploy", "app", "--target", new.address)
    assert f"{new.address} healthy (rollout, off)" in proxy.command("list").stdout
    run(proxy, "rollout", "set", "app", "--percent=10", "--list=qa")
    assert f"{new.address} healthy (rollout, 10 % + 1 named)" in proxy.command("list").stdout
    (listed,) = json.loads(proxy.command("list", "--json").stdout)["services"]
    rollout: dict[str, Any] = listed["rollout"]
    assert [target["address"] for target in rollout["targets"]] == [new.address]
    assert (rollout["percent"], rollout["list"]) == (10, ["qa"])


def test_a_rollout_under_load_from_its_first_share_to_the_whole(stage: Stage) -> None:
    old, new, newer = (stage.target(app(name)) for name in ("old", "new", "newer"))
    proxy = served(stage, old)
    inside, outside = "kamal-rollout=qa", "kamal-rollout=other"
    with Traffic(proxy, cookies=("", inside, outside)) as traffic:
        run(proxy, "rollout", "deploy", "app", "--target", new.address)
        run(proxy, "rollout", "set", "app", "--list", "qa")
        traffic.goes_to("new")
        assert traffic.by_cookie[""].keys() | traffic.by_cookie[outside].keys() == {"old"}
        # New targets for the same rollout; the old ones get nothing any more.
        run(proxy, "rollout", "deploy", "app", "--target", newer.address)
        count = len(new.requests)
        new.close()
        traffic.goes_to("newer")
        assert len(new.requests) == count
        # The rollout went well: it becomes the service.
        run(proxy, "deploy", "app", "--target", newer.address, *QUICK)
        count = len(old.requests)
        old.close()
        run(proxy, "rollout", "stop", "app")
        for cookie in ("", inside, outside):
            seen = traffic.by_cookie[cookie]
            before = seen["newer"]
            wait_until("all go there", lambda s=seen, b=before: s["newer"] > b + 5)
        assert len(old.requests) == count
    traffic.was_sent_once(old, new, newer)


def test_a_rollout_whose_targets_are_gone_costs_no_request(stage: Stage) -> None:
    old, new = stage.target(says("old")), stage.target(says("new"))
    proxy = served(stage, old)
    run(proxy, "rollout", "deploy", "app", "--target", new.address)
    run(proxy, "rollout", "set", "app", "--percent", "100")
    assert by_value(proxy, "qa") == ["new"]
    new.close()
    assert by_value(proxy, *"abcdef") == ["old"] * 6


def test_a_rollout_survives_the_proxys_sudden_end(stage: Stage) -> None:
    old, new, newer = (stage.target(says(name)) for name in ("old", "new", "newer"))
    proxy = served(stage, old)
    run(proxy, "rollout", "deploy", "app", "--target", new.address)
    run(proxy, "rollout", "set", "app", "--list", "qa")
    newer.healthy = False
    command = ("rollout", "deploy", "app", "--target", newer.address)
    deploying = proxy.command_in_background(*command)
    wait_until("it is asked", lambda: newer.health_checks)
    proxy.stop(signal.SIGKILL)
    deploying.communicate(timeout=20)
    assert deploying.returncode == 1
    proxy = stage.proxy(port=proxy.port)
    assert by_value(proxy, "qa", "other") == ["new", "old"]
    run(proxy, "rollout", "stop", "app")
    proxy.stop(signal.SIGKILL)
    assert by_value(stage.proxy(port=proxy.port), "qa") == ["old"]
