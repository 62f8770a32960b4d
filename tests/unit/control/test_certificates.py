"""Which names TLS is served for, and who has their certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from kproxy.config.model import (
    LETS_ENCRYPT_STAGING,
    Acme,
    CertificateSecrets,
    Configuration,
    ExternalAccount,
    Service,
    Target,
    WrapperUse,
)
from kproxy.control.certificates import Certificates
from kproxy.control.controller import Controller
from kproxy.control.deployment import DeploymentFailed
from kproxy.control.listing import describe_tls
from kproxy.snapshot import Certificate, HTTPChallenge, Snapshot, TLSChallenge, TLSName
from kproxy.tls.checked import Checked
from tests.unit.control.support import A, B, Log, Plane, Targets
from tests.unit.control.support import service as make

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
FOLDER = Path("/state/acme")
CUSTOM = CertificateSecrets("CERT", "KEY")


@dataclass
class Entry:
    """What is served of a service."""

    service: Service
    custom: Checked | None = None
    custom_failure: str = ""
    up: tuple[Target, ...] = (A,)

    def healthy(self) -> tuple[Target, ...]:
        return self.up


@dataclass(frozen=True)
class Fares:
    """A status."""

    expires: datetime | None = None
    failure: str = ""
    next_try: datetime | None = None


@dataclass
class Authority:
    """Has certificates when a test says so."""

    acme: Acme
    folder: Path
    changed: Callable[[], object]
    on_demand_url: Callable[[str], str | None]
    wanted: list[str] = field(default_factory=list)
    had: dict[str, Certificate] = field(default_factory=dict)
    fares: dict[str, Fares] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)
    told: int = 0
    challenges: tuple[HTTPChallenge, ...] = ()
    started: int = 0
    stopped: int = 0

    def want(self, names: Iterable[str]) -> None:
        self.wanted = list(names)
        self.told += 1

    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.wanted, *self.had]))

    def certificate(self, name: str) -> Certificate | None:
        return self.had.get(name)

    def obtain(self, name: str) -> Deferred[None]:
        self.asked.append(name)
        return Deferred()

    def http_challenges(self) -> tuple[HTTPChallenge, ...]:
        return self.challenges

    def tls_challenges(self) -> tuple[TLSChallenge, ...]:
        return ()

    def status(self, name: str) -> Fares:
        return self.fares.get(name, Fares())

    def retry(self, name: str) -> None:
        self.retried.append(name)

    def start(self) -> None:
        self.started += 1

    def stop(self) -> Deferred[None]:
        self.stopped += 1
        return succeed(None)

    def has(self, *names: str) -> None:
        self.had.update({name: Certificate(name, "key") for name in names})
        self.changed()


class Case:
    """Certificates, and what has been published of them."""

    def __init__(self, *services: Service, acme: Acme | None = None, **customs: Checked) -> None:
        self.authorities: list[Authority] = []
        self.certificates = Certificates(self.make, FOLDER)
        self.certificates.changed = self.publish
        self.certificates.use(acme or Acme())
        self.published: list[tuple[TLSName, ...]] = []
        self.serve(*services, **customs)

    def make(self, *arguments: Any) -> Authority:
        self.authorities.append(Authority(*arguments))
        return self.authorities[-1]

    def serve(self, *services: Service, **customs: Checked) -> None:
        self.entries: Mapping[str, Entry] = {
            each.name: Entry(each, customs.get(each.name)) for each in services
        }
        self.publish()

    def publish(self) -> None:
        services = [entry.service for entry in self.entries.values()]
        self.published.append(self.certificates.tls(self.entries, services))
        self.certificates.follow()

    @property
    def tls(self) -> dict[str, str | None]:
        """The chain of each name, as it was published last."""
        return {
            each.name: None if each.certificate is None else each.certificate.chain
            for each in self.published[-1]
        }

    def wanted(self, name: str) -> Any:
        """What a handshake for a name gets: a failure, None when it is to look again, or nothing."""
        results: list[Any] = []
        self.certificates.wanted(name).addBoth(results.append)
        return results[0] if results else ...


def own(*names: str, chain: str = "own") -> Checked:
    return Checked(Certificate(chain, "key"), names, NOW)


# Names and their certificates.


def test_services_without_tls_are_no_names() -> None:
    case = Case(make("one"), make("two", ssl=False))
    assert case.tls == {}
    assert case.authorities == []


def test_hosts_of_a_service_with_a_certificate_of_its_own_have_that() -> None:
    service = make(hosts=("a.example", "*.b.example"), ssl=CUSTOM)
    case = Case(service, app=own("a.example"))
    assert case.tls == {"a.example": "own", "*.b.example": "own"}
    assert case.authorities == []


def test_without_hosts_a_service_is_served_for_what_its_certificate_covers() -> None:
    other = make("other", hosts=("b.example",), ssl=CUSTOM)
    case = Case(
        make(hosts=(), ssl=CUSTOM), other, app=own("a.example", "b.example"), other=own(chain="b")
    )
    assert case.tls == {"a.example": "own", "b.example": "b"}


def test_hosts_of_a_service_with_automatic_certificates_are_listed_until_they_have_one() -> None:
    case = Case(make(hosts=("a.example", "b.example"), ssl=True))
    (authority,) = case.authorities
    assert (authority.acme, authority.folder) == (Acme(), FOLDER)
    assert authority.wanted == ["a.example", "b.example"]
    assert case.tls == {"a.example": None, "b.example": None}
    authority.has("b.example")
    assert case.tls == {"a.example": None, "b.example": "b.example"}


def test_the_first_service_with_tls_is_the_first_name() -> None:
    case = Case(
        make("plain"),
        make("two", hosts=("z.example",), ssl=True),
        make("one", hosts=("a.example",), ssl=CUSTOM),
        one=own(),
    )
    assert list(case.tls) == ["z.example", "a.example"]


def test_who_has_the_root_path_of_a_host_has_its_certificate() -> None:
    api = make("api", hosts=("a.example", "c.example"), path_prefixes=("/api",), ssl=CUSTOM)
    root = make("root", hosts=("a.example",), ssl=True)
    plain = make("plain", hosts=("b.example",))
    below = make("below", hosts=("b.example",), path_prefixes=("/x",), ssl=CUSTOM)
    case = Case(api, root, plain, below, api=own(), below=own())
    assert case.tls == {"c.example": "own", "a.example": None}
    assert case.authorities[0].wanted == ["a.example"]


def test_nothing_changes_as_long_as_nothing_changes() -> None:
    services = [make("one", hosts=("a.example",), ssl=True), make("two", ssl=CUSTOM)]
    case = Case(*services, two=own())
    case.publish()
    assert case.published[-1] is case.published[-2]
    case.authorities[0].has("a.example")
    before, after = case.published[-2:]
    assert before[1] is after[1]
    assert before[0] != after[0]


def test_a_certificate_that_was_renewed_takes_the_place_of_the_old_one() -> None:
    case = Case(make(ssl=CUSTOM), app=own(chain="old"))
    case.serve(make(ssl=CUSTOM), app=own(chain="new"))
    assert case.tls == {"app.example": "new"}


def test_challenges_are_those_of_all_authorities() -> None:
    case = Case(make("one", ssl=True), make("two", ssl=True, tls_staging=True))
    for number, authority in enumerate(case.authorities):
        authority.challenges = (HTTPChallenge(f"t{number}", "x"),)
    assert [c.token for c in case.certificates.http_challenges()] == ["t0", "t1"]
    assert case.certificates.tls_challenges() == ()


# Authorities.


def test_a_service_with_a_folder_of_its_own_does_not_use_the_store_that_servers_share() -> None:
    shared = Acme(store=WrapperUse("folder", None))
    services = make("one", ssl=True), make("two", ssl=True, acme_folder=Path("/own"))
    case = Case(*services, acme=shared)
    assert [(each.acme, each.folder) for each in case.authorities] == [
        (shared, FOLDER),
        (Acme(), Path("/own")),
    ]


def test_staging_and_a_folder_of_ones_own_are_authorities_of_their_own() -> None:
    acme = Acme("https://ca/dir", "a@b", Path("/ca.pem"), eab=ExternalAccount("k", "s"))
    case = Case(
        make("one", ssl=True),
        make("two", ssl=True, tls_staging=True),
        make("three", ssl=True, acme_folder=Path("/own")),
        make("four", ssl=True),
        acme=acme,
    )
    staging = Acme(LETS_ENCRYPT_STAGING, "a@b")
    assert [(a.acme, a.folder, a.wanted) for a in case.authorities] == [
        (acme, FOLDER, ["one.example", "four.example"]),
        (staging, FOLDER, ["two.example"]),
        (acme, Path("/own"), ["three.example"]),
    ]


def test_an_authority_is_told_names_only_when_they_may_have_changed() -> None:
    case = Case(make(ssl=True))
    case.authorities[0].has("app.example")
    case.publish()
    assert case.authorities[0].told == 1
    case.serve(make(ssl=True), make("two", ssl=True))
    assert case.authorities[0].told == 2


def test_what_an_operator_may_have_put_right_is_tried_again() -> None:
    service = make(hosts=("a.example", "b.example"), ssl=True)
    case = Case(service, make("plain"))
    case.authorities[0].fares["b.example"] = Fares(None, "NXDOMAIN")
    for each in (service, make("plain"), make("own", ssl=CUSTOM)):
        case.certificates.retry(each)
    assert case.authorities[0].retried == ["b.example"]


def test_an_authority_that_nobody_needs_any_more_is_stopped() -> None:
    case = Case(make(ssl=True))
    case.serve(make())
    assert case.authorities[0].stopped == 1
    assert case.tls == {}
    case.serve(make(ssl=True))
    assert len(case.authorities) == 2


def test_another_ca_takes_over_with_the_next_snapshot() -> None:
    case = Case(make(ssl=True), acme=Acme(dns=WrapperUse("x", {"no": "hash"})))
    case.authorities[0].has("app.example")
    case.certificates.use(Acme("https://other/dir"))
    case.publish()
    assert case.authorities[0].stopped == 1
    assert case.authorities[1].acme == Acme("https://other/dir")
    assert case.authorities[1].wanted == ["app.example"]
    case.publish()
    assert case.tls == {"app.example": None}


def test_authorities_work_from_the_start_to_the_end() -> None:
    case = Case(make(ssl=True))
    assert case.authorities[0].started == 0
    case.certificates.start()
    case.serve(make(ssl=True), make("two", ssl=True, tls_staging=True))
    assert [a.started for a in case.authorities] == [1, 1]
    done = case.certificates.stop()
    assert done.called
    assert [a.stopped for a in case.authorities] == [1, 1]


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"ssl": True}, True),
        ({"ssl": CUSTOM}, False),
        ({"ssl": False}, False),
        ({"ssl": True, "tls_on_demand_url": "/ask"}, False),
    ],
)
def test_wildcards_are_refused_where_dns_01_can_not_be_used(options: Any, refused: bool) -> None:
    wanted = make(hosts=("*.a.example",), **options)
    case = Case()
    said = case.certificates.refusal(wanted)
    assert said.startswith("a certificate for *.a.example can only be had by DNS-01") is refused
    case.certificates.use(Acme(dns=WrapperUse("x", None)))
    assert case.certificates.refusal(wanted) == ""


# Handshakes.


def test_a_handshake_waits_for_the_authority() -> None:
    case = Case(make(hosts=("a.example", "*.b.example"), ssl=True))
    assert case.wanted("a.example") is ...
    assert case.wanted("x.b.example") is ...
    assert case.authorities[0].asked == ["a.example", "*.b.example"]


def test_a_handshake_for_a_name_that_nobody_has_fails_at_once() -> None:
    case = Case(make(hosts=("a.example",), ssl=True), make("plain", hosts=("b.example",)))
    for name in ("b.example", "x.a.example", "nonsense", ""):
        assert case.wanted(name).check(LookupError)
    assert case.authorities[0].asked == []


def test_a_handshake_waits_for_a_certificate_that_is_being_read() -> None:
    case = Case(make(ssl=CUSTOM))
    assert case.wanted("app.example").check(LookupError)
    case.certificates.expect("app")
    results: list[Any] = []
    for _ in range(2):
        case.certificates.wanted("app.example").addCallback(results.append)
    left = case.certificates.wanted("app.example")
    left.addErrback(lambda _: None)
    left.cancel()
    assert results == []
    case.certificates.settle("app")
    assert results == [None, None]
    assert case.wanted("app.example").check(LookupError)


# On demand.


ASKED = make(hosts=(), ssl=True, tls_on_demand_url="/allowed?x=1")


def test_names_on_demand_are_listed_once_they_have_a_certificate() -> None:
    case = Case(ASKED, make("plain", hosts=("b.example",)))
    (authority,) = case.authorities
    assert case.certificates.on_demand
    assert case.tls == {}
    assert authority.wanted == []
    assert case.wanted("new.example") is ...
    assert authority.asked == ["new.example"]
    authority.has("new.example")
    assert case.tls == {"new.example": "new.example"}
    assert case.wanted("b.example").check(LookupError)


def test_hosts_of_a_service_on_demand_are_asked_for_too_and_no_others() -> None:
    case = Case(make(hosts=("a.example", "*.b.example"), ssl=True, tls_on_demand_url="http://u/"))
    assert case.tls == {}
    assert case.wanted("a.example") is ...
    assert case.wanted("x.b.example") is ...
    assert case.wanted("c.example").check(LookupError)
    assert case.authorities[0].asked == ["a.example", "x.b.example"]


def test_without_a_service_on_demand_there_is_nothing_on_demand() -> None:
    assert not Case(make(ssl=True), make("two", tls_on_demand_url="/x")).certificates.on_demand


def test_a_path_is_asked_for_at_a_healthy_target_and_a_url_as_it_is() -> None:
    case = Case(ASKED, make("b", hosts=("b.example",), ssl=True, tls_on_demand_url="http://u/"))
    url = case.authorities[0].on_demand_url
    assert url("new.example") == "http://a:1/allowed?x=1"
    assert url("b.example") == "http://u/"
    case.entries["app"].up = (B, A)
    assert url("new.example") == "http://b:1/allowed?x=1"
    case.entries["app"].up = ()
    assert url("new.example") is None
    case.serve(make(ssl=True))
    assert url("new.example") is None


# What operators see.


def listed(case: Case, name: str) -> Any:
    described = describe_tls(case.entries[name], case.certificates, True, NOW)
    assert described["tls"]
    return described["certificates"]


def test_automatic_certificates_are_described_with_the_words_of_the_ca() -> None:
    case = Case(make("plain"), make(hosts=("a.example", "b.example"), ssl=True))
    later = datetime(2026, 6, 21, 6, tzinfo=timezone.utc)
    case.authorities[0].fares = {
        "a.example": Fares(later, "", NOW),
        "b.example": Fares(None, "DNS problem: NXDOMAIN", later),
    }
    assert listed(case, "plain") == []
    assert listed(case, "app") == [
        {
            "name": "a.example",
            "expires": "2026-06-21T06:00:00Z",
            "days_left": 20,
            "failure": "",
            "next_try": "2026-06-01T00:00:00Z",
        },
        {
            "name": "b.example",
            "expires": None,
            "days_left": None,
            "failure": "DNS problem: NXDOMAIN",
            "next_try": "2026-06-21T06:00:00Z",
        },
    ]


def test_certificates_on_demand_are_described_once_there_are_any() -> None:
    case = Case(ASKED)
    assert listed(case, "app") == []
    case.authorities[0].has("new.example")
    case.authorities[0].fares["new.example"] = Fares(NOW)
    assert [(each["name"], each["days_left"]) for each in listed(case, "app")] == [
        ("new.example", 0)
    ]


def test_certificates_of_ones_own_are_described_with_what_is_wrong() -> None:
    case = Case(make(ssl=CUSTOM), app=own())
    case.entries["app"].custom_failure = "the secret KEY is gone"
    (only,) = listed(case, "app")
    assert (only["name"], only["days_left"]) == ("app.example", 0)
    assert only["failure"] == "the secret KEY is gone"


# In the controller.


class Run:
    """A controller, whose authorities are told what to have."""

    def __init__(self, *file: Service, acme: Acme | None = None) -> None:
        self.authorities: list[Authority] = []
        clock, self.plane = Clock(), Plane()
        targets = Targets(clock)
        targets.answers = {A: 200, B: 200}
        self.clock = clock
        self.controller = Controller(
            self.plane, clock, targets.ask, certificates=Certificates(self.make, FOLDER)
        )
        self.controller.boot(file, acme=acme)
        self.pass_time()

    def make(self, *arguments: Any) -> Authority:
        self.authorities.append(Authority(*arguments))
        return self.authorities[-1]

    def pass_time(self) -> None:
        self.clock.pump([0, 0, 0])

    def reload(self, *file: Service, acme: Acme | None = None) -> None:
        self.controller.reload(Configuration(services=file, acme=acme or Acme()))
        self.pass_time()

    @property
    def snapshot(self) -> Snapshot:
        return self.plane.snapshots[-1]


def test_a_challenge_and_a_certificate_are_published_before_the_authority_goes_on() -> None:
    run = Run(make(ssl=True))
    (authority,) = run.authorities
    assert authority.started == 1
    assert run.snapshot.tls == (TLSName("app.example", None),)
    authority.challenges = (HTTPChallenge("token", "answer"),)
    authority.changed()
    assert run.snapshot.http_challenges == authority.challenges
    authority.challenges = ()
    authority.has("app.example")
    assert run.snapshot.http_challenges == ()
    assert run.snapshot.tls == (TLSName("app.example", Certificate("app.example", "key")),)


def test_a_certificate_that_can_not_be_served_does_not_stop_the_authority() -> None:
    run = Run(make(ssl=True))
    run.plane.refuses = ValueError("no cipher for it")
    with Log(LogLevel.critical) as log:
        run.authorities[0].has("app.example")
    assert log.texts == ["a certificate can't be served"]


def test_deployments_and_reloads_try_again_what_failed() -> None:
    service = make(ssl=True)
    run = Run(service)
    (authority,) = run.authorities
    authority.fares["app.example"] = Fares(None, "NXDOMAIN")
    run.controller.deploy(make("app", B, ssl=True))
    run.pass_time()
    assert authority.retried == ["app.example"]
    run.reload(service)
    assert authority.retried == ["app.example"] * 2


def test_a_reload_that_names_another_ca_asks_that_one() -> None:
    run = Run(make(ssl=True), acme=Acme("https://one/dir"))
    run.reload(make(ssl=True), acme=Acme("https://two/dir"))
    assert [each.acme.directory for each in run.authorities] == [
        "https://one/dir",
        "https://two/dir",
    ]
    assert [each.stopped for each in run.authorities] == [1, 0]


def test_a_wildcard_that_nobody_can_have_is_refused() -> None:
    run = Run()
    results: list[Any] = []
    run.controller.deploy(make(hosts=("*.a.example",), ssl=True)).addErrback(results.append)
    assert results[0].check(DeploymentFailed)
    assert "can only be had by DNS-01" in results[0].getErrorMessage()


def test_the_end_of_the_proxy_waits_for_the_authorities() -> None:
    run = Run(make(ssl=True))
    assert run.controller.close().called
    assert run.authorities[0].stopped == 1
