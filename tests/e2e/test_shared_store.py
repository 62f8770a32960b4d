"""Two servers with one certificate store, and a CA that looks at the first of them only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support.automatic import HOST, PAGE, StartPebble, World
from tests.e2e.support.stage import Stage
from tests.e2e.support.waiting import wait_until
from tests.support.ports import free_ports

OTHER = "other.example"
StartServers = Callable[..., tuple[World, World]]


@pytest.fixture
def servers(tmp_path: Path, start_pebble: StartPebble) -> Iterator[StartServers]:
    """A function that makes two servers; its options are those of the CA."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with Stage(folders[0]) as first, Stage(folders[1]) as second:

        def make(**ca: Any) -> tuple[World, World]:
            one = World(first, start_pebble, **ca)
            two = copy(one)
            two.stage = second
            two.http, two.https = free_ports(2)
            return one, two

        yield make


def start(world: World, host: str = HOST, **acme: Any) -> None:
    """Start a server, as one of two that `deploy.yml` lists."""
    shared = world.stage.folder.parent / "shared"
    role = {
        "hosts": [world.stage.target(PAGE).address for _ in range(2)],
        "proxy": {"ssl": True, "host": host},
    }
    store = {"folder": {"path": str(shared)}}
    config = world.stage.deploy({"app": role}, x_kproxy={"acme": world.acme(store=store, **acme)})
    world.start(config)


def test_one_order_is_placed_and_both_serve_the_certificate(servers: StartServers) -> None:
    one, two = servers()
    for world in (one, two):
        start(world)
    certificates = [world.get()[2] for world in (one, two)]
    assert certificates[0] == certificates[1]
    assert one.issued() == 1
    (kept,) = one.stage.folder.parent.glob("shared/*/certificates/*.pem")
    assert kept.name == f"{HOST}.pem"
    assert list(one.stage.folder.glob("state/acme/*/certificates/*")) == []


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_what_one_orders_is_shown_to_the_ca_by_the_other(
    servers: StartServers, challenge: str
) -> None:
    one, two = servers(authorization_reuse=0)
    start(one, OTHER, challenges=[challenge])
    start(two, HOST, challenges=[challenge])
    with two.connect(HOST) as wire:
        assert wire.sock.getpeercert()["subjectAltName"] == (("DNS", HOST),)
    with one.connect(OTHER) as wire:
        assert wire.sock.getpeercert()["subjectAltName"] == (("DNS", OTHER),)
    assert one.issued() == 2


def test_a_server_that_joins_later_needs_no_order_and_no_ca(servers: StartServers) -> None:
    one, two = servers()
    start(one)
    certificate = one.get()[2]
    one.ca.stop()
    start(two)
    assert two.get()[2] == certificate


def test_a_store_that_is_not_there_is_said_and_nothing_is_ordered(servers: StartServers) -> None:
    one, _ = servers()
    (one.stage.folder.parent / "shared").write_text("in the way")
    start(one)
    one.proxy.said("certificates can't be had: certificates can't be read: the certificate store")
    assert "the certificate store folder" in one.proxy.command("list").stdout
    assert one.issued() == 0


def test_what_one_has_failed_at_is_not_tried_by_the_other_at_once(
    servers: StartServers, start_pebble: StartPebble
) -> None:
    one, two = servers()
    one.ca.stop()
    (elsewhere,) = free_ports(1)
    one.ca = two.ca = start_pebble(http_port=elsewhere, tls_port=elsewhere)
    for world in (one, two):
        start(world, challenges=["http-01"])
    said = [world.proxy.said(f"no certificate for {HOST}") for world in (one, two)]
    assert all("connection refused" in line for line in said)
    assert sum("another server has tried" in line for line in said) == 1
    assert one.ca.log().count("Added order") == 1


@pytest.mark.slow
def test_a_renewal_by_one_is_served_by_the_other(servers: StartServers) -> None:
    one, two = servers(certificate_life=36)
    for world in (one, two):
        start(world)
    old = one.get()[2]

    def renewed() -> bool:
        served = {world.get()[2] for world in (one, two)}
        return len(served) == 1 and old not in served

    wait_until("both serve another certificate", renewed, patience=90)
    assert one.issued() == 2
