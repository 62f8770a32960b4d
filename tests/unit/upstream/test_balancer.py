"""Whose turn it is."""

from __future__ import annotations

from collections import Counter
from typing import Any

from kproxy.config.model import Target
from kproxy.upstream.balancer import Balancer
from tests.unit.http.memory import get, post
from tests.unit.upstream.support import Proxy, answer, one_message

POOLS: Any = ["a", "b", "c"]


def test_targets_take_turns() -> None:
    balancer = Balancer(POOLS)
    assert Counter(balancer.pick() for _ in range(9)) == {"a": 3, "b": 3, "c": 3}
    turns = [balancer.pick() for _ in range(6)]
    assert turns[:3] == turns[3:]
    assert set(turns) == set(POOLS)


def test_those_that_failed_are_passed_over() -> None:
    balancer = Balancer(POOLS)
    assert {balancer.pick(["a"]) for _ in range(6)} == {"b", "c"}
    assert {balancer.pick(["a", "c"]) for _ in range(6)} == {"b"}
    assert balancer.pick(POOLS) is None


def test_no_targets_no_pick() -> None:
    assert Balancer().pick() is None


def test_other_targets_take_over_at_once() -> None:
    balancer = Balancer(POOLS)
    balancer.pick()
    balancer.pick()
    one: Any = ["d"]
    balancer.use(one)
    assert [balancer.pick() for _ in range(2)] == ["d", "d"]
    balancer.use(())
    assert balancer.pick() is None


def test_requests_are_spread_over_the_targets() -> None:
    proxy = Proxy(*[Target(name, 1) for name in "abc"])
    for _ in range(9):
        client = proxy.client()
        client.send(get())
        target = one_message(proxy.target).get(b"x-kamal-target")
        assert target == [proxy.network.addresses[-1].encode()]
        proxy.target.send(answer(b"x", b"Connection: close"))
    assert Counter(proxy.network.addresses) == {"a:1": 3, "b:1": 3, "c:1": 3}


def test_a_request_that_is_still_being_buffered_goes_to_the_targets_of_its_end() -> None:
    proxy = Proxy(Target("old", 1), Target("new", 1), buffer_requests=True)
    old, new = proxy.pools
    proxy.balancer.use([old])
    client = proxy.client()
    client.send(post(b"hello")[:-1])
    proxy.balancer.use([new])
    client.send(b"o")
    assert proxy.network.addresses == ["new:1"]
    assert one_message(proxy.target).body == b"hello"
