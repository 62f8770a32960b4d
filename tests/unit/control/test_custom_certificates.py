"""Certificates of one's own, from a deployment over a renewal to a restart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from kproxy.config.model import CertificateSecrets, Configuration, Service
from kproxy.control.automatic import Nobody
from kproxy.control.certificates import Certificates
from kproxy.control.controller import Controller
from kproxy.control.custom import LOOK, RETRY
from kproxy.control.deployment import DeploymentFailed
from kproxy.control.progress import Event
from kproxy.control.state import State
from tests.support.certificates import DAY, Authority, Pair
from tests.unit.control.support import A, B, Log, Plane, Targets
from tests.unit.control.support import service as make
from tests.unit.control.test_last_word import Memory

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
CA = Authority(now=NOW)
OLD, NEW = CA.issue("app.example"), CA.issue("app.example")


class Threads:
    """Threads that work at once, or when they are told to."""

    def __init__(self) -> None:
        self.at_once = True
        self.waiting: list[tuple[Callable[[], Any], Callable[[], None]]] = []
        self.works = 0

    def __call__(self, work: Callable[[], Any], done: Callable[[], None]) -> None:
        self.waiting.append((work, done))
        self.works += 1
        if self.at_once:
            self.run()

    def run(self) -> None:
        waiting, self.waiting = self.waiting, []
        for work, done in waiting:
            work()
            done()


class Run:
    """One run of the proxy, whose secrets are its environment; all targets are healthy."""

    def __init__(
        self, store: Memory | None = None, *file: Service, pair: Pair | None = OLD
    ) -> None:
        self.clock = Clock()
        self.start = NOW
        self.targets = Targets(self.clock)
        self.targets.answers = {A: 200, B: 200}
        self.plane = Plane()
        self.threads = Threads()
        self.secrets: dict[str, str] = {}
        self.use(pair)
        self.certificates = Certificates(Nobody)
        self.store = store or Memory()
        self.controller = Controller(
            self.plane,
            self.clock,
            self.targets.ask,
            store=self.store,
            certificates=self.certificates,
            in_thread=self.threads,
            environ=self.secrets,
            now=lambda: NOW + timedelta(seconds=self.clock.seconds()),
        )
        self.file = file

    def use(self, pair: Pair | None) -> None:
        """What the secrets hold from now on."""
        self.secrets.clear()
        if pair is not None:
            self.secrets.update(CERT=pair.chain, KEY=pair.key)

    def boot(self) -> Run:
        self.controller.boot(self.file, self.store.state)
        self.clock.pump([0, 0, 0])
        return self

    def do(self, done: Deferred[Any]) -> Any:
        results: list[Any] = []
        done.addBoth(results.append)
        self.clock.pump([0, 0, 0])
        (result,) = results
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result

    def deploy(self, service: Service, **options: Any) -> list[Event]:
        told: list[Event] = []
        self.do(self.controller.deploy(service, told.append, **options))
        return told

    def reload(self) -> list[str]:
        failures: list[str] = self.do(self.controller.reload(Configuration(services=self.file)))
        return failures

    @property
    def tls(self) -> dict[str, str | None]:
        snapshot = self.plane.snapshots[-1]
        return {n.name: n.certificate.chain if n.certificate else None for n in snapshot.tls}

    @property
    def serves(self) -> list[tuple[Any, ...]]:
        return [state.service.targets for state in self.plane.snapshots[-1].services]


def own(*targets: Any, **options: Any) -> Service:
    return make("app", *targets, **{"ssl": CertificateSecrets("CERT", "KEY"), **options})


# Deployments.


def test_a_deployment_serves_the_certificate_of_its_secrets() -> None:
    run = Run().boot()
    run.deploy(own())
    assert run.tls == {"app.example": OLD.chain}


def test_a_deployment_whose_certificate_will_not_do_fails_and_the_old_one_stays() -> None:
    run = Run().boot()
    run.deploy(own(A))
    run.use(Pair(NEW.certificate, NEW.issuers, OLD.key))
    asked = len(run.targets.asked)
    with pytest.raises(DeploymentFailed) as caught:
        run.deploy(own(B))
    assert str(caught.value) == (
        "app: the secret KEY does not belong to the secret CERT, which is for app.example"
    )
    assert (run.tls, run.serves) == ({"app.example": OLD.chain}, [(A,)])
    assert len(run.targets.asked) == asked


def test_secrets_are_read_in_a_thread_while_the_old_ones_serve() -> None:
    run = Run().boot()
    run.deploy(own(A))
    run.use(NEW)
    run.threads.at_once = False
    deployment = run.controller.deploy(own(B))
    run.clock.pump([0, 0, 0])
    assert (run.tls, run.serves) == ({"app.example": OLD.chain}, [(A,)])
    run.threads.run()
    assert run.do(deployment) is None
    assert (run.tls, run.serves) == ({"app.example": NEW.chain}, [(B,)])


def test_a_deployment_may_be_cancelled_while_secrets_are_read() -> None:
    run = Run().boot()
    run.threads.at_once = False
    deployment = run.controller.deploy(own())
    results: list[Any] = []
    deployment.addErrback(results.append)
    deployment.cancel()
    run.threads.run()
    assert len(results) == 1
    assert run.tls == {}
    run.threads.at_once = True
    run.deploy(own())
    assert run.tls == {"app.example": OLD.chain}


def test_a_proxy_that_stops_deploys_no_more_once_the_secrets_are_read() -> None:
    run = Run().boot()
    run.threads.at_once = False
    run.file = (own(),)
    deployment = run.controller.deploy(own())
    reloading = run.controller.reload(Configuration(services=run.file))
    assert run.controller.close().called
    run.threads.run()
    with pytest.raises(DeploymentFailed, match="the proxy is stopping"):
        run.do(deployment)
    with Log():
        assert run.do(reloading) == ["the proxy is stopping"]
    assert run.targets.asked == []


def test_what_is_worth_a_warning_is_told_and_logged() -> None:
    pair = CA.issue("other.example", until=NOW + 5 * DAY)
    run = Run(pair=pair).boot()
    with Log(LogLevel.warn) as log:
        told = run.deploy(own())
    messages = [
        "app: the secret CERT expires in 5 days, on 2026-06-06",
        "app: the secret CERT does not cover app.example; it is for other.example",
    ]
    assert [event["message"] for event in told if event["event"] == "warning"] == messages
    assert log.texts == messages


def test_no_secret_is_ever_told_logged_or_saved() -> None:
    run = Run().boot()
    seen: list[str] = []
    for level in (LogLevel.info, LogLevel.warn, LogLevel.error):
        with Log(level) as log:
            seen.append(str(run.deploy(own())))
            run.use(Pair(OLD.certificate, (), "-----BEGIN PRIVATE KEY-----\nhunter2"))
            try:
                run.deploy(own(B))
            except DeploymentFailed as error:
                seen.append(str(error))
            run.use(OLD)
        seen += [str(event) for event in log.events]
    seen += [str(run.controller.describe()), repr(run.store.state), repr(run.plane.snapshots)]
    for text in seen:
        assert "hunter2" not in text
        assert OLD.key.splitlines()[1] not in text


def test_a_certificate_that_the_data_plane_can_not_use_fails_the_deployment() -> None:
    run = Run().boot()
    run.deploy(own())
    run.use(NEW)
    run.plane.refuses = ValueError("no cipher for it")
    with pytest.raises(DeploymentFailed, match="app: no cipher for it"):
        run.deploy(own(B))
    with Log() as log:
        run.file = (own(),)
        assert run.reload() == ["app: no cipher for it"]
    assert log.texts
    run.plane.refuses = None
    run.controller.publish()
    assert (run.tls, run.serves) == ({"app.example": OLD.chain}, [(A,)])


# Renewal.


def test_a_reload_serves_a_renewed_certificate_and_touches_nothing_else() -> None:
    run = Run(None, own()).boot()
    before = run.plane.snapshots[-1]
    asked = len(run.targets.asked)
    run.use(NEW)
    with Log(LogLevel.info) as log:
        assert run.reload() == []
    after = run.plane.snapshots[-1]
    assert run.tls == {"app.example": NEW.chain}
    assert after.services[0] is before.services[0]
    assert len(run.targets.asked) == asked
    assert log.texts == ["app has the certificate that expires on 2026-08-30"]


def test_a_reload_of_the_same_certificate_publishes_nothing() -> None:
    run = Run(None, own()).boot()
    published = len(run.plane.snapshots)
    assert run.reload() == []
    assert len(run.plane.snapshots) == published


def test_a_renewal_that_will_not_do_is_reported_and_the_old_certificate_stays() -> None:
    run = Run(None, own()).boot()
    run.use(CA.issue("app.example", until=NOW))
    for _ in range(2):
        with Log() as log:
            assert run.reload() == ["app: the secret CERT expired on 2026-06-01"]
        assert len(log.texts) == 1
    assert run.tls == {"app.example": OLD.chain}
    (certificate,) = run.controller.describe()[0]["certificates"]
    assert certificate["failure"] == "the secret CERT expired on 2026-06-01"
    assert certificate["days_left"] == 90
    run.use(NEW)
    assert run.reload() == []
    (certificate,) = run.controller.describe()[0]["certificates"]
    assert certificate["failure"] == ""


def test_a_reload_renews_what_was_deployed_by_command_too() -> None:
    run = Run().boot()
    run.deploy(own())
    run.use(NEW)
    assert run.reload() == []
    assert run.tls == {"app.example": NEW.chain}


def test_a_reload_reads_the_secrets_of_all_services_in_one_go() -> None:
    services = [own(), make("two", ssl=CertificateSecrets("CERT", "KEY")), make("plain")]
    run = Run(None, *services).boot()
    assert run.threads.works == 1
    run.file = (*services[:1], make("two", B, ssl=CertificateSecrets("CERT", "KEY")), make("three"))
    run.use(NEW)
    assert run.reload() == []
    assert run.threads.works == 2
    assert run.tls == {"app.example": NEW.chain, "two.example": NEW.chain}


def test_services_without_certificates_of_their_own_have_no_secrets_read() -> None:
    run = Run(None, make("plain"), make("other", ssl=True)).boot()
    run.reload()
    run.deploy(make("cli"))
    assert run.threads.works == 0


def test_a_renewal_does_not_undo_a_deployment_that_names_other_secrets() -> None:
    run = Run(None, own()).boot()
    run.secrets.update(OTHER=NEW.chain, OTHER_KEY=NEW.key)
    run.threads.at_once = False
    deployment = run.controller.deploy(own(ssl=CertificateSecrets("OTHER", "OTHER_KEY")))
    reloading = run.controller.reload(Configuration(services=run.file))
    run.threads.run()
    run.do(deployment)
    assert run.do(reloading) == []
    assert run.tls == {"app.example": NEW.chain}


def test_a_certificate_that_grows_old_is_spoken_of_once_a_day() -> None:
    run = Run(None, own()).boot()
    with Log(LogLevel.warn) as log:
        run.clock.pump([LOOK] * 59)
        assert log.texts == []
        run.clock.pump([LOOK] * 3)
    assert log.texts == [
        f"app: the secret CERT expires in {days} days, on 2026-08-30" for days in (29, 28)
    ]


def test_nothing_is_left_to_be_done_when_the_proxy_has_stopped() -> None:
    run = Run(None, own()).boot()
    run.use(None)
    with Log():
        run.deploy(make("other"))
        run.reload()
    run.controller.close()
    assert run.clock.getDelayedCalls() == []


# Restarts.


def restarted(run: Run, pair: Pair | None, *file: Service) -> Run:
    return Run(run.store, *file, pair=pair)


def test_a_restart_reads_the_secrets_again_without_delaying_the_first_request() -> None:
    run = Run().boot()
    run.deploy(own())
    again = restarted(run, NEW)
    again.threads.at_once = False
    again.boot()
    assert again.serves == [(A,)]
    assert again.tls == {"app.example": None}
    results: list[Any] = []
    again.certificates.wanted("app.example").addBoth(results.append)
    assert results == []
    again.threads.run()
    assert results == [None]
    assert again.tls == {"app.example": NEW.chain}


def test_a_restart_serves_everything_else_when_secrets_are_gone_and_tries_again() -> None:
    run = Run().boot()
    run.deploy(own())
    run.deploy(make("other", B))
    again = restarted(run, None)
    with Log() as log:
        again.boot()
        assert again.serves == [(A,), (B,)]
        assert again.tls == {"app.example": None}
        assert log.texts == [
            "deployment failed: app: the secret CERT is neither in  nor in the environment"
        ]
        again.clock.advance(RETRY)
        again.clock.advance(RETRY)
        assert len(log.texts) == 1
    results: list[Any] = []
    again.certificates.wanted("app.example").addErrback(results.append)
    assert len(results) == 1
    again.use(NEW)
    again.clock.advance(RETRY)
    assert again.tls == {"app.example": NEW.chain}
    again.clock.advance(RETRY)
    assert again.controller.describe()[0]["certificates"][0]["failure"] == ""


def test_a_first_start_with_bad_secrets_serves_the_rest() -> None:
    run = Run(None, own(), make("other", B), pair=None)
    with Log() as log:
        run.boot()
    assert len(log.texts) == 1
    assert run.plane.serving == {"app": (A,), "other": (B,)}
    run.use(NEW)
    assert run.reload() == []
    assert run.tls == {"app.example": NEW.chain}


def test_files_that_were_deployed_by_command_are_read_again_too(tmp_path: Path) -> None:
    from kproxy.control.options import deployed, unconfigured

    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_text(OLD.chain)
    key.write_text(OLD.key)
    options = {
        "target": ["a:1"],
        "host": ["app.example"],
        "tls": True,
        "tls_certificate_path": str(certificate),
        "tls_private_key_path": str(key),
    }
    run = Run().boot()
    run.deploy(deployed(unconfigured("app"), options))
    assert run.tls == {"app.example": OLD.chain}
    again = restarted(run, None).boot()
    assert again.tls == {"app.example": OLD.chain}


def test_the_state_names_secrets_and_does_not_hold_them() -> None:
    run = Run().boot()
    run.deploy(own())
    (record,) = run.store.state.records
    assert record.service.ssl == CertificateSecrets("CERT", "KEY")
    assert isinstance(run.store.state, State)
