"""DNS-01 by dynamic updates: a real name server (BIND), which a real CA (pebble) asks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, succeed
from twisted.internet.task import deferLater

from kproxy.config.secrets import SecretsError
from kproxy.threads import threads_of
from kproxy.tls.acme.client import AcmeClient
from kproxy.tls.acme.dns01 import Surroundings, record_value
from kproxy.tls.acme.errors import AcmeError
from kproxy.tls.acme.jws import AccountKey
from kproxy.tls.acme.keys import new_key
from kproxy.tls.acme.rfc2136 import RFC2136, Options
from tests.support.named import Named
from tests.support.pebble import Pebble
from tests.support.reactor import Turns

ZONES = {
    "example.test": ["_acme-challenge.alias CNAME challenges"],
    "deep.sub.example.test": [],
    # Its challenges are delegated to another zone.
    "delegated.test": [
        "_acme-challenge.www CNAME www.challenges",
        "www.challenges CNAME www.example.test.",
        "_acme-challenge.loop CNAME _acme-challenge.loop",
    ],
}


@pytest.fixture(scope="module")
def name_server(
    require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Named]:
    command = require_tool("named")
    with Named(tmp_path_factory.mktemp("dns"), command, ZONES) as named:
        yield named


@pytest.fixture
def make(turns: Turns, name_server: Named) -> Callable[..., RFC2136]:
    """A function that makes a responder for the name server."""

    def make(content: str | None = name_server.secret, **changes: Any) -> RFC2136:
        def look_up(name: str) -> Deferred[str]:
            if content is None:
                return fail(SecretsError(f"the secret {name} is not there"))
            return succeed(content)

        options = {
            "server": "localhost",
            "port": name_server.port,
            "key": name_server.key,
            "algorithm": name_server.algorithm,
            "secret": "DNS_KEY",
            **changes,
        }
        reactor = turns.reactor
        return RFC2136(Options(**options), Surroundings(reactor, threads_of(reactor), look_up))

    return make


def response(text: str) -> Any:
    """What stands for a challenge's response."""
    return SimpleNamespace(key_authorization=text)


def start(responder: RFC2136, name: str, text: str = "token.thumbprint") -> Deferred[None]:
    return responder.start_responding(name, None, response(text))


def stop(responder: RFC2136, name: str, text: str = "token.thumbprint") -> Deferred[None]:
    return responder.stop_responding(name, None, response(text))


def test_a_ca_finds_what_it_looks_for(
    turns: Turns,
    name_server: Named,
    make: Callable[..., RFC2136],
    start_pebble: Callable[..., Pebble],
) -> None:
    ca = start_pebble(http_port=1, tls_port=1, dns=name_server.address)
    client = AcmeClient(
        ca.directory, AccountKey.generate(), reactor=turns.reactor, ca_file=ca.ca_file
    )
    turns.run(client.account())
    # A host and its wildcard share one name, and a third has its challenges elsewhere.
    names = ["a.example.test", "*.a.example.test", "alias.example.test"]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
        .sign(new_key(), hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    assert turns.run(client.issue(names, request, [make()])).startswith("-----BEGIN")
    assert name_server.texts("_acme-challenge.a.example.test") == set()
    assert name_server.texts("challenges.example.test") == set()
    turns.run(client.close())


def test_values_of_one_name_come_and_go_by_themselves(
    turns: Turns, name_server: Named, make: Callable[..., RFC2136]
) -> None:
    responder = make()
    turns.run(gatherResults([start(responder, "b.example.test", text) for text in ("1", "2")]))
    values = {text: record_value(response(text)) for text in ("1", "2")}
    assert name_server.texts("_acme-challenge.b.example.test") == set(values.values())
    turns.run(stop(responder, "b.example.test", "1"))
    assert name_server.texts("_acme-challenge.b.example.test") == {values["2"]}
    turns.run(stop(responder, "b.example.test", "2"))
    assert name_server.texts("_acme-challenge.b.example.test") == set()


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("www.example.test", "example.test"),
        ("a.b.example.test", "example.test"),
        ("sub.example.test", "example.test"),
        ("www.deep.sub.example.test", "deep.sub.example.test"),
        ("deep.sub.example.test", "deep.sub.example.test"),
    ],
)
def test_the_zone_is_found_by_asking(
    turns: Turns, name_server: Named, make: Callable[..., RFC2136], name: str, zone: str
) -> None:
    responder = make()
    turns.run(start(responder, name))
    assert f"updating zone '{zone}/IN': adding an RR at '_acme-challenge.{name}'" in (
        name_server.log()
    )
    turns.run(stop(responder, name))
    assert name_server.texts(f"_acme-challenge.{name}") == set()


def test_a_challenge_that_is_delegated_goes_where_the_cnames_lead(
    turns: Turns, name_server: Named, make: Callable[..., RFC2136]
) -> None:
    responder = make()
    turns.run(start(responder, "www.delegated.test"))
    value = record_value(response("token.thumbprint"))
    assert name_server.texts("www.example.test") == {value}
    turns.run(stop(responder, "www.delegated.test"))
    assert name_server.texts("www.example.test") == set()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("www.example.test", {"secret_text": "bm90IHRoZSBrZXk="}, r"TSIG"),
        ("www.example.test", {"key": "nobody"}, r"TSIG"),
        ("www.example.test", {"secret_text": "§"}, r"secret of the TSIG key .* not base64$"),
        ("www.example.test", {"secret_text": None}, r"^the secret DNS_KEY is not there$"),
        ("www.example.test", {"key": None, "secret": None}, r"example\.test: REFUSED$"),
        ("www.other.test", {}, r"no zone that _acme-challenge\.www\.other\.test belongs to$"),
        ("www.other.test", {"zone": "other.test"}, r"other\.test: (NOTAUTH|REFUSED)$"),
        ("www.example.test", {"zone": "other.test"}, r"is not in the zone other\.test$"),
        ("www.example.test", {"server": "ns.invalid"}, r"^the name server ns\.invalid has no"),
        ("loop.delegated.test", {}, r"CNAME without an end$|can't be asked"),
    ],
)
def test_what_goes_wrong_is_told_in_a_sentence(
    turns: Turns,
    name_server: Named,
    make: Callable[..., RFC2136],
    name: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    secret = changes.pop("secret_text", name_server.secret)
    with pytest.raises(AcmeError, match=message) as failed:
        turns.run(start(make(secret, **changes), name))
    assert name_server.secret not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_name_server_that_does_not_listen_is_told(
    turns: Turns, make: Callable[..., RFC2136]
) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    with pytest.raises(AcmeError, match=r"^the name server localhost did not answer within 5 s$"):
        turns.run(start(make(port=port), "www.example.test"))


def test_to_remove_what_was_never_added_is_fine(turns: Turns, make: Callable[..., RFC2136]) -> None:
    turns.run(stop(make(), "www.example.test"))


def test_after_cancelling_nothing_is_left_in_the_zone(
    turns: Turns, name_server: Named, make: Callable[..., RFC2136]
) -> None:
    responder = make()
    name = "cancelled.example.test"
    for pause in (0.0, 0.005, 0.02):
        # Whichever step it is that this hits.
        adding = start(responder, name)
        turns.run(deferLater(turns.reactor, pause))
        adding.cancel()
        with suppress(CancelledError):
            turns.run(adding)
        turns.run(stop(responder, name))
        assert name_server.texts(f"_acme-challenge.{name}") == set()


def test_a_name_server_of_the_zone_that_does_not_answer_us_is_not_waited_for(
    turns: Turns,
    require_tool: Callable[[str], str],
    tmp_path: Path,
    make: Callable[..., RFC2136],
) -> None:
    servers = ("127.0.0.1", "127.0.0.3")  # Only the first is there.
    with Named(tmp_path, require_tool("named"), {"two.test": []}, name_servers=servers) as named:
        responder = make(named.secret, port=named.port)
        turns.run(start(responder, "www.two.test"))
        value = record_value(response("token.thumbprint"))
        assert named.texts("_acme-challenge.www.two.test") == {value}
