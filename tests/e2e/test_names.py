"""Names and addresses of targets and of kproxy itself, in both families."""

from __future__ import annotations

import socket

import pytest

from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says, seen_by


@pytest.fixture
def ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_a_target_may_be_a_name(stage: Stage) -> None:
    target = stage.target()
    hosts = [f"localhost:{target.port}"]
    proxy = stage.proxy(stage.deploy({"app": {"hosts": hosts}}), healthy=("app.example",))
    seen = seen_by(proxy.get().body)
    assert seen["fields"]["x-kamal-target"] == f"localhost:{target.port}"


def test_a_name_that_does_not_exist_is_told_and_is_503(stage: Stage) -> None:
    config = stage.deploy({"app": {"hosts": ["no-such-host.invalid:80"]}}, deploy_timeout=1)
    proxy = stage.proxy(config)
    proxy.said("shop-app is not healthy after 1 s")
    assert proxy.get().status == 503


@pytest.mark.usefixtures("ipv6")
def test_targets_and_clients_may_speak_ipv6(stage: Stage) -> None:
    target = stage.target(address="::1")
    config = stage.deploy({"app": {"hosts": [target.address]}})
    proxy = stage.proxy(config, bind="::1", healthy=("app.example",))
    seen = seen_by(proxy.get().body)
    assert seen["fields"]["x-forwarded-for"] == "::1"
    assert seen["fields"]["x-kamal-target"] == f"[::1]:{target.port}"
    entry = proxy.logged(path="/", client_addr="::1")
    assert entry["target"] == f"[::1]:{target.port}"


@pytest.mark.usefixtures("ipv6")
def test_without_an_address_to_bind_both_families_are_served(stage: Stage) -> None:
    target = stage.target(says("hello"))
    config = stage.deploy({"app": {"hosts": [target.address]}})
    proxy = stage.proxy(config, bind=None, healthy=("app.example",))
    for address in ("127.0.0.1", "::1"):
        proxy.address = address
        assert proxy.get().text == "hello"
        assert proxy.logged(path="/", client_addr=address)


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_name_with_two_addresses_works_when_only_one_answers(stage: Stage, address: str) -> None:
    """localhost is both on most machines, and a target listens on only one of them."""
    target = stage.target(says("hello"), address=address)
    if address not in {info[4][0] for info in socket.getaddrinfo("localhost", target.port)}:
        pytest.skip(f"localhost is not {address} here")
    hosts = [f"localhost:{target.port}"]
    proxy = stage.proxy(stage.deploy({"app": {"hosts": hosts}}), healthy=("app.example",))
    assert proxy.get().text == "hello"
