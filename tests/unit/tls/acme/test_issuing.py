"""Which certificate is ordered when: time, back-off, and how much goes on at once.

The CA is a fake at the seam of the client, the store and the certificates are real.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from kproxy.config.model import Acme
from kproxy.snapshot import Certificate
from kproxy.threads import at_once
from kproxy.tls.acme.automatic import AutomaticCertificates
from kproxy.tls.acme.client import RenewalWindow
from kproxy.tls.acme.errors import RATE_LIMITED, URN, AcmeError, ChallengeFailed, Unreachable
from kproxy.tls.acme.store import FolderStore
from tests.unit.tls.acme.fake_ca import DAY, NOW, FakeCA, outcome

CHECK = 15
REFUSED = ChallengeFailed("no", subproblems=(("a.test", "wrong answer"),))
DIRECTORY = "https://ca.test/dir"


class World:
    """One proxy after the other, with one store, one CA, one clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.ca = FakeCA(self.clock)
        self.folder = folder
        self.store = FolderStore(folder, DIRECTORY, self.clock, at_once)
        self.published = 0
        self.acme = Acme(directory=DIRECTORY)

    def start(self, *names: str, **options: Any) -> AutomaticCertificates:
        def changed() -> None:
            self.published += 1

        options = {"random": lambda: 0.0, **options}
        automatic = AutomaticCertificates(
            self.acme,
            self.folder,
            self.clock,
            at_once,
            changed,
            make_client=self.ca.client,
            **options,
        )
        automatic.want(names)
        automatic.start()
        return automatic

    def pass_time(self, seconds: float) -> None:
        """In steps that are shorter than the time between two checks."""
        steps = int(seconds // CHECK)
        self.clock.pump([CHECK] * steps)
        self.clock.advance(seconds - steps * CHECK)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "acme")


def certificate(automatic: AutomaticCertificates, name: str) -> Certificate:
    found = automatic.certificate(name)
    assert found is not None
    return found


def window(start: float, end: float, retry_after: float = 6 * 3600.0) -> RenewalWindow:
    times = [datetime.fromtimestamp(each, timezone.utc) for each in (start, end)]
    return RenewalWindow(times[0], times[1], "", retry_after)


def levels(work: Callable[[], object]) -> list[str]:
    """The levels of what some work logs."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        found.append(event["log_level"].name)

    globalLogPublisher.addObserver(observe)
    try:
        work()
    finally:
        globalLogPublisher.removeObserver(observe)
    return found


# Orders.


def test_nothing_is_asked_before_the_start(world: World) -> None:
    automatic = AutomaticCertificates(
        world.acme, world.folder, world.clock, at_once, lambda: None, make_client=world.ca.client
    )
    automatic.want(["a.test"])
    assert outcome(automatic.obtain("a.test")) == ["the proxy is stopping"]
    assert world.ca.orders == world.ca.accounts == []
    assert not world.folder.exists()


def test_no_more_than_four_orders_are_open_at_once(world: World) -> None:
    world.ca.held = {}
    world.start(*(f"{number}.test" for number in range(10)))
    assert len(world.ca.orders) == 4
    world.ca.held["0.test"].callback(None)
    assert len(world.ca.orders) == 5
    for _ in range(2):
        for waiting in list(world.ca.held.values()):
            if not waiting.called:
                waiting.callback(None)
    assert sorted(world.ca.orders) == [f"{number}.test" for number in range(10)]


def test_orders_that_end_at_once_do_not_pile_up(world: World) -> None:
    automatic = world.start(*(f"{number}.test" for number in range(250)))
    assert all(automatic.certificate(f"{number}.test") for number in range(250))


def test_a_name_that_a_visitor_waits_for_is_ordered_first(world: World) -> None:
    world.ca.held = {}
    automatic = world.start(*(f"{number}.test" for number in range(10)))
    got = outcome(automatic.obtain("9.test"))
    world.ca.held["0.test"].callback(None)
    assert world.ca.orders[4] == "9.test"
    assert got == []
    world.ca.held["9.test"].callback(None)
    assert got == [None]


def test_a_new_certificate_is_announced_before_a_visitor_goes_on(world: World) -> None:
    world.ca.held = {}
    automatic = world.start("a.test")
    seen: list[int] = []
    automatic.obtain("a.test").addCallback(lambda _: seen.append(world.published))
    assert world.published == 0
    world.ca.held["a.test"].callback(None)
    assert seen == [1]


def test_the_account_is_had_once_for_all_names(world: World) -> None:
    world.acme = Acme(directory=DIRECTORY, email="ops@a.test")
    world.start(*(f"{number}.test" for number in range(10)))
    assert world.ca.accounts == ["ops@a.test"]


def test_another_address_is_told_to_the_ca(world: World) -> None:
    world.acme = Acme(directory=DIRECTORY, email="ops@a.test")
    world.start("a.test").stop()
    world.start("a.test", "b.test").stop()
    world.acme = Acme(directory=DIRECTORY, email="boss@a.test")
    world.start("a.test", "b.test", "c.test")
    assert world.ca.accounts == ["ops@a.test", "boss@a.test"]


def test_a_service_that_goes_while_its_certificate_is_ordered_leaves_no_trace(
    world: World,
) -> None:
    world.ca.held = {}
    automatic = world.start("a.test")
    got = outcome(automatic.obtain("a.test"))
    automatic.want([])
    assert got == ["it is not wanted any more"]
    world.ca.held["a.test"].callback(None)
    assert automatic.certificate("a.test") is None
    assert automatic.names() == ()
    # What was paid for is kept all the same.
    world.ca.held = None
    automatic.want(["a.test"])
    assert automatic.certificate("a.test") is not None
    assert world.ca.orders == ["a.test"]


def test_with_many_names_a_restart_finds_all_certificates(world: World) -> None:
    names = [f"{number}.test" for number in range(40)]
    before = world.start(*names)
    found = [certificate(before, name) for name in names]
    before.stop()
    after = world.start(*names)
    assert [certificate(after, name) for name in names] == found
    assert len(world.ca.orders) == 40


def test_a_certificate_that_has_ended_is_not_served_after_a_restart_but_replaced(
    world: World,
) -> None:
    world.start("a.test").stop()
    world.clock.advance(91 * DAY)
    world.ca.held = {}
    automatic = world.start("a.test")
    assert automatic.certificate("a.test") is None
    got = outcome(automatic.obtain("a.test"))
    world.ca.held["a.test"].callback(None)
    assert got == [None]


def test_a_certificate_that_cannot_be_kept_is_used_all_the_same(world: World) -> None:
    automatic = world.start()
    (world.store.folder / "certificates" / "a.test.pem.new").mkdir()
    logged = levels(lambda: automatic.want(["a.test"]))
    assert automatic.certificate("a.test") is not None
    assert "error" in logged
    world.pass_time(3600)
    assert world.ca.orders == ["a.test"]


def test_the_end_breaks_off_what_is_under_way(world: World) -> None:
    world.ca.held = {}
    automatic = world.start("a.test")
    got = outcome(automatic.obtain("a.test"))
    stopped = outcome(automatic.stop())
    assert stopped == [None]
    assert got == ["the proxy is stopping"]
    assert world.clock.getDelayedCalls() == []
    assert list((world.store.folder / "locks").iterdir()) == []
    # It has not failed, and is tried at once the next time.
    world.ca.held = None
    assert certificate(world.start("a.test"), "a.test")


def test_when_certs_valid_tells_that_everything_has_been_tried(world: World) -> None:
    world.ca.held = {}
    world.ca.refuse["a.test"] = REFUSED
    automatic = world.start("a.test", "b.test")
    tried = outcome(automatic._service.when_certs_valid())
    world.ca.held["a.test"].callback(None)
    assert tried == []
    world.ca.held["b.test"].callback(None)
    assert tried == [None]


# Failures.


def test_a_name_that_fails_is_tried_again_after_a_minute_two_four(world: World) -> None:
    world.ca.refuse["a.test"] = REFUSED
    world.start("a.test")
    tries = [len(world.ca.orders)]
    for _ in range(15):
        world.pass_time(60)
        tries.append(len(world.ca.orders))
    assert tries[0] == 1
    # 60, then 120, 240, 480 seconds later, each found by the next check.
    assert [minute for minute in range(1, 16) if tries[minute] > tries[minute - 1]] == [1, 3, 7, 15]


def test_a_visitor_of_a_name_that_failed_is_refused_at_once_with_the_reason(world: World) -> None:
    world.ca.refuse["a.test"] = REFUSED
    automatic = world.start("a.test")
    assert outcome(automatic.obtain("a.test")) == ["no: a.test: wrong answer"]
    assert len(world.ca.orders) == 1
    world.pass_time(45)
    status = automatic.status("a.test")
    assert status.failure == "no: a.test: wrong answer"
    assert status.next_try is not None
    assert status.next_try.timestamp() == NOW + 60


def test_a_visitor_after_the_wait_begins_a_new_try(world: World) -> None:
    world.ca.refuse["a.test"] = REFUSED
    automatic = world.start("a.test")
    world.clock.advance(0.5)
    world.pass_time(45)
    del world.ca.refuse["a.test"]
    world.clock.advance(14.6)
    assert outcome(automatic.obtain("a.test")) == [None]


def test_after_success_nothing_is_said_of_failures(world: World) -> None:
    world.ca.refuse["a.test"] = REFUSED
    automatic = world.start("a.test")
    del world.ca.refuse["a.test"]
    world.pass_time(75)
    assert automatic.status("a.test").failure == ""
    automatic.stop()
    assert world.start("a.test").status("a.test").failure == ""


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("no route"),
        AcmeError("busy", status=503),
        AcmeError("who are you?", type=URN + "accountDoesNotExist", status=400),
        AcmeError("new terms", type=URN + "userActionRequired", status=403),
    ],
)
def test_what_is_not_about_a_name_stops_all_orders(world: World, error: AcmeError) -> None:
    world.ca.refuse["*"] = error
    automatic = world.start(*(f"{number}.test" for number in range(20)))
    assert len(world.ca.orders) <= 4
    assert outcome(automatic.obtain("19.test")) == [str(error)]
    begun = len(world.ca.orders)
    world.pass_time(3600)
    # One at a time, after 1, 3, 7, 15 and 31 minutes.
    assert len(world.ca.orders) == begun + 5
    del world.ca.refuse["*"]
    world.pass_time(3600)
    assert all(automatic.certificate(f"{number}.test") for number in range(20))


def test_what_the_store_has_is_served_while_the_ca_is_left_alone(world: World) -> None:
    before = world.start("b.test")
    kept = certificate(before, "b.test")
    outcome(before.stop())
    world.ca.refuse = {"*": Unreachable("it is down")}
    automatic = world.start("a.test")
    automatic.want(["a.test", "b.test"])
    assert certificate(automatic, "b.test") == kept
    assert world.ca.orders == ["b.test", "a.test"]


def test_an_account_that_is_refused_is_not_asked_for_by_every_name(world: World) -> None:
    world.ca.refuse_accounts = AcmeError("customers only", type=URN + "externalAccountRequired")
    automatic = world.start(*(f"{number}.test" for number in range(20)))
    assert len(world.ca.accounts) == 1
    assert automatic.status("7.test").failure == "customers only (externalAccountRequired)"
    world.pass_time(59)
    assert len(world.ca.accounts) == 1


def test_the_ca_is_left_alone_as_long_as_it_asks_for(world: World) -> None:
    world.ca.refuse_accounts = AcmeError("slow down", type=RATE_LIMITED, retry_after=7200)
    world.start("a.test")
    world.pass_time(7199)
    assert len(world.ca.accounts) == 1
    world.pass_time(16)
    assert len(world.ca.accounts) == 2


def test_a_limit_for_one_name_holds_others_up_for_a_minute_only(world: World) -> None:
    limited = AcmeError("too many for a.test", type=RATE_LIMITED, status=429, retry_after=86400)
    world.ca.refuse["a.test"] = limited
    automatic = world.start("a.test")
    automatic.want(["a.test", "b.test"])
    assert automatic.certificate("b.test") is None
    world.pass_time(75)
    assert automatic.certificate("b.test") is not None
    world.pass_time(DAY - 200)
    assert world.ca.orders.count("a.test") == 1
    world.pass_time(300)
    assert world.ca.orders.count("a.test") == 2


def test_after_trouble_with_the_ca_it_is_made_sure_that_it_knows_us(world: World) -> None:
    world.start("a.test").stop()
    world.ca.refuse["*"] = AcmeError("who?", type=URN + "accountDoesNotExist", status=400)
    automatic = world.start("a.test", "b.test")
    assert len(world.ca.accounts) == 1
    del world.ca.refuse["*"]
    world.pass_time(75)
    assert len(world.ca.accounts) == 2
    assert automatic.certificate("b.test") is not None


def test_the_next_try_begins_with_another_challenge(world: World) -> None:
    world.ca.refuse["a.test"] = REFUSED
    world.start("a.test")
    world.pass_time(300)
    assert world.ca.responders[:3] == [
        ["http-01", "tls-alpn-01"],
        ["tls-alpn-01", "http-01"],
        ["http-01", "tls-alpn-01"],
    ]


def test_a_mistake_of_our_own_is_logged_in_full_and_told_without_details(world: World) -> None:
    world.ca.refuse["a.test"] = RuntimeError("secret detail")
    automatic: list[AutomaticCertificates] = []
    logged = levels(lambda: automatic.append(world.start("a.test")))
    assert "critical" in logged
    failure = automatic[0].status("a.test").failure
    assert "RuntimeError" in failure
    assert "secret detail" not in failure


def test_a_change_that_cannot_be_applied_does_not_stop_the_others(world: World) -> None:
    automatic = AutomaticCertificates(
        world.acme,
        world.folder,
        world.clock,
        at_once,
        _broken,
        make_client=world.ca.client,
    )
    automatic.want(["a.test", "b.test"])
    logged = levels(automatic.start)
    assert "critical" in logged
    assert automatic.certificate("a.test")
    assert automatic.certificate("b.test")


def _broken() -> None:
    raise RuntimeError("a wrapper failed")


# Renewal.


def test_a_certificate_is_renewed_after_two_thirds_of_its_life(world: World) -> None:
    automatic = world.start("a.test")
    old = certificate(automatic, "a.test")
    world.clock.advance(60 * DAY - 60)
    assert certificate(automatic, "a.test") == old
    world.pass_time(90)
    new = certificate(automatic, "a.test")
    assert new != old
    assert world.ca.replaced == [None, old.chain]
    status = automatic.status("a.test")
    assert status.next_try is not None
    assert status.next_try.timestamp() == pytest.approx(NOW + 120 * DAY, abs=120)


def test_renewals_of_many_certificates_are_spread_over_days(world: World) -> None:
    numbers = iter([0.0, 0.25, 0.5, 0.75, 1.0] * 10)
    names = [f"{number}.test" for number in range(5)]
    automatic = world.start(*names, random=lambda: next(numbers))
    due = {automatic.status(name).next_try for name in names}
    assert len(due) == 5


def test_a_renewal_that_fails_leaves_the_old_certificate_in_use(world: World) -> None:
    automatic = world.start("a.test")
    old = certificate(automatic, "a.test")
    world.ca.refuse["a.test"] = REFUSED
    world.clock.advance(61 * DAY)
    assert certificate(automatic, "a.test") == old
    assert outcome(automatic.obtain("a.test")) == [None]
    status = automatic.status("a.test")
    assert status.failure != ""
    assert status.expires is not None


def test_a_renewal_that_fails_near_the_end_is_cause_for_panic(world: World) -> None:
    world.start("a.test")
    world.ca.refuse["a.test"] = REFUSED
    assert "critical" not in levels(lambda: world.clock.advance(61 * DAY))
    assert "critical" in levels(lambda: world.clock.advance(15 * DAY))


def test_the_ca_may_wish_for_an_early_renewal(world: World) -> None:
    world.ca.window = window(NOW + 5 * DAY, NOW + 5 * DAY)
    automatic = world.start("a.test")
    old = certificate(automatic, "a.test")
    world.clock.advance(CHECK)
    status = automatic.status("a.test")
    assert status.next_try is not None
    assert status.next_try.timestamp() == NOW + 5 * DAY
    world.clock.advance(5 * DAY)
    assert certificate(automatic, "a.test") != old


def test_the_ca_may_change_its_mind(world: World) -> None:
    world.ca.window = window(NOW + 60 * DAY, NOW + 60 * DAY, retry_after=3600)
    automatic = world.start("a.test")
    old = certificate(automatic, "a.test")
    world.pass_time(7200)
    assert certificate(automatic, "a.test") == old
    world.ca.window = window(NOW - DAY, NOW)  # it has to revoke it
    world.pass_time(3700)
    assert certificate(automatic, "a.test") != old


def test_the_ca_is_asked_as_often_as_it_wants(world: World) -> None:
    world.ca.window = window(NOW + 60 * DAY, NOW + 61 * DAY, retry_after=6 * 3600)
    world.start("a.test")
    world.pass_time(DAY - 60)
    assert world.ca.asked_for_window == 4


def test_a_ca_without_wishes_is_asked_once_a_day(world: World) -> None:
    automatic = world.start("a.test")
    world.pass_time(DAY + 60)
    assert world.ca.asked_for_window == 2
    status = automatic.status("a.test")
    assert status.next_try is not None
    assert status.next_try.timestamp() == pytest.approx(NOW + 60 * DAY)


def test_a_ca_that_cannot_say_is_asked_again_later_and_it_is_no_failure(world: World) -> None:
    world.ca.window = Unreachable("no route")
    automatic = world.start("a.test")
    world.pass_time(3500)
    assert world.ca.asked_for_window == 1
    assert automatic.status("a.test").failure == ""
    world.pass_time(200)
    assert world.ca.asked_for_window == 2


def test_a_wish_for_a_time_after_the_end_is_not_heeded(world: World) -> None:
    world.ca.window = window(NOW + 400 * DAY, NOW + 401 * DAY)
    automatic = world.start("a.test")
    world.clock.advance(CHECK)
    status = automatic.status("a.test")
    assert status.next_try is not None
    assert status.next_try.timestamp() == pytest.approx(NOW + 60 * DAY)


def test_a_ca_that_wishes_everything_away_at_once_does_not_get_order_after_order(
    world: World,
) -> None:
    world.ca.window = window(NOW - 2 * DAY, NOW - DAY, retry_after=60)
    world.start("a.test")
    world.pass_time(2 * 3600)
    assert len(world.ca.orders) <= 3


def test_certificates_that_live_for_an_hour_are_renewed_in_time(world: World) -> None:
    world.ca.life = 3600
    automatic = world.start("a.test")
    for _ in range(12):
        world.pass_time(1800)
        status = automatic.status("a.test")
        assert status.expires is not None
        assert status.expires.timestamp() > world.clock.seconds()
    assert 8 <= len(world.ca.orders) <= 11


# Several servers with one store.


def test_what_another_server_got_is_used_without_an_order(world: World) -> None:
    first = world.start("a.test")
    second = world.start()
    first.stop()
    second.want(["a.test"])
    assert certificate(second, "a.test") == certificate(first, "a.test")
    assert len(world.ca.orders) == 1


def test_what_another_server_renewed_is_used_without_an_order(world: World) -> None:
    first, second = world.start("a.test"), world.start("a.test")
    world.clock.advance(60 * DAY)
    world.clock.pump([1] * 5)
    assert certificate(first, "a.test") == certificate(second, "a.test")
    assert len(world.ca.orders) == 2


def test_servers_that_share_a_store_share_the_account(world: World) -> None:
    world.start("a.test")
    world.start("b.test")
    assert len(world.ca.accounts) == 1


# On demand, as far as nobody is asked.


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "a..b", "x" * 300, "*.a.test", ""])
def test_nonsense_gets_no_certificate_on_demand_and_nobody_is_asked(
    world: World, name: str
) -> None:
    asked: list[str] = []

    def url(name: str) -> str:
        asked.append(name)
        return "http://127.0.0.1:1/"

    automatic = world.start(on_demand_url=url)
    (why,) = outcome(automatic.obtain(name))
    assert "host name" in why or "address" in why
    assert asked == world.ca.orders == []
    assert automatic.names() == ()


def test_without_an_address_to_ask_no_name_gets_a_certificate_on_demand(world: World) -> None:
    automatic = world.start("a.test")
    assert outcome(automatic.obtain("b.test")) == ["it is not one of ours"]
    assert automatic.names() == ("a.test",)


def test_there_is_a_limit_to_new_names_in_a_minute(world: World) -> None:
    automatic = world.start(on_demand_url=lambda name: "http://app.test/")
    allow(automatic)
    answers = [outcome(automatic.obtain(f"{number}.a.test")) for number in range(31)]
    assert answers == [[None]] * 30 + [["too many new names"]]
    # Those that there is a certificate for are not new.
    automatic.stop()
    again = world.start(on_demand_url=lambda name: "http://app.test/")
    assert [outcome(again.obtain(f"{n}.a.test")) for n in range(30)] == [[None]] * 30
    world.clock.advance(60)
    allow(again)
    assert outcome(again.obtain("31.a.test")) == [None]


def test_while_the_ca_is_left_alone_names_on_demand_are_refused_unasked(world: World) -> None:
    world.ca.refuse["*"] = Unreachable("it is down")
    automatic = world.start("a.test", on_demand_url=lambda name: "http://app.test/")
    asked = allow(automatic)
    assert outcome(automatic.obtain("b.test")) == ["it is down"]
    assert asked == []
    assert list(automatic._service.names) == ["a.test"]


def test_names_on_demand_that_wait_for_their_turn_are_forgotten_when_the_ca_fails(
    world: World,
) -> None:
    world.ca.held = {}
    automatic = world.start(on_demand_url=lambda name: "http://app.test/")
    allow(automatic)
    answers = [outcome(automatic.obtain(f"{number}.a.test")) for number in range(6)]
    world.ca.held["0.a.test"].errback(Unreachable("it is down"))
    assert answers == [["it is down"], [], [], [], ["it is down"], ["it is down"]]
    assert list(automatic._service.names) == [f"{number}.a.test" for number in (1, 2, 3)]


def allow(automatic: AutomaticCertificates) -> list[str]:
    """As if the application allowed everything; for what it is asked."""
    asked: list[str] = []

    async def ask(name: str) -> None:
        asked.append(name)

    automatic._on_demand.ask = ask  # type: ignore[method-assign]
    automatic._service._permitted = ask
    return asked
