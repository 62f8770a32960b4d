"""How long dynamic updates wait, and what is undone (BIND itself is in tests/acme)."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, succeed
from twisted.internet.task import Clock

from kproxy.config.model import Acme, WrapperUse
from kproxy.tls.acme import rfc2136
from kproxy.tls.acme.dns01 import Surroundings, make_dns_responder, record_name, record_value
from kproxy.tls.acme.errors import AcmeError
from kproxy.tls.acme.nsupdate import Server, make_key
from kproxy.tls.acme.rfc2136 import RFC2136, Options

RESPONSE = SimpleNamespace(key_authorization="token.thumbprint")


class Zone:
    """A zone that does what a test has it do."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self.lags: list[list[Server]] = []

    def add(self, value: str) -> None:
        self.values.append(value)

    def remove(self, value: str) -> None:
        self.values.remove(value)

    def lacking(self, value: str) -> list[Server]:
        return self.lags.pop(0) if len(self.lags) > 1 else [*self.lags, []][0]


class Thread:
    """A thread that does one piece of work when it is told to."""

    def __init__(self) -> None:
        self.work: list[tuple[Callable[[], Any], Callable[[], None]]] = []

    def __call__(self, work: Callable[[], Any], done: Callable[[], None]) -> None:
        self.work.append((work, done))

    def turn(self) -> None:
        work, done = self.work.pop(0)
        work()
        done()

    def finish(self) -> None:
        while self.work:
            self.turn()


class Case:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.clock, self.thread, self.zone = Clock(), Thread(), Zone()
        # The two functions that ask real name servers.
        monkeypatch.setattr(rfc2136, "find_server", lambda host, port: Server("192.0.2.1", port))
        monkeypatch.setattr(rfc2136, "find_place", lambda *_, **__: self.zone)
        around = Surroundings(self.clock, self.thread, lambda name: succeed("c2VjcmV0"))
        self.responder = RFC2136(Options("ns.example", **options), around)
        self.results: list[Any] = []

    def start(self) -> Any:
        started = self.responder.start_responding("a.example", None, RESPONSE)
        return started.addBoth(self.results.append)

    def stop(self) -> Any:
        return self.responder.stop_responding("a.example", None, RESPONSE)


LATE = Server("192.0.2.2", 53, "ns2.example")


def test_it_waits_until_all_servers_of_the_zone_show_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(monkeypatch)
    case.zone.lags = [[LATE], [LATE], []]
    case.start()
    for _ in range(2):
        case.thread.finish()
        assert not case.results
        case.clock.advance(2.0)
    case.thread.finish()
    assert case.results == [None]
    assert case.zone.values == [record_value(RESPONSE)]


def test_a_server_that_never_shows_it_is_named_after_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(monkeypatch, propagation=10.0)
    case.zone.lags = [[LATE]]
    case.start()
    for _ in range(5):
        case.thread.finish()
        assert not case.results
        case.clock.advance(2.0)
    case.thread.finish()
    (failure,) = case.results
    assert str(failure.value) == "the TXT record did not reach ns2.example within 10 s"
    assert failure.check(AcmeError)
    assert not case.clock.getDelayedCalls()


def test_nobody_waits_where_that_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch, propagation=0.0)
    case.zone.lags = [[LATE]]
    case.start()
    case.thread.finish()
    assert case.results == [None]


def test_an_addition_that_is_cancelled_half_way_is_ended_before_it_is_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(monkeypatch)
    adding = case.start()
    case.thread.turn()  # Where to put it is known; the update is with the thread.
    adding.cancel()
    assert case.results[0].check(CancelledError)
    undone: list[Any] = []
    case.stop().addBoth(undone.append)
    assert len(case.thread.work) == 1, "the removal waits for the addition"
    case.thread.turn()
    assert case.zone.values == [record_value(RESPONSE)]
    case.thread.turn()
    assert case.zone.values == []
    assert undone == [None]


def test_cancelling_while_it_waits_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    case.zone.lags = [[LATE]]
    adding = case.start()
    case.thread.finish()
    adding.cancel()
    assert case.results[0].check(CancelledError)
    assert not case.clock.getDelayedCalls()


def test_the_record_is_that_of_rfc_8555() -> None:
    # Section 8.4: the value is the SHA-256 digest of the key authorization, in base64url.
    assert record_value(RESPONSE) == "61rBZ_4knHblO0MNoxFsXZ_eTFUHum0B6IVRbhvUn5I"
    assert record_name("www.example.org") == "_acme-challenge.www.example.org"


def test_a_key_does_not_show_its_secret_in_errors() -> None:
    with pytest.raises(AcmeError) as caught:
        make_key("k", "hmac-sha256", "sesame!")
    assert "sesame" not in str(caught.value)
    assert make_key("k", "hmac-sha256", "c2Vz\nYW1l\n").secret == base64.b64decode("c2VzYW1l")


class TestTheResponderOfAConfiguration:
    def test_there_is_none_unless_it_is_named(self) -> None:
        assert make_dns_responder(Acme(), Clock(), Thread()) is None

    def test_it_is_made_by_its_plug_in(self) -> None:
        acme = Acme(dns=WrapperUse("rfc2136", Options("ns.example")))
        assert isinstance(make_dns_responder(acme, Clock(), Thread()), RFC2136)

    def test_one_that_is_not_installed_is_an_error(self) -> None:
        acme = Acme(dns=WrapperUse("gone", None))
        with pytest.raises(AcmeError, match=r'^there is no DNS-01 responder "gone"$'):
            make_dns_responder(acme, Clock(), Thread())

    def test_one_that_fails_is_an_error_that_quotes_nothing(self) -> None:
        class Broken:
            def responder(self, options: object, around: Surroundings) -> Any:
                raise KeyError("secret")

        acme = Acme(dns=WrapperUse("x", None))
        with pytest.raises(AcmeError, match=r"\"x\" can't be made: KeyError$"):
            make_dns_responder(acme, Clock(), Thread(), {"x": Broken()})  # type: ignore[dict-item]

    def test_its_secrets_are_those_of_the_files(self, tmp_path: Path) -> None:
        (tmp_path / "secrets").write_text("DNS_KEY=c2VjcmV0\n")
        found: list[Any] = []

        class Curious:
            def responder(self, options: object, around: Surroundings) -> Any:
                for name in ("DNS_KEY", "OTHER"):
                    around.secret(name).addBoth(found.append)

        acme = Acme(dns=WrapperUse("x", None), secrets_files=(tmp_path / "secrets",))
        thread = Thread()
        make_dns_responder(acme, Clock(), thread, {"x": Curious()})  # type: ignore[dict-item]
        assert not found, "reading secrets may run commands: not in the reactor's thread"
        thread.finish()
        assert found[0] == "c2VjcmV0"
        assert "the secret OTHER is neither in" in str(found[1].value)


def test_without_dnspython_the_configuration_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "deploy.yml").write_text(
        "service: app\nservers: [a]\nx-kproxy: {acme: {dns: {rfc2136: {server: ns.example}}}}\n"
    )
    script = (
        "import sys\n"
        "sys.modules['dns'] = None\n"
        "from kproxy.cli.main import main\n"
        "sys.exit(main(['check', 'deploy.yml']))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert found.returncode == 1
    assert found.stderr.endswith(
        "the DNS-01 responder rfc2136 can't be imported: "
        "ImportError: it needs dnspython: pip install dnspython\n"
    )
