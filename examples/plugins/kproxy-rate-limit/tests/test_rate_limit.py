"""Needs no sleeping: the time is what the tests say. Needs no port: the transport is in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from kproxy_rate_limit import Buckets, Limits, RateLimit
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from twisted.web.server import Site

from kproxy.config import ConfigurationError, load
from kproxy.plugins import find_wrappers


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1_000_000.7)
    return clock


class Application(Resource):
    isLeaf = True

    def render_GET(self, request: object) -> bytes:
        return b"hello"


def ask(site: Site, client: str = "192.0.2.7", forwarded: str = "") -> tuple[int, bytes]:
    """Ask a stock Site from an address: the status, and the whole response."""
    address = (IPv6Address if ":" in client else IPv4Address)("TCP", client, 4711)
    transport = StringTransport(peerAddress=address)
    channel = site.buildProtocol(address)
    channel.makeConnection(transport)
    more = f"X-Forwarded-For: {forwarded}\r\n" if forwarded else ""
    channel.dataReceived(f"GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n".encode())
    response = transport.value()
    return int(response.split(b" ")[1]), response


def limited(clock: Clock, **limits: int) -> Site:
    limits.setdefault("requests", 3)
    return Site(RateLimit(Application(), Limits(**limits, now=clock.seconds)), reactor=clock)


def test_so_many_requests_may_come_at_once_and_then_no_more(clock: Clock) -> None:
    site = limited(clock)
    assert [ask(site)[0] for _ in range(5)] == [200, 200, 200, 429, 429]


def test_a_refusal_says_when_to_come_again(clock: Clock) -> None:
    site = limited(clock)  # 3 in 60 s: one every 20 s
    for _ in range(3):
        ask(site)
    status, response = ask(site)
    assert status == 429
    assert b"429 Too Many Requests\r\n" in response
    assert b"Retry-After: 20\r\n" in response
    clock.advance(12.5)
    assert b"Retry-After: 8\r\n" in ask(site)[1]
    clock.advance(8)
    assert ask(site)[0] == 200
    assert ask(site)[0] == 429


def test_a_client_that_stays_below_the_rate_is_never_refused(clock: Clock) -> None:
    site = limited(clock, requests=7, burst=1)
    for _ in range(100):
        assert ask(site)[0] == 200
        clock.advance(60 / 7)


def test_a_bucket_holds_no_more_than_its_burst(clock: Clock) -> None:
    site = limited(clock, requests=60, burst=2)
    clock.advance(3600)
    assert [ask(site)[0] for _ in range(3)] == [200, 200, 429]
    clock.advance(1)
    assert [ask(site)[0] for _ in range(2)] == [200, 429]


def test_refused_requests_use_nothing_up(clock: Clock) -> None:
    site = limited(clock, requests=1)
    for _ in range(50):
        ask(site)
    clock.advance(60)
    assert ask(site)[0] == 200


def test_each_address_has_a_bucket_of_its_own(clock: Clock) -> None:
    site = limited(clock, requests=1)
    assert ask(site, "192.0.2.1")[0] == 200
    assert ask(site, "192.0.2.2")[0] == 200
    assert ask(site, "192.0.2.1")[0] == 429


def test_an_ipv6_client_has_one_bucket_for_its_whole_network(clock: Clock) -> None:
    site = limited(clock, requests=1)
    assert ask(site, "2001:db8:1:2::1")[0] == 200
    assert ask(site, "2001:db8:1:2:ffff::9")[0] == 429
    assert ask(site, "2001:db8:1:3::1")[0] == 200


def test_an_ipv4_client_of_an_ipv6_socket_is_the_same_client(clock: Clock) -> None:
    site = limited(clock, requests=1)
    assert ask(site, "192.0.2.1")[0] == 200
    assert ask(site, "::ffff:192.0.2.1")[0] == 429
    assert ask(site, "::ffff:192.0.2.2")[0] == 200


def test_what_a_client_says_of_its_address_counts_for_nothing(clock: Clock) -> None:
    site = limited(clock, requests=1)
    assert ask(site, forwarded="10.0.0.1")[0] == 200
    assert ask(site, forwarded="10.0.0.2")[0] == 429


def test_behind_trusted_proxies_it_is_the_address_that_the_first_of_them_saw(clock: Clock) -> None:
    # kproxy's forward-headers comes before and has added the address of the last proxy.
    site = limited(clock, requests=1, trusted_proxies=1)
    assert ask(site, forwarded="forged, 10.0.0.1, 192.0.2.7")[0] == 200
    assert ask(site, forwarded="other, 10.0.0.1, 192.0.2.7")[0] == 429
    assert ask(site, forwarded="forged, 10.0.0.2, 192.0.2.7")[0] == 200


def test_fewer_entries_than_trusted_proxies_are_no_error(clock: Clock) -> None:
    site = limited(clock, requests=1, trusted_proxies=3)
    assert ask(site)[0] == 200
    assert ask(site, forwarded="10.0.0.1, 192.0.2.7")[0] == 200
    assert ask(site, forwarded="x" * 5000)[0] == 200


def test_buckets_that_are_full_again_are_forgotten(clock: Clock) -> None:
    buckets = Buckets(Limits(1, per=10, now=clock.seconds))
    for number in range(1000):
        buckets.take(str(number))
    assert len(buckets) == 1000
    clock.advance(10)
    for _ in range(1000):
        buckets.take("other")
        clock.advance(10)
    assert len(buckets) == 1


def test_no_more_clients_are_remembered_than_was_said(clock: Clock) -> None:
    buckets = Buckets(Limits(1, clients=100, now=clock.seconds))
    for number in range(10_000):
        assert buckets.take(str(number)) == 0
    assert len(buckets) == 100
    assert buckets.take("9999") == 60
    assert buckets.take("0") == 0


# What an operator writes.


def written(folder: Path, options: str) -> object:
    """What becomes of the options in a deploy.yml."""
    file = folder / "deploy.yml"
    wrappers = f"x-kproxy:\n  wrappers:\n    - rate-limit: {options}\n"
    file.write_text("service: app\nservers: [10.0.0.1]\n" + wrappers)
    config = load([file], destination=None, server=None, environ={}, wrappers=find_wrappers())
    return config.services[0].wrappers[0].options


def test_the_options_become_limits(tmp_path: Path) -> None:
    assert written(tmp_path, "{requests: 10}") == Limits(10)
    everything = "{requests: 10, per: 0.5, burst: 20, trusted_proxies: 1, clients: 30}"
    assert written(tmp_path, everything) == Limits(10, 0.5, 20, 1, 30)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("", "requests is missing"),
        ("{requests: 0}", "requests: should be an integer, at least 1, is 0"),
        ("{requests: 1, brust: 3}", 'brust: is not a known option; did you mean "burst"?'),
        ("{requests: 1, per: 0}", "per: should be a number of seconds, more than 0, is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        written(tmp_path, options)
    assert problem in str(caught.value)
