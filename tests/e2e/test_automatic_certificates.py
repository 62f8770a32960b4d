"""``ssl: true``, with a real CA (Debian's ``pebble -strict``), and visitors who trust it."""

from __future__ import annotations

import json
import signal
import ssl
from collections.abc import Callable

import pytest

from tests.e2e.support.automatic import HOST, StartPebble, World
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Script
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Request, Wire, request_text, response_text
from tests.support.named import Named
from tests.support.ports import free_ports

OTHER = "other.example"
NO_SUCH_NAME = r"(?i)unrecognized.name"


@pytest.fixture
def world(stage: Stage, start_pebble: StartPebble) -> World:
    return World(stage, start_pebble)


@pytest.mark.parametrize("challenges", [["http-01"], ["tls-alpn-01"]])
def test_the_first_visitor_waits_for_the_certificate_and_gets_the_page(
    world: World, challenges: list[str]
) -> None:
    world.start(world.deploy(acme={"challenges": challenges}))
    with world.connect() as wire:
        certificate = wire.sock.getpeercert()
    assert certificate["subjectAltName"] == (("DNS", HOST),)
    wait_until("the page is served", lambda: world.get()[:2] == (200, b"a page"))
    assert world.issued() == 1


def test_a_wildcard_is_served_with_a_certificate_that_was_had_by_dns(
    stage: Stage,
    start_pebble: StartPebble,
    require_tool: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, command = tmp_path_factory.mktemp("dns"), require_tool("named")
    with Named(folder, command, {"wild.example": []}) as dns:
        world = World(stage, start_pebble, dns=dns.address)
        update = {"server": "127.0.0.1", "port": dns.port, "key": dns.key, "secret": "DNS_KEY"}
        update["algorithm"] = dns.algorithm
        (stage.folder / ".kamal").mkdir()
        (stage.folder / ".kamal" / "secrets").write_text(f"DNS_KEY={dns.secret}\n")
        proxy = world.start(world.deploy(acme={"dns": {"rfc2136": update}}, host="*.wild.example"))
        for host in ("one.wild.example", "two.wild.example"):
            with world.connect(host) as wire:
                certificate = wire.sock.getpeercert()
            assert certificate["subjectAltName"] == (("DNS", "*.wild.example"),)
        assert world.issued() == 1
        assert dns.texts("_acme-challenge.wild.example") == set()
        assert dns.secret not in proxy.output


def test_a_ca_for_customers_only_is_told_who_asks(stage: Stage, start_pebble: StartPebble) -> None:
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    world = World(stage, start_pebble, external_accounts={"customer-1": key})
    config = world.deploy()
    proxy = world.start(config)
    proxy.said("certificates can't be had")
    assert "the CA has accounts only for its customers" in proxy.command("list").stdout
    world.deploy(acme={"eab": {"key_id": "customer-1", "hmac_key": key}})
    proxy.send_signal(signal.SIGHUP)
    wait_until("there is a certificate", lambda: world.issued() == 1)
    assert world.get()[0] == 200
    assert key not in proxy.output


def test_plain_http_is_redirected(world: World) -> None:
    proxy = world.start(world.deploy())
    answer = proxy.get("/a?b=c", HOST)
    assert answer.status == 301
    assert answer.get("location") == f"https://{HOST}/a?b=c"


def test_each_host_has_a_certificate_of_its_own(world: World) -> None:
    world.start(world.deploy(host=f"{HOST},{OTHER}"))
    certificates = set()
    for host in (HOST, OTHER):
        with world.connect(host) as wire:
            certificates.add(wire.sock.getpeercert(True))
    assert len(certificates) == 2


def test_a_restart_needs_neither_an_order_nor_the_ca(world: World) -> None:
    config = world.deploy()
    proxy = world.start(config)
    before = world.get()[2]
    assert proxy.stop() == 0
    world.ca.stop()
    world.start(config)
    assert world.get()[2] == before


def test_a_name_that_is_not_served_gets_no_certificate(world: World) -> None:
    world.start(world.deploy())
    world.get()
    with pytest.raises(ssl.SSLError, match=NO_SUCH_NAME):
        world.connect("stranger.example")
    assert world.issued() == 1


@pytest.mark.parametrize("gate", ["pause", "stop"])
def test_a_service_that_is_paused_or_stopped_gets_its_certificate_all_the_same(
    world: World, gate: str
) -> None:
    proxy = world.start(world.deploy(ssl=False), HOST)
    assert proxy.command(gate, "shop-app").returncode == 0
    world.deploy(acme={"challenges": ["http-01"]})
    proxy.send_signal(signal.SIGHUP)
    wait_until("the new configuration is served", lambda: proxy.get("/up", HOST).status == 301)
    with world.connect() as wire:
        assert proxy.command("resume", "shop-app").returncode == 0
        wire.send(request_text(path="/", host=HOST))
        assert wire.read_response().body == b"a page"


def test_a_ca_that_refuses_is_quoted_and_visitors_do_not_wait(
    stage: Stage, start_pebble: StartPebble
) -> None:
    world = World(stage, start_pebble)
    (elsewhere,) = free_ports(1)
    world.ca.stop()
    world.ca = start_pebble(http_port=elsewhere, tls_port=elsewhere)
    proxy = world.start(world.deploy(acme={"challenges": ["http-01"]}))
    proxy.said(f"no certificate for {HOST}")
    with pytest.raises(ssl.SSLError):
        world.connect()
    words = "connection refused"
    assert words in proxy.said(f"no certificate for {HOST}")
    assert words in proxy.command("list").stdout
    (listed,) = json.loads(proxy.command("list", "--json").stdout)["services"]
    (certificate,) = listed["certificates"]
    assert certificate["expires"] is None
    assert certificate["next_try"] is not None
    assert words in certificate["failure"]


def test_a_ca_that_is_down_does_not_stop_the_boot_and_certificates_come_when_it_is_back(
    world: World,
) -> None:
    world.ca.stop()
    proxy = world.start(world.deploy(ssl_redirect=False), HOST)
    proxy.said("certificates can't be had")
    with pytest.raises(ssl.SSLError):
        world.connect()
    assert proxy.get("/", HOST).body == b"a page"
    world.restart_ca()
    # Somebody has put it right, and does not want to wait.
    proxy.send_signal(signal.SIGHUP)
    wait_until("there is a certificate", lambda: world.issued() == 1)
    assert world.get()[0] == 200


def test_the_key_is_for_nobody_elses_eyes(world: World) -> None:
    proxy = world.start(world.deploy())
    world.get()
    (path,) = proxy.state.glob("acme/*/certificates/app.example.pem")
    assert path.stat().st_mode & 0o777 == 0o600
    for folder in (path.parent, *path.parents[1:3]):
        assert folder.stat().st_mode & 0o777 == 0o700
    key = path.read_text().splitlines()[1]
    assert key not in proxy.output
    assert "PRIVATE KEY" not in proxy.output


def allows(*names: str) -> Script:
    """An application that says which names may have a certificate."""

    def script(wire: Wire, request: Request) -> None:
        wire.read_body(request)
        path, _, query = request.target.partition("?")
        refused = path == "/may" and query.removeprefix("host=") not in names
        wire.send(response_text("a page", status="404 Not Found" if refused else "200 OK"))

    return script


def test_a_name_on_demand_is_served_if_the_application_allows_it(world: World) -> None:
    config = world.deploy(allows("shop.example"), host=None, ssl_redirect=False)
    text = config.read_text().replace("x-kproxy:\n", "x-kproxy:\n  tls_on_demand_url: /may\n")
    config.write_text(text)
    proxy = world.start(config)
    wait_until("the service is healthy", lambda: proxy.get("/up", "any.example").status == 200)
    status, body, certificate = world.get("shop.example")
    assert (status, body) == (200, b"a page")
    with pytest.raises(ssl.SSLError, match=NO_SUCH_NAME):
        world.connect("evil.example")
    assert world.issued() == 1
    assert proxy.stop() == 0
    proxy = world.start(config)
    wait_until("the service is healthy", lambda: proxy.get("/up", "any.example").status == 200)
    assert world.get("shop.example")[2] == certificate
    assert world.issued() == 1


def test_after_a_trial_with_a_staging_ca_a_reload_brings_the_real_certificate_and_back(
    world: World, start_pebble: StartPebble
) -> None:
    staging, production = start_pebble(http_port=world.http, tls_port=world.https), world.ca
    world.ca, world.root = staging, staging.root()
    proxy = world.start(world.deploy())
    trial = world.get()[2]
    for ca in (production, staging):
        world.ca, world.root = ca, ca.root()
        world.deploy()
        proxy.send_signal(signal.SIGHUP)
        wait_until("the other CA's certificate is served", lambda: is_trusted(world))
        assert world.get()[0] == 200
        assert world.issued() == 1
    assert world.get()[2] == trial


def is_trusted(world: World) -> bool:
    try:
        world.connect().close()
    except ssl.SSLCertVerificationError:
        return False
    return True


@pytest.mark.slow
def test_a_renewed_certificate_is_served_to_the_next_visitor_and_no_connection_is_dropped(
    stage: Stage, start_pebble: StartPebble
) -> None:
    world = World(stage, start_pebble, certificate_life=42)
    world.start(world.deploy())
    before = world.get()[2]
    with world.connect() as wire:
        wait_until("another certificate is served", lambda: world.get()[2] != before, patience=60)
        wire.send(request_text(path="/", host=HOST))
        assert wire.read_response().body == b"a page"
