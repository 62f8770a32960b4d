"""Several servers with one store: they answer for each other, and order once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from kproxy.config.model import Acme
from kproxy.snapshot import HTTPChallenge
from kproxy.threads import at_once
from kproxy.tls.acme.automatic import AutomaticCertificates
from kproxy.tls.acme.errors import ChallengeFailed, Unreachable
from kproxy.tls.acme.responders import HTTPResponder, TLSResponder
from kproxy.tls.acme.sharing import LIFE, LOOK_EVERY, SPREADING, Announced, Challenge, Neighbours
from kproxy.tls.acme.store import FolderStore
from tests.unit.tls.acme.fake_ca import NOW, FakeCA, outcome

DIRECTORY = "https://ca.test/dir"
HOUR = 3600.0
CHALLENGE: Any = SimpleNamespace(encode=lambda field: "token")
FOUND = Challenge("http-01", "a.test", "t", "t.x")
RESPONSE: Any = SimpleNamespace(key_authorization="token.thumbprint")


def write(store: FolderStore, challenge: Challenge) -> Deferred[None]:
    return store.write_note("challenge", challenge.note_name(), challenge.note(NOW))


class World:
    """Two servers, one store, one CA, one clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.ca = FakeCA(self.clock)
        self.folder = folder
        self.servers: list[AutomaticCertificates] = []

    def store(self) -> FolderStore:
        return FolderStore(self.folder / "shared", DIRECTORY, self.clock, at_once)

    def server(self, *names: str, **acme: Any) -> AutomaticCertificates:
        number = len(self.servers)
        own = self.folder / f"own-{number}"
        automatic = AutomaticCertificates(
            Acme(directory=DIRECTORY, **acme),
            own,
            self.clock,
            at_once,
            lambda: None,
            shared=self.store(),
            make_client=self.ca.client,
            random=lambda: number / 10,
        )
        self.servers.append(automatic)
        automatic.want(names)
        automatic.start()
        return automatic

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([15.0] * int(seconds // 15 + 1))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# One order.


def test_whoever_is_first_orders_and_the_others_have_that(world: World) -> None:
    world.ca.held = {}
    one, two = world.server("a.test"), world.server("a.test")
    world.ca.held["a.test"].callback(None)
    world.pass_time(1)
    assert one.certificate("a.test") == two.certificate("a.test") is not None
    assert world.ca.orders == ["a.test"]


def test_a_renewal_by_one_is_taken_by_the_others_when_theirs_is_due(world: World) -> None:
    world.ca.life = 3 * HOUR
    one, two = world.server("a.test"), world.server("a.test")
    old = one.certificate("a.test")
    assert old == two.certificate("a.test")
    world.pass_time(2.2 * HOUR)
    assert old != one.certificate("a.test") == two.certificate("a.test")
    assert world.ca.orders == ["a.test"] * 2


def refused(name: str = "a.test", retry_after: float | None = None) -> ChallengeFailed:
    return ChallengeFailed("no", subproblems=((name, "wrong answer"),), retry_after=retry_after)


def test_what_one_has_failed_at_the_others_do_not_try_at_once(world: World) -> None:
    world.ca.refuse["a.test"] = refused()
    servers = [world.server("a.test") for _ in range(5)]
    assert world.ca.orders == ["a.test"]
    assert "wrong answer" in servers[0].status("a.test").failure
    for each in servers[1:]:
        assert "another server has tried: " in each.status("a.test").failure
        assert "wrong answer" in each.status("a.test").failure


def test_together_they_try_no_more_often_than_one(world: World) -> None:
    world.ca.refuse["a.test"] = refused()
    for _ in range(5):
        world.server("a.test")
    world.pass_time(2 * HOUR)
    # At once, and after 1, 3, 7, 15, 31, 63 minutes.
    assert len(world.ca.orders) <= 7


def test_once_it_works_all_have_it(world: World) -> None:
    world.ca.refuse["a.test"] = refused()
    servers = [world.server("a.test") for _ in range(3)]
    world.ca.refuse.clear()
    world.pass_time(120)
    assert {each.status("a.test").failure for each in servers} == {""}
    assert len({each.certificate("a.test") for each in servers}) == 1
    assert world.ca.orders == ["a.test"] * 2
    assert outcome(world.store().notes("failure")) == [{}]


def test_an_operator_need_not_wait_for_what_others_have_failed_at(world: World) -> None:
    world.ca.refuse["a.test"] = refused()
    one, two = world.server("a.test"), world.server("a.test")
    world.ca.refuse.clear()
    two.retry("a.test")
    assert two.certificate("a.test") is not None
    assert one.certificate("a.test") is None
    one.retry("a.test")
    assert one.certificate("a.test") == two.certificate("a.test")
    assert world.ca.orders == ["a.test"] * 2


def test_what_was_put_right_in_the_configuration_is_tried_at_once(world: World) -> None:
    world.ca.refuse["a.test"] = refused()
    world.server("a.test")
    world.ca.refuse.clear()
    two = world.server("a.test", challenges=("dns-01",))
    assert two.certificate("a.test") is not None


def test_a_ca_that_is_down_is_found_out_by_each(world: World) -> None:
    world.ca.refuse["*"] = Unreachable("connection refused")
    for _ in range(2):
        world.server("a.test")
    assert world.ca.orders == ["a.test"] * 2
    assert outcome(world.store().notes("failure")) == [{}]


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"why": "x"}', '{"until": "x"}'])
def test_a_note_that_makes_no_sense_is_no_reason_to_wait(world: World, text: str) -> None:
    outcome(world.store().write_note("failure", "a.test", text))
    assert world.server("a.test").certificate("a.test") is not None


def test_they_have_one_account(world: World) -> None:
    world.server("a.test")
    world.server("b.test")
    assert world.ca.accounts == [None]


def test_a_store_that_is_down_is_said_and_no_ca_is_asked(world: World) -> None:
    (world.folder / "shared").write_text("in the way")
    one = world.server("a.test")
    assert "certificates can't be read" in one.status("a.test").failure
    assert world.ca.orders == []
    (world.folder / "shared").unlink()
    world.pass_time(120)
    assert one.certificate("a.test") is not None


# Challenges.


def test_what_one_wants_to_be_found_is_found_at_the_others_before_the_ca_looks(
    world: World,
) -> None:
    two = world.server()
    http = HTTPResponder(lambda: None)
    announced = Announced(http, world.store(), world.clock, set())
    begun = outcome(announced.start_responding("a.test", CHALLENGE, RESPONSE))
    assert http.challenges() == (HTTPChallenge("token", "token.thumbprint"),)
    assert (begun, two.http_challenges()) == ([], ())
    world.clock.pump([LOOK_EVERY])
    assert (begun, two.http_challenges()) == ([], http.challenges())
    world.clock.pump([SPREADING])
    assert begun == [None]
    outcome(announced.stop_responding("a.test", CHALLENGE, RESPONSE))
    world.clock.pump([LOOK_EVERY])
    assert http.challenges() == two.http_challenges() == ()


def test_the_same_goes_for_tls_alpn_01(world: World) -> None:
    two = world.server()
    tls = TLSResponder(lambda: None, two._now)
    announced = Announced(tls, world.store(), world.clock, set())
    outcome(announced.start_responding("a.test", CHALLENGE, RESPONSE))
    world.clock.pump([LOOK_EVERY])
    (mine,), (theirs,) = tls.challenges(), two.tls_challenges()
    assert theirs.name == "a.test"
    proofs = [
        x509.load_pem_x509_certificate(each.certificate.chain.encode())
        .extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
        .value
        for each in (mine, theirs)
    ]
    assert proofs[0] == proofs[1]
    world.clock.pump([LOOK_EVERY] * 5)
    assert two.tls_challenges() == (theirs,)


def test_a_challenge_of_ones_own_is_no_news(world: World) -> None:
    ours: set[Challenge] = set()
    changes: list[None] = []
    neighbours = Neighbours(world.store(), world.clock, lambda: changes.append(None), ours)
    neighbours.start()
    announced = Announced(HTTPResponder(lambda: None), world.store(), world.clock, ours)
    outcome(announced.start_responding("a.test", CHALLENGE, RESPONSE))
    world.clock.pump([LOOK_EVERY] * 3)
    outcome(announced.stop_responding("a.test", CHALLENGE, RESPONSE))
    world.clock.pump([LOOK_EVERY] * 3)
    assert (neighbours.http_challenges(), changes, ours) == ((), [], set())


def test_what_somebody_left_who_died_is_forgotten_after_an_hour(world: World) -> None:
    two = world.server()
    outcome(write(world.store(), FOUND))
    world.clock.advance(LOOK_EVERY)
    assert two.http_challenges() == (HTTPChallenge("t", "t.x"),)
    world.clock.advance(LIFE)
    assert two.http_challenges() == ()


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "{}", '{"until": 2e9}', '{"until": "x"}'])
def test_a_note_that_makes_no_sense_does_not_hide_the_others(world: World, text: str) -> None:
    two = world.server()
    outcome(world.store().write_note("challenge", "http-01.b.test", text))
    outcome(write(world.store(), FOUND))
    world.clock.advance(LOOK_EVERY)
    assert two.http_challenges() == (HTTPChallenge("t", "t.x"),)


class Failing:
    """A store that can't be reached."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: fail(OSError("no route"))


def test_that_the_others_can_not_be_told_is_why_a_certificate_is_not_had(world: World) -> None:
    store: Any = Failing()
    http = HTTPResponder(lambda: None)
    announced = Announced(http, store, world.clock, set())
    begun = outcome(announced.start_responding("a.test", CHALLENGE, RESPONSE))
    assert begun == ["other servers can't be told of it: no route"]
    outcome(announced.stop_responding("a.test", CHALLENGE, RESPONSE))
    assert http.challenges() == ()


def test_a_store_that_can_not_be_read_is_told_once_and_asked_again() -> None:
    clock = Clock()
    answers: list[Deferred[Any]] = [
        *(fail(OSError("no route")) for _ in range(3)),
        *(succeed({"x": FOUND.note(0.0)}) for _ in range(2)),
    ]
    store: Any = SimpleNamespace(notes=lambda kind: answers.pop(0))
    neighbours = Neighbours(store, clock, lambda: None, set())
    with capturedLogs() as logs:
        neighbours.start()
        clock.pump([LOOK_EVERY] * 3)
    assert neighbours.http_challenges() == (HTTPChallenge("t", "t.x"),)
    assert [event["error"] for event in logs if "error" in event] == ["no route"]


def test_a_change_that_can_not_be_served_does_not_end_the_looking(world: World) -> None:
    def broken() -> None:
        raise RuntimeError("a wrapper failed")

    neighbours = Neighbours(world.store(), world.clock, broken, set())
    neighbours.start()
    with capturedLogs() as logs:
        for kind in ("http-01", "tls-alpn-01"):
            outcome(write(world.store(), Challenge(kind, "a.test", "t", "t.x")))
            world.clock.pump([LOOK_EVERY])
    assert (len(neighbours.http_challenges()), len(neighbours.tls_challenges())) == (1, 1)
    assert len([event for event in logs if "log_failure" in event]) == 2


def test_what_is_read_while_the_end_comes_changes_nothing() -> None:
    answer: Deferred[Any] = Deferred()
    store: Any = SimpleNamespace(notes=lambda kind: answer)
    changes: list[None] = []
    neighbours = Neighbours(store, Clock(), lambda: changes.append(None), set())
    neighbours.start()
    neighbours.stop()
    answer.callback({"x": FOUND.note(0.0)})
    assert changes == []


def test_nobody_looks_any_more_after_the_end(world: World) -> None:
    one = world.server("a.test")
    outcome(one.stop())
    assert world.clock.getDelayedCalls() == []
