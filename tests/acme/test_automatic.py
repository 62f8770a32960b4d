"""Automatic certificates, from a real CA (Debian's ``pebble -strict``)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import Site
from txacme.interfaces import IResponder
from zope.interface import implementer

from kproxy.config.model import Acme, ExternalAccount
from kproxy.snapshot import Certificate
from kproxy.threads import threads_of
from kproxy.tls.acme.automatic import AutomaticCertificates, NoCertificate
from kproxy.tls.acme.store import FolderStore
from tests.support.challenges import ChallengePorts
from tests.support.pebble import Pebble
from tests.support.reactor import Turns

StartPebble = Callable[..., Pebble]
DAY = 86400.0
NAME = "www.example.test"


class Ahead:
    """The reactor, in a world where it is later."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.ahead = 0.0

    def seconds(self) -> float:
        return float(self._reactor.seconds() + self.ahead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class Proxy:
    """What a proxy has of automatic certificates, again and again with the same state."""

    def __init__(self, turns: Turns, folder: Path) -> None:
        self.turns = turns
        self.folder = folder / "acme"
        self.ports = ChallengePorts(turns.reactor)
        self.clock = Ahead(turns.reactor)
        self.published: list[tuple[str, ...]] = []
        self._running: list[AutomaticCertificates] = []

    def start(self, acme: Acme, *names: str, **options: Any) -> AutomaticCertificates:
        """A new process, as it were."""
        in_thread = threads_of(self.turns.reactor)
        folder = options.pop("folder", self.folder)

        def changed() -> None:
            self.published.append(automatic.names())

        automatic = AutomaticCertificates(acme, folder, self.clock, in_thread, changed, **options)
        self._running.append(automatic)
        self.ports.automatic = automatic
        automatic.want(names)
        automatic.start()
        return automatic

    def obtain(self, automatic: AutomaticCertificates, *names: str) -> list[Certificate]:
        self.turns.run(gatherResults([automatic.obtain(name) for name in names]))
        found = [automatic.certificate(name) for name in names]
        return [certificate for certificate in found if certificate is not None]

    def why_not(self, automatic: AutomaticCertificates, name: str) -> str:
        """Why it can't be had."""
        with pytest.raises(NoCertificate) as refused:
            self.turns.run(automatic.obtain(name))
        return str(refused.value)

    def wait(self, until: Callable[[], bool]) -> None:
        """Turn the reactor until something is so."""

        async def look() -> None:
            while not until():
                await deferLater(self.turns.reactor, 0.02)

        self.turns.run(look())

    def stop(self) -> None:
        for automatic in self._running:
            self.turns.run(automatic.stop())
        self._running = []

    def close(self) -> None:
        self.stop()
        self.turns.run(self.ports.close())


@pytest.fixture
def proxy(turns: Turns, tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(turns, tmp_path)
    yield proxy
    proxy.close()


@pytest.fixture
def start_ca(start_pebble: StartPebble, proxy: Proxy) -> StartPebble:
    """A function that starts a CA which looks at the proxy's ports."""

    def start(**options: Any) -> Pebble:
        return start_pebble(http_port=proxy.ports.http, tls_port=proxy.ports.tls, **options)

    return start


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What goes to the log, as text."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(repr(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def acme_of(ca: Pebble, **options: Any) -> Acme:
    return Acme(directory=ca.directory, ca_file=ca.ca_file, **options)


def names_of(certificate: Certificate) -> list[str]:
    leaf = x509.load_pem_x509_certificate(certificate.chain.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def issued(ca: Pebble) -> int:
    """How many certificates the CA has issued."""
    return ca.log().count("Issued certificate serial")


def ordered(ca: Pebble) -> int:
    """How many orders it has taken; a nonce that it refused does not count."""
    return ca.log().count("Added order")


class Application(Resource):
    """Says which names may have a certificate."""

    isLeaf = True

    def __init__(self, *allowed: str) -> None:
        super().__init__()
        self.allowed = set(allowed)
        self.asked: list[str] = []

    def render_GET(self, request: Any) -> bytes:
        self.asked.append(request.uri.decode())
        if request.args[b"host"][0].decode() not in self.allowed:
            request.setResponseCode(404)
        return b"whatever"


@pytest.fixture
def application(turns: Turns) -> Iterator[Callable[..., tuple[Application, str]]]:
    """A function that starts an application; it returns it, and the URL that it is asked at."""
    ports = []

    def start(*allowed: str) -> tuple[Application, str]:
        application = Application(*allowed)
        ports.append(turns.reactor.listenTCP(0, Site(application), interface="127.0.0.1"))
        return application, f"http://127.0.0.1:{ports[-1].getHost().port}/may?have=certificate"

    yield start
    turns.run(gatherResults([port.stopListening() for port in ports]))


# Issuing.


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_a_certificate_is_issued_by(start_ca: StartPebble, proxy: Proxy, challenge: str) -> None:
    automatic = proxy.start(acme_of(start_ca(), challenges=(challenge,)), NAME)
    (certificate,) = proxy.obtain(automatic, NAME)
    assert names_of(certificate) == [NAME]
    leaf = x509.load_pem_x509_certificate(certificate.chain.encode())
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert {seen.split()[0] for seen in proxy.ports.seen} == {challenge}
    assert automatic.http_challenges() == automatic.tls_challenges() == ()
    status = automatic.status(NAME)
    assert (status.expires, status.failure) == (leaf.not_valid_after_utc, "")


@implementer(IResponder)
class TXTRecords:
    """DNS-01, by the DNS that the CA asks."""

    challenge_type = "dns-01"

    def __init__(self, ca: Pebble) -> None:
        self._ca = ca

    def start_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        digest = sha256(response.key_authorization.encode()).digest()
        value = urlsafe_b64encode(digest).rstrip(b"=").decode()
        self._ca.set_txt(f"_acme-challenge.{server_name}", value)
        return succeed(None)

    def stop_responding(self, server_name: str, challenge: Any, response: Any) -> None:
        self._ca.clear_txt(f"_acme-challenge.{server_name}")


def test_a_wildcard_is_had_by_dns_and_other_names_by_what_is_configured(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca()
    automatic = proxy.start(acme_of(ca), "*.example.test", NAME, dns=TXTRecords(ca))
    found = proxy.obtain(automatic, "*.example.test", NAME)
    assert [names_of(each) for each in found] == [["*.example.test"], [NAME]]
    assert {seen.split()[0] for seen in proxy.ports.seen} == {"http-01"}
    proxy.stop()
    again = proxy.start(acme_of(ca), "*.example.test", NAME, dns=TXTRecords(ca))
    assert proxy.obtain(again, "*.example.test", NAME) == found


def test_each_of_several_hosts_gets_a_certificate_of_its_own_without_being_asked_for(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca()
    names = [f"host-{number}.example.test" for number in range(6)]
    automatic = proxy.start(acme_of(ca), *names)
    proxy.wait(lambda: all(automatic.certificate(name) for name in names))
    for name in names:
        certificate = automatic.certificate(name)
        assert certificate is not None
        assert names_of(certificate) == [name]
    assert issued(ca) == 6


def test_visitors_who_come_at_once_wait_for_the_same_order(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca()
    automatic = proxy.start(acme_of(ca), NAME)
    certificates = proxy.obtain(automatic, *[NAME] * 5)
    assert len(set(certificates)) == 1
    assert ordered(ca) == 1


def test_a_visitor_who_leaves_does_not_take_the_order_along(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    automatic = proxy.start(acme_of(start_ca()), NAME)
    impatient = automatic.obtain(NAME)
    impatient.addErrback(lambda _: None)
    impatient.cancel()
    proxy.wait(lambda: automatic.certificate(NAME) is not None)


def test_a_second_kind_of_challenge_is_tried_when_the_first_failed(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    automatic = proxy.start(acme_of(start_ca()), NAME)
    proxy.ports.wrong = True
    assert "www.example.test" in proxy.why_not(automatic, NAME)
    proxy.clock.ahead += 70
    proxy.obtain(automatic, NAME)
    assert [seen.split()[0] for seen in proxy.ports.seen[-1:]] == ["tls-alpn-01"]


def test_names_that_are_not_wanted_any_more_are_forgotten(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    automatic = proxy.start(acme_of(start_ca()), NAME)
    proxy.obtain(automatic, NAME)
    automatic.want([])
    assert automatic.names() == ()
    assert automatic.certificate(NAME) is None
    assert "not one of ours" in proxy.why_not(automatic, NAME)


# Keeping.


def test_a_restart_needs_neither_a_new_order_nor_the_ca(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca()
    names = [f"host-{number}.example.test" for number in range(3)]
    before = proxy.obtain(proxy.start(acme_of(ca), *names), *names)
    proxy.stop()
    ca.stop()
    assert proxy.obtain(proxy.start(acme_of(ca), *names), *names) == before


def test_a_name_that_comes_back_needs_no_new_order(start_ca: StartPebble, proxy: Proxy) -> None:
    ca = start_ca()
    automatic = proxy.start(acme_of(ca), NAME)
    before = proxy.obtain(automatic, NAME)
    automatic.want([])
    automatic.want([NAME])
    assert proxy.obtain(automatic, NAME) == before
    assert ordered(ca) == 1


def test_the_account_survives_a_restart(start_ca: StartPebble, proxy: Proxy) -> None:
    ca = start_ca()
    acme = acme_of(ca, email="ops@example.test")
    proxy.obtain(proxy.start(acme, NAME), NAME)
    proxy.stop()
    proxy.obtain(proxy.start(acme, "other.example.test"), "other.example.test")
    assert issued(ca) == 2
    assert "There are now 1 accounts" in ca.log()
    assert "There are now 2 accounts" not in ca.log()


def test_an_account_that_the_ca_has_forgotten_is_made_again(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca()
    automatic = proxy.start(acme_of(ca), NAME)
    proxy.obtain(automatic, NAME)
    ca.stop()
    ca.start()
    automatic.want([NAME, "other.example.test"])
    assert "account" in proxy.why_not(automatic, "other.example.test").lower()
    proxy.clock.ahead += 70
    proxy.obtain(automatic, "other.example.test")


def test_only_the_owner_can_look_at_what_is_kept(start_ca: StartPebble, proxy: Proxy) -> None:
    proxy.folder.mkdir(mode=0o755)
    proxy.obtain(proxy.start(acme_of(start_ca()), NAME), NAME)
    proxy.stop()
    found = [proxy.folder, *proxy.folder.rglob("*")]
    modes = {oct(path.stat().st_mode & 0o777) for path in found if path.is_dir()}
    assert modes == {"0o700"}
    files = {path.name: path.stat().st_mode & 0o777 for path in found if path.is_file()}
    assert files == {f"{NAME}.pem": 0o600, "account.json": 0o600}


def test_two_cas_do_not_see_each_others_certificates(start_ca: StartPebble, proxy: Proxy) -> None:
    staging, production = start_ca(), start_ca()
    (first,) = proxy.obtain(proxy.start(acme_of(staging), NAME), NAME)
    proxy.stop()
    (second,) = proxy.obtain(proxy.start(acme_of(production), NAME), NAME)
    assert first != second
    assert issued(staging) == issued(production) == 1


def test_two_servers_that_share_a_store_place_one_order(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca(authorization_reuse=0)
    one = proxy.start(acme_of(ca, challenges=("http-01",)))
    two = proxy.start(acme_of(ca, challenges=("http-01",)))

    class Both:
        """Whichever of them the CA meets."""

        def http_challenges(self) -> Any:
            return one.http_challenges() + two.http_challenges()

    proxy.ports.automatic = Both()
    for each in (one, two):
        each.want([NAME])
    proxy.turns.run(gatherResults([one.obtain(NAME), two.obtain(NAME)]))
    assert one.certificate(NAME) == two.certificate(NAME)
    assert ordered(ca) == 1


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_a_ca_that_looks_at_another_server_that_shares_the_store_finds_the_challenge(
    start_ca: StartPebble, proxy: Proxy, tmp_path: Path, challenge: str
) -> None:
    acme = acme_of(start_ca(), challenges=(challenge,))

    def server(name: str) -> AutomaticCertificates:
        in_thread = threads_of(proxy.turns.reactor)
        store = FolderStore(tmp_path / "shared", acme.directory, proxy.turns.reactor, in_thread)
        return proxy.start(acme, folder=tmp_path / name, shared=store)

    one, two = server("one"), server("two")
    proxy.ports.automatic = two
    one.want([NAME])
    (certificate,) = proxy.obtain(one, NAME)
    assert names_of(certificate) == [NAME]
    assert len(proxy.ports.seen) >= 1
    two.want([NAME])
    assert proxy.obtain(two, NAME) == [certificate]
    proxy.wait(lambda: two.http_challenges() == two.tls_challenges() == ())


def test_no_private_key_reaches_the_log(
    start_ca: StartPebble, proxy: Proxy, logged: list[str]
) -> None:
    automatic = proxy.start(acme_of(start_ca()), NAME)
    proxy.ports.wrong = True
    proxy.why_not(automatic, NAME)
    proxy.ports.wrong = False
    proxy.clock.ahead += 70
    (certificate,) = proxy.obtain(automatic, NAME)
    account = json.loads(next(proxy.folder.glob("*/account.json")).read_text())["key"]
    text = "\n".join(logged) + repr(certificate) + repr(automatic)
    assert NAME in text
    assert "PRIVATE KEY" not in text
    for key in (certificate.key, account):
        assert key.splitlines()[1] not in text


# Renewing.


def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca()
    automatic = proxy.start(acme_of(ca), NAME, random=lambda: 0.0)
    (old,) = proxy.obtain(automatic, NAME)
    leaf = x509.load_pem_x509_certificate(old.chain.encode())
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    due = automatic.status(NAME).next_try
    assert due is not None
    assert abs((due - (begins + (ends - begins) * 2 / 3)).total_seconds()) < 1
    proxy.published.clear()
    proxy.clock.ahead = due.timestamp() - proxy.turns.reactor.seconds() - DAY
    automatic.want([NAME])
    assert proxy.obtain(automatic, NAME) == [old]
    assert issued(ca) == 1
    proxy.clock.ahead += DAY
    automatic.want([NAME])
    proxy.wait(lambda: automatic.certificate(NAME) != old)
    new = automatic.certificate(NAME)
    assert new is not None
    assert names_of(new) == [NAME]
    assert key_of(new) != key_of(old)
    assert proxy.published[-1] == (NAME,)
    assert issued(ca) == 2


def test_a_renewed_certificate_takes_the_place_of_the_old_one_in_the_store(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca()
    automatic = proxy.start(acme_of(ca), NAME)
    (old,) = proxy.obtain(automatic, NAME)
    proxy.clock.ahead = 1700 * DAY
    automatic.want([NAME])
    proxy.wait(lambda: automatic.certificate(NAME) != old)
    new = automatic.certificate(NAME)
    proxy.stop()
    proxy.clock.ahead = 0
    assert proxy.obtain(proxy.start(acme_of(ca), NAME), NAME) == [new]


def test_the_old_certificate_serves_until_the_new_one_is_there(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca()
    automatic = proxy.start(acme_of(ca), NAME)
    (old,) = proxy.obtain(automatic, NAME)
    ca.stop()
    proxy.clock.ahead = 1700 * DAY
    automatic.want([NAME])
    proxy.wait(lambda: automatic.status(NAME).failure != "")
    assert proxy.obtain(automatic, NAME) == [old]


def test_a_certificate_is_renewed_when_the_ca_wishes_it(
    start_ca: StartPebble, proxy: Proxy, pebble_with_ari: str
) -> None:
    ca = start_ca(command=pebble_with_ari)
    automatic = proxy.start(acme_of(ca), NAME, random=lambda: 0.0)
    (old,) = proxy.obtain(automatic, NAME)
    leaf = x509.load_pem_x509_certificate(old.chain.encode())
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    # It begins the day before what would be our own choice.
    usual_window = begins + (ends - begins) * 2 / 3 - timedelta(days=1)

    def is_due_when_the_usual_window_begins() -> bool:
        due = automatic.status(NAME).next_try
        return due is not None and abs((due - usual_window).total_seconds()) < 2

    proxy.wait(is_due_when_the_usual_window_begins)
    ca.set_renewal_window(old.chain, begins, begins + timedelta(hours=1))
    proxy.clock.ahead = DAY
    automatic.want([NAME])
    proxy.wait(lambda: automatic.certificate(NAME) != old)
    assert issued(ca) == 2
    assert "is a replacement of" in ca.log()


def test_a_clock_that_is_years_ahead_does_not_make_orders_follow_each_other(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca()
    proxy.clock.ahead = 4000 * DAY
    automatic = proxy.start(acme_of(ca), NAME)
    proxy.obtain(automatic, NAME)
    proxy.obtain(automatic, NAME)
    automatic.want([NAME])
    assert proxy.obtain(automatic, NAME)
    assert ordered(ca) == 1


def key_of(certificate: Certificate) -> bytes:
    key = serialization.load_pem_private_key(certificate.key.encode(), None)
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


# Failing.


def test_a_ca_that_is_down_is_left_alone_for_a_while(start_ca: StartPebble, proxy: Proxy) -> None:
    ca = start_ca()
    ca.stop()
    automatic = proxy.start(acme_of(ca), NAME, "other.example.test")
    why = proxy.why_not(automatic, NAME)
    ca.start()
    assert proxy.why_not(automatic, NAME) == why
    assert proxy.why_not(automatic, "other.example.test") == why
    status = automatic.status("other.example.test")
    assert (status.failure, status.expires) == (why, None)
    assert status.next_try is not None
    assert 55 < status.next_try.timestamp() - proxy.clock.seconds() < 70
    assert "GET /dir" not in ca.log()
    proxy.clock.ahead += 70
    proxy.obtain(automatic, NAME, "other.example.test")
    assert automatic.status(NAME).failure == ""


def test_what_failed_is_remembered_across_a_restart(start_ca: StartPebble, proxy: Proxy) -> None:
    ca = start_ca()
    proxy.ports.wrong = True
    acme = acme_of(ca, challenges=("http-01",))
    automatic = proxy.start(acme, NAME)
    why = proxy.why_not(automatic, NAME)
    status = automatic.status(NAME)
    proxy.stop()
    proxy.ports.wrong = False
    again = proxy.start(acme, NAME)
    assert proxy.why_not(again, NAME) == why
    assert again.status(NAME) == status
    assert ordered(ca) == 1


def test_a_ca_that_refuses_is_quoted(
    start_ca: StartPebble, proxy: Proxy, logged: list[str]
) -> None:
    proxy.ports.wrong = True
    automatic = proxy.start(acme_of(start_ca(), challenges=("http-01",)), NAME)
    why = proxy.why_not(automatic, NAME)
    assert "The key authorization file from the server did not match this challenge" in why
    assert automatic.status(NAME).failure == why
    assert any(why in line for line in logged)


def test_a_name_that_fails_does_not_keep_others_from_getting_theirs(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca()
    automatic = proxy.start(acme_of(ca), "*.example.test", NAME)
    assert "dns-01" in proxy.why_not(automatic, "*.example.test")
    proxy.obtain(automatic, NAME)


def test_an_operator_need_not_wait_for_another_try(start_ca: StartPebble, proxy: Proxy) -> None:
    proxy.ports.wrong = True
    automatic = proxy.start(acme_of(start_ca(), challenges=("http-01",)), NAME)
    proxy.why_not(automatic, NAME)
    proxy.ports.wrong = False
    automatic.retry(NAME)
    proxy.obtain(automatic, NAME)


def test_a_folder_that_cannot_be_had_is_said_and_no_ca_is_asked(
    start_ca: StartPebble, proxy: Proxy
) -> None:
    ca = start_ca()
    proxy.folder.write_text("in the way")
    automatic = proxy.start(acme_of(ca), NAME)
    assert "certificates can't be read" in proxy.why_not(automatic, NAME)
    assert "GET /dir" not in ca.log()


# Accounts for customers only.


def test_a_ca_that_wants_customers_refuses_others(start_ca: StartPebble, proxy: Proxy) -> None:
    ca = start_ca(
        nonce_reject=0,
        external_accounts={
            "kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
        },
    )
    names = [f"host-{number}.example.test" for number in range(8)]
    automatic = proxy.start(acme_of(ca), *names)
    assert "customers" in proxy.why_not(automatic, names[0])
    # Nobody else has tried, though eight names wait.
    assert {automatic.status(name).failure for name in names} == {
        automatic.status(names[0]).failure
    }
    assert ordered(ca) == 0
    asked = ca.log().count("POST /sign-me-up")
    proxy.why_not(automatic, names[7])
    assert ca.log().count("POST /sign-me-up") == asked


def test_a_binding_is_tried_at_once_after_it_was_put_right(
    start_ca: StartPebble, proxy: Proxy, logged: list[str]
) -> None:
    right = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    wrong = "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH"
    ca = start_ca(external_accounts={"kid-1": right})
    automatic = proxy.start(acme_of(ca, eab=ExternalAccount("kid-1", wrong)), NAME)
    assert proxy.why_not(automatic, NAME)
    proxy.stop()
    automatic = proxy.start(acme_of(ca, eab=ExternalAccount("kid-1", right)), NAME)
    proxy.obtain(automatic, NAME)
    proxy.stop()
    text = "\n".join(logged) + "".join(
        path.read_text() for path in proxy.folder.rglob("*") if path.is_file()
    )
    assert right not in text
    assert wrong not in text


# On demand.


def test_a_name_that_the_application_allows_gets_a_certificate_on_demand(
    start_ca: StartPebble, proxy: Proxy, application: Callable[..., tuple[Application, str]]
) -> None:
    asked, url = application("shop.example.test")
    ca = start_ca()
    automatic = proxy.start(acme_of(ca), on_demand_url=lambda name: url)
    (certificate, *_) = proxy.obtain(automatic, *["shop.example.test"] * 3)
    assert names_of(certificate) == ["shop.example.test"]
    assert asked.asked == ["/may?have=certificate&host=shop.example.test"]
    assert automatic.names() == ("shop.example.test",)
    assert ordered(ca) == 1


def test_a_name_that_the_application_does_not_allow_gets_none(
    start_ca: StartPebble, proxy: Proxy, application: Callable[..., tuple[Application, str]]
) -> None:
    asked, url = application("shop.example.test")
    ca = start_ca()
    automatic = proxy.start(acme_of(ca), on_demand_url=lambda name: url)
    for _ in range(3):
        assert "does not allow" in proxy.why_not(automatic, "other.example.test")
    assert asked.asked == ["/may?have=certificate&host=other.example.test"]
    assert automatic.names() == ()
    assert "GET /dir" not in ca.log()


def test_a_certificate_had_on_demand_survives_a_restart_without_asking(
    start_ca: StartPebble, proxy: Proxy, application: Callable[..., tuple[Application, str]]
) -> None:
    asked, url = application("shop.example.test")
    ca = start_ca()
    options = {"on_demand_url": lambda name: url}
    before = proxy.obtain(proxy.start(acme_of(ca), **options), "shop.example.test")
    proxy.stop()
    again = proxy.start(acme_of(ca), **options)
    assert again.names() == ()
    assert proxy.obtain(again, "shop.example.test") == before
    assert proxy.published[-1] == again.names() == ("shop.example.test",)
    assert len(asked.asked) == 1


def test_a_name_that_is_not_allowed_any_more_is_not_renewed(
    start_ca: StartPebble, proxy: Proxy, application: Callable[..., tuple[Application, str]]
) -> None:
    asked, url = application("shop.example.test")
    ca = start_ca()
    automatic = proxy.start(acme_of(ca), on_demand_url=lambda name: url)
    proxy.obtain(automatic, "shop.example.test")
    asked.allowed.clear()
    proxy.clock.ahead = 1700 * DAY
    automatic.want([])
    proxy.wait(lambda: automatic.names() == ())
    assert len(asked.asked) == 2
    assert proxy.published[-1] == ()
    assert ordered(ca) == 1


def test_an_on_demand_name_that_fails_is_not_tried_again_at_once(
    start_ca: StartPebble, proxy: Proxy, application: Callable[..., tuple[Application, str]]
) -> None:
    _, url = application("shop.example.test")
    ca = start_ca()
    proxy.ports.wrong = True
    acme = acme_of(ca, challenges=("http-01",))
    automatic = proxy.start(acme, on_demand_url=lambda name: url)
    why = proxy.why_not(automatic, "shop.example.test")
    assert proxy.why_not(automatic, "shop.example.test") == why
    assert automatic.status("shop.example.test").failure == why
    assert ordered(ca) == 1
