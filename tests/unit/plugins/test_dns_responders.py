"""DNS-01 responders are announced, found and configured as wrappers are."""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface.verify import verifyObject

from kproxy.interfaces import IDNSResponderPlugin
from kproxy.plugins import DNSResponderPlugin, find_dns_responders, find_wrappers
from kproxy.tls.acme.rfc2136 import Options
from tests.unit.config.helpers import Files

RESPONDERS = find_dns_responders()


def with_dns(text: str) -> str:
    return f"service: app\nservers: [a]\nx-kproxy:\n  acme:\n    dns: {text}\n"


def options(files: Files, text: str) -> Any:
    dns = files.load(with_dns(text), dns_responders=RESPONDERS).acme.dns
    assert dns is not None
    return dns.options


def problem(files: Files, text: str) -> str:
    (line,) = files.problems(with_dns(text), dns_responders=RESPONDERS)
    return line.split(": ", 1)[1]


def test_a_plug_in_keeps_its_contract() -> None:
    plugin = DNSResponderPlugin(name="a", description="", factory=lambda options, around: None)
    assert verifyObject(IDNSResponderPlugin, plugin)
    assert all(verifyObject(IDNSResponderPlugin, each) for each in RESPONDERS.values())


def test_wrappers_and_responders_are_told_apart() -> None:
    assert "rfc2136" in RESPONDERS
    assert "rfc2136" not in find_wrappers()
    assert RESPONDERS.keys().isdisjoint(find_wrappers())


def test_a_responder_is_made_with_its_options_and_what_it_may_use() -> None:
    plugin = DNSResponderPlugin("a", "", lambda *given: given)
    made: Any = plugin.responder("options", "around")  # type: ignore[arg-type]
    assert made == ("options", "around")


def test_the_name_of_a_responder_follows_the_same_rule() -> None:
    with pytest.raises(ValueError, match=r"^the name of a DNS-01 responder should be lower-case"):
        DNSResponderPlugin("A b", "", "x.y")


class TestRFC2136:
    def test_a_server_is_enough(self, files: Files) -> None:
        assert options(files, "{rfc2136: {server: ns.example}}") == Options("ns.example")

    def test_everything(self, files: Files) -> None:
        text = (
            "{rfc2136: {server: '[2001:db8::1]', port: 5353, zone: Example.com., key: k, "
            "algorithm: hmac-sha512, secret: DNS_KEY, ttl: 30, propagation: 0}}"
        )
        assert options(files, text) == Options(
            server="2001:db8::1",
            port=5353,
            zone="example.com",
            key="k",
            algorithm="hmac-sha512",
            secret="DNS_KEY",
            ttl=30,
            propagation=0.0,
        )

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("rfc2136", "x-kproxy.acme.dns.rfc2136: server is missing"),
            ("{rfc2136: {server: 'a:53'}}", "should be a host name or an address, without a port"),
            ("{rfc2136: {server: 'a b'}}", "should be a host name or an address"),
            ("{rfc2136: {server: a, key: k}}", "secret is missing; it goes with key"),
            ("{rfc2136: {server: a, secret: k}}", "key is missing; it goes with secret"),
            ("{rfc2136: {server: a, ttl: 0}}", "should be an integer, at least 1"),
            ("{rfc2136: {server: a, algorithm: md5}}", "hmac-sha256"),
            ("{rfc2136: {server: a, zon: b}}", 'did you mean "zone"?'),
            ("rfc2163", 'there is no DNS-01 responder "rfc2163"; did you mean "rfc2136"?'),
        ],
    )
    def test_what_is_wrong_is_told(self, files: Files, text: str, expected: str) -> None:
        assert expected in problem(files, text)
