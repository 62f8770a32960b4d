"""The ACME client against a real CA (Debian's ``pebble -strict``), which refuses every fifth nonce."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import Site

from kproxy.config.model import ExternalAccount
from kproxy.tls.acme.client import AcmeClient, Limits
from kproxy.tls.acme.dns01 import record_name, record_value
from kproxy.tls.acme.errors import (
    ACCOUNT_DOES_NOT_EXIST,
    EXTERNAL_ACCOUNT_REQUIRED,
    URN,
    AcmeError,
    ChallengeFailed,
    Unreachable,
)
from kproxy.tls.acme.jws import AccountKey
from kproxy.tls.acme.keys import new_key
from kproxy.tls.acme.responders import HTTPResponder, TLSResponder
from tests.support.certificates import Authority
from tests.support.challenges import ChallengePorts
from tests.support.pebble import Pebble
from tests.support.reactor import Turns

HMAC_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


class Asker:
    """Somebody who wants certificates, with ports where a CA finds answers to its challenges."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.run = turns.run
        self.http = HTTPResponder(lambda: None)
        self.tls = TLSResponder(lambda: None, lambda: datetime.now(timezone.utc))
        self.ports = ChallengePorts(turns.reactor)
        self.ports.automatic = SimpleNamespace(
            http_challenges=self.http.challenges, tls_challenges=self.tls.challenges
        )
        self._clients: list[AcmeClient] = []

    def client(self, ca: Pebble, key: AccountKey | None = None, **options: Any) -> AcmeClient:
        client = AcmeClient(
            ca.directory,
            key or AccountKey.generate(),
            reactor=self.turns.reactor,
            **{"ca_file": ca.ca_file, **options},
        )
        self._clients.append(client)
        return client

    def registered(self, ca: Pebble, **options: Any) -> AcmeClient:
        client = self.client(ca, **options)
        self.run(client.account())
        return client

    def close(self) -> None:
        for client in self._clients:
            self.run(client.close())
        self.run(self.ports.close())


class TXT:
    """A DNS-01 responder for the CA's own idea of the DNS."""

    challenge_type = "dns-01"

    def __init__(self, ca: Pebble) -> None:
        self.ca = ca
        self.started: list[str] = []
        self.stopped: list[str] = []

    def start_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        self.started.append(server_name)
        self.ca.set_txt(record_name(server_name), record_value(response))
        return succeed(None)

    def stop_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        self.stopped.append(server_name)
        return succeed(None)


class Silent(TXT):
    """One that never gets ready; it notices when it is cancelled."""

    cancelled = False

    def start_responding(self, server_name: str, challenge: Any, response: Any) -> Deferred[None]:
        self.started.append(server_name)

        def cancel(_: object) -> None:
            self.cancelled = True

        return Deferred(cancel)


@pytest.fixture
def asker(turns: Turns) -> Iterator[Asker]:
    asker = Asker(turns)
    yield asker
    asker.close()


@pytest.fixture
def start_ca(start_pebble: Callable[..., Pebble], asker: Asker) -> Callable[..., Pebble]:
    """A function that starts a CA which looks at the asker's ports."""

    def start(**options: Any) -> Pebble:
        return start_pebble(http_port=asker.ports.http, tls_port=asker.ports.tls, **options)

    return start


StartCA = Callable[..., Pebble]


def request_for(names: Sequence[str], key: Any = None) -> bytes:
    """A CSR in DER."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
        .sign(key or new_key(), hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def names_in(chain: str) -> set[str]:
    leaf = x509.load_pem_x509_certificates(chain.encode())[0]
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(found.get_values_for_type(x509.DNSName))


def common_name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


@pytest.mark.parametrize("kind", ["http", "tls"])
def test_one_certificate_for_several_names_by(start_ca: StartCA, asker: Asker, kind: str) -> None:
    client = asker.registered(start_ca())
    responder = getattr(asker, kind)
    names, key = ["a.example", "b.example"], new_key()
    chain = asker.run(client.issue(names, request_for(names, key), [responder]))
    assert names_in(chain) == set(names)
    leaf, issuer = x509.load_pem_x509_certificates(chain.encode())
    assert leaf.public_key() == key.public_key()
    leaf.verify_directly_issued_by(issuer)
    assert len(asker.ports.seen) >= 2, "the CA did look"
    assert responder.challenges() == (), "nothing is left behind"


def test_a_host_and_its_wildcard_by_dns_01(start_ca: StartCA, asker: Asker) -> None:
    ca = start_ca()
    responder = TXT(ca)
    names = ["shop.example", "*.shop.example"]
    chain = asker.run(asker.registered(ca).issue(names, request_for(names), [responder]))
    assert names_in(chain) == set(names)
    assert responder.started == responder.stopped == ["shop.example"] * 2


def test_the_first_responder_is_used_whose_challenge_the_ca_offers(
    start_ca: StartCA, asker: Asker
) -> None:
    ca = start_ca()
    dns = TXT(ca)
    client = asker.registered(ca)
    for name, used in (("a.example", []), ("*.a.example", ["a.example"])):
        # For a wildcard, a CA offers nothing but dns-01.
        asker.run(client.issue([name], request_for([name]), [asker.http, dns, asker.tls]))
        assert dns.started == used
    assert {seen.split()[0] for seen in asker.ports.seen} == {"http-01"}


def test_a_name_that_nobody_can_answer_for_is_refused_before_the_ca_looks(
    start_ca: StartCA, asker: Asker
) -> None:
    ca = start_ca()
    names = ["*.a.example", "b.example"]
    with pytest.raises(ChallengeFailed) as refused:
        asker.run(asker.registered(ca).issue(names, request_for(names), [asker.http]))
    assert refused.value.subproblems == (("*.a.example", "the CA offers dns-01; set up: http-01"),)
    assert asker.ports.seen == []
    assert "validations" not in ca.log()


def test_bad_nonces_are_tried_again(start_ca: StartCA, asker: Asker) -> None:
    ca = start_ca(nonce_reject=35)
    chain = asker.run(
        asker.registered(ca).issue(["a.example"], request_for(["a.example"]), [asker.http])
    )
    assert names_in(chain) == {"a.example"}


def test_a_ca_that_takes_no_nonce_is_given_up(start_ca: StartCA, asker: Asker) -> None:
    with pytest.raises(AcmeError) as refused:
        asker.run(asker.client(start_ca(nonce_reject=100)).account())
    assert refused.value.type == f"{URN}badNonce"


def test_names_that_are_validated_already_need_no_challenge(
    start_ca: StartCA, asker: Asker
) -> None:
    client = asker.registered(start_ca(authorization_reuse=100))
    asker.run(client.issue(["a.example"], request_for(["a.example"]), [asker.http]))
    chain = asker.run(client.issue(["a.example"], request_for(["a.example"]), []))
    assert names_in(chain) == {"a.example"}


def test_a_wrong_answer_fails_with_the_cas_own_words_for_each_name(
    start_ca: StartCA, asker: Asker
) -> None:
    ca = start_ca()
    asker.ports.wrong = True
    names = ["a.example", "b.example"]
    with pytest.raises(ChallengeFailed) as refused:
        asker.run(asker.registered(ca).issue(names, request_for(names), [asker.http]))
    assert sorted(name for name, _ in refused.value.subproblems) == names
    for name, words in refused.value.subproblems:
        assert "(unauthorized)" in words
        assert f"{name}: {words}" in str(refused.value)
    assert asker.http.challenges() == ()


def test_a_failure_of_one_name_says_nothing_of_the_others(start_ca: StartCA, asker: Asker) -> None:
    ca = start_ca()
    names = ["a.example", "*.b.example"]

    class Wrong(TXT):
        def start_responding(self, *_: Any) -> Deferred[None]:
            self.ca.set_txt(record_name("b.example"), "wrong")
            return succeed(None)

    with pytest.raises(ChallengeFailed) as refused:
        asker.run(asker.registered(ca).issue(names, request_for(names), [asker.http, Wrong(ca)]))
    assert [name for name, _ in refused.value.subproblems] == ["*.b.example"]


def test_an_account_is_found_again_by_its_key(start_ca: StartCA, asker: Asker) -> None:
    ca = start_ca()
    key = AccountKey.generate()
    first = asker.run(asker.client(ca, key).account("a@example.com"))
    again = AccountKey.from_pem(key.to_pem())
    assert asker.run(asker.client(ca, again).account("b@example.com")) == first
    assert asker.run(asker.client(ca).account()) != first


def test_an_account_that_the_caller_kept_needs_no_asking(start_ca: StartCA, asker: Asker) -> None:
    ca = start_ca()
    first = asker.registered(ca)
    asked = ca.log().count("sign-me-up")
    client = asker.client(ca, first.key, account_url=first.account_url)
    asker.run(client.issue(["a.example"], request_for(["a.example"]), [asker.http]))
    assert ca.log().count("sign-me-up") == asked


def test_an_account_that_the_ca_forgot_is_told(start_ca: StartCA, asker: Asker) -> None:
    ca = start_ca()
    first = asker.registered(ca)
    ca.stop()
    ca.start()
    client = asker.client(ca, first.key, account_url=first.account_url)
    request = request_for(["a.example"])
    with pytest.raises(AcmeError) as refused:
        asker.run(client.issue(["a.example"], request, [asker.http]))
    assert refused.value.type == ACCOUNT_DOES_NOT_EXIST
    asker.run(client.account())
    assert asker.run(client.issue(["a.example"], request, [asker.http]))


def test_without_an_account_nothing_is_asked(start_ca: StartCA, asker: Asker) -> None:
    client = asker.client(start_ca())
    with pytest.raises(AcmeError) as refused:
        asker.run(client.issue(["a.example"], request_for(["a.example"]), [asker.http]))
    assert refused.value.type == ACCOUNT_DOES_NOT_EXIST


def test_a_contact_that_the_ca_does_not_take_is_told_in_its_words(
    start_ca: StartCA, asker: Asker
) -> None:
    with pytest.raises(AcmeError, match=r"\((invalidContact|unsupportedContact|malformed)\)$"):
        asker.run(asker.client(start_ca()).account("two@example.com,three@example.com?x=y"))


def test_the_terms_of_service_can_be_read_before_they_are_agreed_to(
    start_ca: StartCA, asker: Asker
) -> None:
    assert asker.run(asker.client(start_ca()).terms_of_service()).startswith("data:text/plain")


class TestACAForCustomers:
    def test_an_account_is_bound_to_that_of_the_customer(
        self, start_ca: StartCA, asker: Asker
    ) -> None:
        ca = start_ca(external_accounts={"kid-1": HMAC_KEY})
        client = asker.client(ca)
        url = asker.run(client.account("a@example.com", ExternalAccount("kid-1", HMAC_KEY)))
        # It is needed once: the account is there now.
        assert asker.run(asker.client(ca, client.key).account()) == url
        assert asker.run(client.issue(["a.example"], request_for(["a.example"]), [asker.http]))

    def test_without_such_an_account_the_error_says_what_to_set(
        self, start_ca: StartCA, asker: Asker
    ) -> None:
        ca = start_ca(external_accounts={"kid-1": HMAC_KEY})
        with pytest.raises(AcmeError, match=r"acme\.eab") as refused:
            asker.run(asker.client(ca).account())
        assert refused.value.type == EXTERNAL_ACCOUNT_REQUIRED

    @pytest.mark.parametrize(("key_id", "key"), [("kid-2", HMAC_KEY), ("kid-1", "c2VjcmV0")])
    def test_a_wrong_key_is_refused_and_not_quoted(
        self, start_ca: StartCA, asker: Asker, key_id: str, key: str
    ) -> None:
        ca = start_ca(external_accounts={"kid-1": HMAC_KEY})
        with pytest.raises(AcmeError) as refused:
            asker.run(asker.client(ca).account(eab=ExternalAccount(key_id, key)))
        assert refused.value.status in (400, 401, 403)
        assert key not in str(refused.value)


def test_a_certificate_is_revoked_and_once_more_does_no_harm(
    start_ca: StartCA, asker: Asker
) -> None:
    ca = start_ca()
    client = asker.registered(ca)
    chain = asker.run(client.issue(["a.example"], request_for(["a.example"]), [asker.http]))
    assert ca.status(chain) == "Valid"
    asker.run(client.revoke(chain, 4))
    assert ca.status(chain) == "Revoked"
    asker.run(client.revoke(chain))


def test_a_certificate_of_somebody_else_can_not_be_revoked(start_ca: StartCA, asker: Asker) -> None:
    with pytest.raises(AcmeError) as refused:
        asker.run(asker.registered(start_ca()).revoke(Authority().issue("a.example").chain))
    assert refused.value.status >= 400


def test_of_several_chains_the_preferred_one_is_taken(start_ca: StartCA, asker: Asker) -> None:
    ca = start_ca(alternate_roots=2)
    client = asker.registered(ca)
    roots = [x509.load_pem_x509_certificate(ca.root(number).encode()) for number in range(3)]
    for wanted, expected in (
        (None, roots[0]),
        (common_name(roots[2].subject), roots[2]),
        ("Nobody", roots[0]),
    ):
        issued = client.issue(
            ["a.example"], request_for(["a.example"]), [asker.http], preferred_chain=wanted
        )
        chain = x509.load_pem_x509_certificates(asker.run(issued).encode())
        chain[-1].verify_directly_issued_by(expected)


def test_a_csr_for_other_names_than_those_of_the_order_is_refused(
    start_ca: StartCA, asker: Asker
) -> None:
    client = asker.registered(start_ca())
    with pytest.raises(AcmeError) as refused:
        asker.run(client.issue(["a.example"], request_for(["b.example"]), [asker.http]))
    assert refused.value.status >= 400


def test_a_name_that_the_ca_does_not_serve_is_refused_in_its_words(
    start_ca: StartCA, asker: Asker
) -> None:
    client = asker.registered(start_ca())
    with pytest.raises(AcmeError, match="malformed") as refused:
        asker.run(client.issue(["not a name"], request_for(["a.example"]), [asker.http]))
    assert refused.value.type == f"{URN}malformed"


def test_this_ca_has_no_renewal_information(start_ca: StartCA, asker: Asker) -> None:
    ca = start_ca()
    client = asker.registered(ca)
    request = request_for(["a.example"])
    chain = asker.run(client.issue(["a.example"], request, [asker.http]))
    assert asker.run(client.renewal_window(chain)) is None
    # So a renewal does not speak of it either, which a strict CA would refuse.
    assert asker.run(client.issue(["a.example"], request, [asker.http], replaces=chain))


class TestACAThatIsNotThere:
    def test_nobody_listens(self, turns: Turns, asker: Asker, start_ca: StartCA) -> None:
        ca = start_ca()
        ca.stop()
        client = asker.client(ca)
        with pytest.raises(Unreachable, match=rf"^localhost:{ca.port} can't be reached: .*refused"):
            asker.run(client.account())
        ca.start()
        asker.run(client.account())
        assert asker.run(client.issue(["a.example"], request_for(["a.example"]), [asker.http]))

    def test_its_name_is_unknown(self, turns: Turns) -> None:
        client = AcmeClient("https://ca.invalid/dir", AccountKey.generate(), reactor=turns.reactor)
        with pytest.raises(Unreachable, match=r"^ca\.invalid can't be reached: "):
            turns.run(client.account())

    def test_it_never_answers(self, turns: Turns) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = AcmeClient(
                f"https://127.0.0.1:{listener.getsockname()[1]}/dir",
                AccountKey.generate(),
                reactor=turns.reactor,
                limits=Limits(request=0.2),
            )
            with pytest.raises(Unreachable, match=r"did not answer within 0\.2 s"):
                turns.run(client.account())

    def test_its_own_server_is_not_trusted(
        self, asker: Asker, start_ca: StartCA, tmp_path: Path
    ) -> None:
        ca = start_ca()
        other = tmp_path / "other.pem"
        other.write_text(Authority().root)
        for ca_file in (None, other):
            with pytest.raises(Unreachable, match=r"TLS certificate that is not trusted"):
                asker.run(asker.client(ca, ca_file=ca_file).account())

    def test_its_certificate_is_for_another_name(self, turns: Turns, tmp_path: Path) -> None:
        authority = Authority()
        pair = authority.issue("other.example")
        root = tmp_path / "root.pem"
        root.write_text(authority.root + authority.intermediate)
        context = PrivateCertificate.loadPEM(pair.key + pair.certificate).options()
        port = turns.reactor.listenSSL(0, Site(Resource()), context, interface="127.0.0.1")
        client = AcmeClient(
            f"https://127.0.0.1:{port.getHost().port}/dir",
            AccountKey.generate(),
            reactor=turns.reactor,
            ca_file=root,
        )
        with pytest.raises(Unreachable, match="for another name"):
            turns.run(client.account())
        turns.run(port.stopListening())


class TestCancelling:
    def test_while_a_responder_gets_ready(
        self, turns: Turns, asker: Asker, start_ca: StartCA
    ) -> None:
        ca = start_ca()
        responder = Silent(ca)
        client = asker.registered(ca)
        order = Deferred.fromCoroutine(
            client.issue(["*.a.example"], request_for(["*.a.example"]), [responder])
        )
        asker.run(until(turns, lambda: responder.started))
        order.cancel()
        with pytest.raises(CancelledError):
            asker.run(order)
        assert responder.cancelled
        assert responder.stopped == ["a.example"]

    def test_while_the_ca_looks(
        self, turns: Turns, asker: Asker, start_pebble: Callable[..., Pebble]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            ca = start_pebble(http_port=mute.getsockname()[1], tls_port=asker.ports.tls)
            client = asker.registered(ca)
            order = Deferred.fromCoroutine(
                client.issue(["a.example"], request_for(["a.example"]), [asker.http])
            )
            asker.run(until(turns, lambda: "Starting 3 validations" in ca.log()))
            assert asker.http.challenges()
            order.cancel()
            with pytest.raises(CancelledError):
                asker.run(order)
        assert asker.http.challenges() == ()


async def until(turns: Turns, check: Callable[[], object]) -> None:
    """Wait for something that comes by itself; the limit is that of `Turns`."""
    while not check():
        await deferLater(turns.reactor, 0.01)
