"""What should run, and how the data plane is brought there."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from kproxy.config.model import Configuration, Service
from kproxy.control.controller import Controller
from kproxy.control.deployment import DeploymentFailed
from kproxy.control.progress import Event, Tell, untold
from kproxy.control.saving import SAVE_AFTER
from kproxy.control.serving import REST, HostInUse
from kproxy.dataplane import TargetReport
from kproxy.snapshot import Snapshot, Split
from tests.unit.control.support import A, B, C, Log, Plane, Targets, service


class Case:
    """A controller between its targets and its data plane."""

    def __init__(self, *services: Service, up: Any = (), trace: Any = None) -> None:
        self.clock = Clock()
        self.targets = Targets(self.clock)
        self.plane = Plane()
        self.controller = Controller(self.plane, self.clock, self.targets.ask, trace)
        self.say(*up)
        self.controller.boot(services)
        self.pass_time(0)

    def say(self, *up: Any, down: Any = ()) -> None:
        """Which targets are healthy from now on, and which are not."""
        self.targets.answers.update(dict.fromkeys(up, 200))
        self.targets.answers.update(dict.fromkeys(down, 500))

    def pass_time(self, seconds: int) -> None:
        self.clock.advance(0)
        for _ in range(seconds):
            self.clock.advance(1)
            self.clock.advance(0)

    def reload(self, *services: Service) -> list[Any]:
        """What the reload's Deferred fires with."""
        return self.result_of(self.controller.reload(Configuration(services=services)))

    def deploy(self, wanted: Service, tell: Tell = untold) -> list[Any]:
        return self.result_of(self.controller.deploy(wanted, tell))

    def result_of(self, done: Deferred[Any]) -> list[Any]:
        results: list[Any] = []
        done.addBoth(results.append)
        self.clock.advance(0)
        return results


# Boot.


def test_services_are_known_at_once_and_served_when_a_target_is_healthy() -> None:
    case = Case(service("one", A), service("two", B))
    assert case.plane.snapshots[0].services
    assert case.plane.serving == {"one": (), "two": ()}
    case.targets.waiting[0][1].callback(200)
    case.pass_time(0)
    assert case.plane.serving == {"one": (A,), "two": ()}


def test_while_publishing_takes_long_news_of_health_is_collected() -> None:
    case = Case()
    spent = 0.0

    class Slow(Plane):
        def apply(self, snapshot: Snapshot) -> None:
            nonlocal spent
            spent += 0.5
            super().apply(snapshot)

    plane = Slow()
    controller = Controller(
        plane, case.clock, case.targets.ask, elapsed=lambda: case.clock.seconds() + spent
    )
    controller.boot([service("one", A), service("two", B), service("three", C)])
    asked = [deferred for _, deferred in case.targets.waiting]
    asked[0].callback(200)
    case.clock.advance(0)
    assert plane.serving == {"one": (A,), "two": (), "three": ()}
    count = len(plane.snapshots)
    for each in asked[1:]:
        each.callback(200)
        case.clock.advance(0.1)
    assert len(plane.snapshots) == count
    case.clock.advance(REST * 0.5)
    assert plane.serving == {"one": (A,), "two": (B,), "three": (C,)}
    assert len(plane.snapshots) == count + 1


def test_with_several_targets_the_ones_that_are_up_serve() -> None:
    case = Case(service("app", A, B, C), up=(B,))
    assert case.plane.serving == {"app": (B,)}
    case.say(C)
    case.targets.waiting[1][1].callback(200)
    case.pass_time(0)
    assert case.plane.serving == {"app": (B, C)}


def test_what_changes_together_is_published_together() -> None:
    case = Case(service("one", A), service("two", B), service("three", C), up=(A, B, C))
    assert case.plane.serving == {"one": (A,), "two": (B,), "three": (C,)}
    assert len(case.plane.snapshots) <= 3


def test_a_service_that_has_not_changed_keeps_its_place_in_the_snapshot() -> None:
    case = Case(service("one", A), service("two", B), up=(A,))
    before = case.plane.snapshots[-1].services[0]
    case.targets.waiting[0][1].callback(200)
    case.pass_time(0)
    after = case.plane.snapshots[-1].services
    assert after[0] is before
    assert after[1].healthy == (B,)


def test_a_service_that_does_not_come_up_in_time_is_reported_once_and_tried_on() -> None:
    with Log() as log:
        case = Case(service("app", A, deploy_timeout=5.0))
        case.say(down=(A,))
        case.targets.waiting[0][1].callback(500)
        case.pass_time(4)
        assert log.texts == []
        case.pass_time(20)
    (text,) = log.texts
    assert text == "app is not healthy after 5 s, and is tried on: a:1: it answered 500 to /up"
    case.say(A)
    case.pass_time(1)
    assert case.plane.serving == {"app": (A,)}


def test_a_service_that_is_up_in_time_is_not_reported() -> None:
    with Log() as log:
        case = Case(service("app", A, deploy_timeout=5.0), up=(A,))
        case.pass_time(20)
    assert log.texts == []


def test_a_service_with_some_targets_down_is_reported_too() -> None:
    with Log() as log:
        case = Case(service("app", A, B, deploy_timeout=5.0), up=(A,))
        case.pass_time(20)
    assert log.texts == ["app is not healthy after 5 s, and is tried on: b:1: no answer yet"]
    assert case.plane.serving == {"app": (A,)}


# Health in daily life.


def test_one_target_is_not_checked_any_more_once_it_is_healthy() -> None:
    case = Case(service(), up=(A,))
    case.say(down=(A,))
    case.pass_time(10)
    assert case.targets.times(A) == [0]
    assert case.plane.serving == {"app": (A,)}


def test_one_of_several_leaves_the_rotation_and_comes_back() -> None:
    case = Case(service("app", A, B), up=(A, B))
    assert case.plane.serving == {"app": (A, B)}
    case.say(down=(A,))
    case.pass_time(1)
    assert case.plane.serving == {"app": (B,)}
    case.say(A)
    case.pass_time(1)
    assert case.plane.serving == {"app": (A, B)}


def test_all_of_several_may_be_down() -> None:
    case = Case(service("app", A, B), up=(A, B))
    case.say(down=(A, B))
    case.pass_time(1)
    assert case.plane.serving == {"app": ()}


# Deployments.


def test_a_deployment_switches_when_the_new_targets_are_healthy_and_drains_the_old() -> None:
    case = Case(service("app", A, drain_timeout=7.0), up=(A,))
    case.plane.drained_at_once = False
    results = case.deploy(service("app", B, drain_timeout=9.0))
    case.pass_time(3)
    assert case.plane.serving == {"app": (A,)}
    case.say(B)
    case.targets.waiting[0][1].callback(200)
    case.pass_time(0)
    assert case.plane.serving == {"app": (B,)}
    assert case.plane.drains == [("app", (A,), 9.0)]
    assert results == []
    case.plane.draining[0].callback(None)
    assert results == [None]


def test_targets_that_stay_are_not_drained() -> None:
    case = Case(service("app", A, B), up=(A, B, C))
    results = case.deploy(service("app", B, C))
    assert results == [None]
    assert case.plane.serving == {"app": (B, C)}
    assert [targets for _, targets, _ in case.plane.drains] == [(A,)]


def test_old_targets_are_not_checked_any_more() -> None:
    case = Case(service("app", A, B), up=(A, B, C))
    case.deploy(service("app", C))
    asked = len(case.targets.times(A))
    case.pass_time(5)
    assert len(case.targets.times(A)) == asked


def test_a_deployment_that_fails_leaves_the_old_serving() -> None:
    case = Case(service("app", A, B), up=(A, B))
    case.say(down=(C,))
    results = case.deploy(service("app", C, deploy_timeout=5.0))
    case.pass_time(5)
    (failure,) = results
    assert failure.check(DeploymentFailed)
    assert "c:1: it answered 500 to /up" in str(failure.value)
    assert case.plane.serving == {"app": (A, B)}
    assert case.plane.drains == []
    # Its health is minded as before.
    case.say(down=(A,))
    case.pass_time(1)
    assert case.plane.serving == {"app": (B,)}
    asked = len(case.targets.times(C))
    case.pass_time(3)
    assert len(case.targets.times(C)) == asked


def test_a_service_that_the_data_plane_refuses_leaves_the_old_serving() -> None:
    case = Case(service("app", A), up=(A, B))
    case.plane.refuses = ValueError("a wrapper does not take its options")
    results = case.deploy(service("app", B))
    (failure,) = results
    assert failure.check(DeploymentFailed)
    assert str(failure.value) == "app: a wrapper does not take its options"
    case.plane.refuses = None
    case.controller.publish()
    assert case.plane.serving == {"app": (A,)}


def test_a_new_service_that_the_data_plane_refuses_is_not_there() -> None:
    case = Case(service("app", A), up=(A, B))
    case.plane.refuses = ValueError("no")
    assert case.deploy(service("new", B))[0].check(DeploymentFailed)
    case.plane.refuses = None
    case.controller.publish()
    assert case.plane.serving == {"app": (A,)}


def test_news_of_a_target_are_served_although_a_change_meanwhile_is_refused() -> None:
    case = Case(service("app", A, B), up=(A, B))
    results: list[Any] = []
    case.plane.target_refused("app", A)
    case.plane.refuses = ValueError("no")
    case.controller.deploy(service("new", C), force=True).addErrback(results.append)
    case.plane.refuses = None
    assert results[0].check(DeploymentFailed)
    case.pass_time(0)
    assert case.plane.serving == {"app": (B,)}


def test_deployments_of_one_service_queue_up() -> None:
    case = Case(service("app", A), up=(A, C))
    told: list[Event] = []
    first = case.deploy(service("app", B))
    second = case.deploy(service("app", C), told.append)
    assert told == [{"event": "queued", "service": "app"}]
    assert case.targets.times(C) == []
    case.targets.waiting[0][1].callback(200)
    case.pass_time(0)
    assert (first, second) == ([None], [None])
    assert [s.services[0].service.targets for s in case.plane.snapshots[-2:]] == [(B,), (C,)]
    assert case.plane.serving == {"app": (C,)}


def test_a_deployment_that_waits_goes_on_when_the_one_before_it_failed() -> None:
    case = Case(service("app", A), up=(A, C))
    first = case.deploy(service("app", B, deploy_timeout=5.0))
    second = case.deploy(service("app", C))
    case.pass_time(5)
    assert first[0].check(DeploymentFailed)
    assert second == [None]
    assert case.plane.serving == {"app": (C,)}


def test_the_next_deployment_does_not_wait_for_the_draining_of_the_one_before() -> None:
    case = Case(service("app", A), up=(A, B, C))
    case.plane.drained_at_once = False
    first = case.deploy(service("app", B))
    second = case.deploy(service("app", C))
    assert case.plane.serving == {"app": (C,)}
    assert (first, second) == ([], [])
    case.plane.draining[1].callback(None)
    assert (first, second) == ([], [None])
    case.plane.draining[0].callback(None)
    assert first == [None]


def test_deployments_of_different_services_run_side_by_side() -> None:
    case = Case(service("one", A), up=(A, C))
    first = case.deploy(service("one", B))
    second = case.deploy(service("two", C))
    assert (first, second) == ([], [None])
    assert case.plane.serving == {"one": (A,), "two": (C,)}


def test_a_forced_deployment_waits_for_no_health_check() -> None:
    case = Case(service("app", A), up=(A,))
    assert case.result_of(case.controller.deploy(service("app", B, C), force=True)) == [None]
    assert case.plane.serving == {"app": (B, C)}


def test_what_a_deployment_is_waiting_for_is_told() -> None:
    case = Case(service("app", A), up=(A,))
    case.plane.drained_at_once = False
    case.say(down=(B,))
    told: list[Event] = []
    results = case.deploy(service("app", B), told.append)
    case.say(B)
    case.plane.reports = {"app": [TargetReport("b:1", 7), TargetReport("a:1", 2, True)]}
    case.pass_time(1)
    case.plane.reports = {"app": [TargetReport("b:1", 7), TargetReport("a:1", 1, True)]}
    case.pass_time(1)
    case.plane.draining[0].callback(None)
    assert results == [None]
    check = {"event": "check", "target": "b:1"}
    assert told == [
        {**check, "attempt": 1, "healthy": False, "failure": "it answered 500 to /up"},
        {**check, "attempt": 2, "healthy": True, "failure": ""},
        {"event": "switched", "service": "app", "targets": ["b:1"]},
        {"event": "draining", "service": "app", "requests": 2},
        {"event": "draining", "service": "app", "requests": 1},
    ]


def test_however_many_targets_are_drained_the_data_plane_is_asked_once_a_second() -> None:
    case = Case(service("one", A), service("two", B), up=(A, B, C))
    case.plane.drained_at_once = False
    case.plane.reports = {
        "one": [TargetReport("a:1", 1, True)],
        "two": [TargetReport("b:1", 2, True)],
    }
    told: list[Event] = []
    results = [case.deploy(service(name, C), told.append) for name in ("one", "two")]
    case.plane.refreshed = 0
    told.clear()
    case.pass_time(3)
    assert case.plane.refreshed == 3
    assert [event["service"] for event in told].count("one") == 3
    assert [event["service"] for event in told].count("two") == 3
    for each in case.plane.draining:
        each.callback(None)
    assert results == [[None], [None]]
    case.pass_time(3)
    assert case.plane.refreshed == 3


def test_a_cancelled_deployment_leaves_the_old_serving() -> None:
    case = Case(service("app", A), up=(A,))
    deployment = case.controller.deploy(service("app", B))
    deployment.cancel()
    assert case.result_of(deployment)[0].check(DeploymentFailed)
    assert case.targets.cancelled == [B]
    case.say(B)
    case.pass_time(60)
    assert case.plane.serving == {"app": (A,)}


def test_a_deployment_can_be_cancelled_while_it_waits_for_its_turn() -> None:
    case = Case(service("app", A), up=(A, C))
    first = case.deploy(service("app", B))
    waiting = case.controller.deploy(service("app", C))
    waiting.cancel()
    assert case.result_of(waiting)[0].check(CancelledError)
    case.targets.waiting[0][1].callback(200)
    case.pass_time(0)
    assert first == [None]
    assert case.plane.serving == {"app": (B,)}


def test_who_stops_waiting_for_the_draining_does_not_stop_the_draining() -> None:
    case = Case(service("app", A), up=(A, B))
    case.plane.drained_at_once = False
    deployment = case.controller.deploy(service("app", B))
    case.pass_time(0)
    deployment.cancel()
    assert case.result_of(deployment)[0].check(CancelledError)
    assert case.plane.serving == {"app": (B,)}
    assert not case.plane.draining[0].called
    case.plane.draining[0].callback(None)
    case.clock.advance(SAVE_AFTER)
    assert case.clock.getDelayedCalls() == []


# Who has which host.


def test_a_host_and_path_of_another_service_are_refused() -> None:
    one = service("one", A, hosts=("a.example", "b.example"), path_prefixes=("/", "/api"))
    case = Case(one, up=(A, B))
    asked = len(case.targets.asked)
    for prefixes in (("/",), ("/x", "/api")):
        wanted = service("two", B, hosts=("c.example", "b.example"), path_prefixes=prefixes)
        (failure,) = case.deploy(wanted)
        assert failure.check(HostInUse)
        assert str(failure.value) == "host is used by another service (one)"
    assert len(case.targets.asked) == asked
    assert case.plane.serving == {"one": (A,)}


def test_the_same_host_with_another_path_is_not_refused() -> None:
    case = Case(service("one", A, hosts=("a.example",)), up=(A, B))
    wanted = service("two", B, hosts=("a.example",), path_prefixes=("/api",))
    assert case.deploy(wanted) == [None]
    assert case.plane.serving == {"one": (A,), "two": (B,)}


def test_two_services_without_hosts_are_in_each_others_way() -> None:
    case = Case(service("one", A, hosts=()), up=(A, B))
    assert case.deploy(service("two", B, hosts=()))[0].check(HostInUse)


def test_of_two_deployments_that_want_one_host_the_one_that_is_healthy_first_gets_it() -> None:
    case = Case(up=(C,))
    hosts = ("a.example",)
    slow = case.deploy(service("slow", B, hosts=hosts))
    quick = case.deploy(service("quick", C, hosts=hosts))
    assert (slow, quick) == ([], [None])
    case.targets.waiting[0][1].callback(200)
    assert slow[0].check(HostInUse)
    assert case.plane.serving == {"quick": (C,)}


def test_a_host_may_be_taken_when_its_service_has_let_go_of_it() -> None:
    case = Case(service("one", A, hosts=("a.example",)), up=(A, B))
    case.deploy(service("one", A, hosts=("b.example",)))
    assert case.deploy(service("two", B, hosts=("a.example",))) == [None]


def test_a_reload_may_move_a_host_from_service_to_service() -> None:
    case = Case(service("one", A), service("two", B), up=(A, B))
    moved = service("one", A, hosts=("two.example",)), service("two", B, hosts=("one.example",))
    assert case.reload(*moved) == [[]]
    assert case.plane.services == list(moved)


def test_a_reload_does_not_take_the_host_of_a_service_that_only_the_command_line_knows() -> None:
    case = Case(service("one", A), up=(A, B, C))
    case.deploy(service("two", B, hosts=("x.example",)))
    with Log():
        taken = case.reload(service("one", C), service("three", C, hosts=("x.example",)))
    assert taken == [["three: host is used by another service (two)"]]
    assert case.plane.serving == {"one": (C,), "two": (B,)}


# Reload.


def test_a_reload_touches_only_what_differs() -> None:
    one, two, three = service("one", A), service("two", B), service("three", C)
    case = Case(one, two, three, up=(A, B, C))
    asked = len(case.targets.asked)
    changed = service("two", B, response_timeout=5.0)
    results = case.reload(one, changed, service("four", C))
    assert results == [[]]
    assert case.plane.services == [one, changed, service("four", C)]
    assert case.plane.serving == {"one": (A,), "two": (B,), "four": (C,)}
    assert [target for _, target in case.targets.asked[asked:]] == [B, C]
    assert ("three", (C,), 30.0) in case.plane.drains


def test_a_reload_of_the_same_does_nothing() -> None:
    case = Case(service("one", A), service("two", B), up=(A,))
    asked, published = len(case.targets.asked), len(case.plane.snapshots)
    assert case.reload(service("one", A), service("two", B)) == [[]]
    assert len(case.targets.asked) == asked
    assert len(case.plane.snapshots) == published


def test_a_reload_is_done_when_all_of_it_is_served_or_has_failed() -> None:
    with Log() as log:
        case = Case(service("one", A), service("two", B), up=(A, B, C))
        dead = service("two", A, C, deploy_timeout=5.0)
        case.say(down=(C,))
        results = case.reload(service("one", B), dead)
        case.pass_time(4)
        assert case.plane.serving == {"one": (B,), "two": (B,)}
        assert results == []
        case.pass_time(1)
        assert results == [["two: not healthy within 5 s: c:1: it answered 500 to /up"]]
    assert case.plane.serving == {"one": (B,), "two": (B,)}
    (text,) = log.texts
    assert text.startswith("deployment failed: two: not healthy within 5 s: c:1")


def test_a_service_that_never_came_up_may_be_replaced() -> None:
    with Log() as log:
        case = Case(service("app", A), up=(B,))
        assert case.reload(service("app", B)) == [[]]
        case.pass_time(60)
    assert case.plane.serving == {"app": (B,)}
    # The service that was to come up at boot is not reported any more.
    assert log.texts == []


def test_a_reload_ends_deployments_that_are_under_way() -> None:
    case = Case(service("app", A), up=(A,))
    with Log():
        first = case.reload(service("app", B))
        assert first == []
        second = case.reload(service("app", A))
    assert first == [["app: the configuration was read again"]]
    assert second == [[]]
    case.say(B)
    case.pass_time(5)
    assert case.plane.serving == {"app": (A,)}


def test_all_services_may_go() -> None:
    case = Case(service("one", A), service("two", B), up=(A,))
    assert case.reload() == [[]]
    assert case.plane.serving == {}
    case.pass_time(60)
    assert case.plane.serving == {}


# The end.


def test_a_stopped_controller_leaves_nothing_ticking() -> None:
    case = Case(service("one", A, B), service("two", C), up=(A, B))
    results = case.deploy(service("three", C))
    case.controller.close()
    assert results[0].check(DeploymentFailed)
    assert case.clock.getDelayedCalls() == []
    assert case.targets.cancelled == [C, C]


def test_checks_can_be_traced() -> None:
    traces: list[str] = []
    Case(service(), up=(A,), trace=lambda text, **values: traces.append(text.format(**values)))
    assert traces == ["health check of a:1/up: 200"]


def test_deployments_are_logged() -> None:
    with Log(LogLevel.info) as log:
        case = Case(service("app", A), up=(A, B))
        case.reload(service("new", B))
    texts = "\n".join(log.texts)
    for text in ("deploying new", "deployed new", "removed app", "b:1 is healthy"):
        assert text in texts


# Targets that refuse requests.


def refused(case: Case, target: Any, name: str = "app") -> None:
    """A request could not be brought to a target."""
    case.plane.target_refused(name, target)
    case.clock.advance(0)


def test_a_target_that_refuses_a_request_leaves_the_rotation_until_a_check_goes_well() -> None:
    case = Case(service("app", A, B), up=(A, B))
    refused(case, A)
    assert case.plane.serving == {"app": (B,)}
    assert case.controller.describe()[0]["targets"][0]["failure"] == "it refused a connection"
    case.pass_time(1)
    assert case.plane.serving == {"app": (A, B)}


def test_the_last_one_stays_and_is_tried_with_each_request() -> None:
    case = Case(service("app", A, B), up=(A, B))
    refused(case, A)
    refused(case, B)
    assert case.plane.serving == {"app": (B,)}


def test_the_only_one_stays() -> None:
    case = Case(service("app", A), up=(A,))
    refused(case, A)
    assert case.plane.serving == {"app": (A,)}


def test_a_read_target_that_refuses_leaves_since_the_others_stand_in_but_not_the_reverse() -> None:
    case = Case(service("app", A, read_targets=(B,)), up=(A, B))
    refused(case, A)
    assert case.plane.serving == {"app": (A, B)}
    refused(case, B)
    assert case.plane.serving == {"app": (A,)}


def test_a_target_that_is_not_served_any_more_may_refuse_what_it_likes() -> None:
    case = Case(service("app", A, B), up=(A, B))
    refused(case, C)
    refused(case, A, "gone")
    assert case.plane.serving == {"app": (A, B)}


def test_a_target_of_a_rollout_that_refuses_leaves_it() -> None:
    case = Case(service("app", A), up=(A, B, C))
    rollouts = case.controller.rollouts
    case.result_of(rollouts.deploy("app", {"target": ["b:1", "c:1"]}))
    case.result_of(rollouts.set("app", Split(10)))
    refused(case, B)
    rollout = case.plane.snapshots[-1].services[0].rollout
    assert rollout is not None
    assert rollout.healthy == (C,)


def test_read_targets_have_to_be_healthy_for_a_deployment_too() -> None:
    case = Case(service("app", A), up=(A, B))
    case.say(down=(C,))
    results = case.deploy(service("app", B, read_targets=(C,)))
    assert results == []
    case.say(C)
    case.pass_time(1)
    assert results == [None]
    assert case.plane.serving == {"app": (B, C)}
    (described,) = case.controller.describe()
    assert [each["address"] for each in described["targets"]] == ["b:1"]
    assert [each["address"] for each in described["read_targets"]] == ["c:1"]
    case.deploy(service("app", B))
    assert case.plane.drains[-1][1] == (C,)


def test_a_service_that_the_file_has_again_by_the_time_of_its_turn_is_not_removed() -> None:
    case = Case(service("app", A), up=(A,))
    case.say(down=(B,))
    case.deploy(service("app", B))
    first = case.reload()
    assert case.reload(service("app", A)) == [[]]
    case.say(B)
    case.pass_time(1)
    assert case.plane.serving == {"app": (B,)}
    assert first == [["app: the configuration was read again"]]


def test_the_only_target_that_refuses_a_request_stays_but_is_listed_as_it_is() -> None:
    case = Case(service("app", A), up=(A,))

    def listed() -> tuple[str, str]:
        (target,) = case.controller.describe()[0]["targets"]
        return target["health"], target["failure"]

    case.say(down=(A,))
    case.plane.target_refused("app", A)
    assert listed() == ("unhealthy", "it refused a connection")
    refused(case, A)
    case.pass_time(1)
    assert listed() == ("unhealthy", "it answered 500 to /up")
    assert case.plane.serving == {"app": (A,)}
    case.say(A)
    case.pass_time(1)
    assert listed() == ("healthy", "")
    asked = len(case.targets.asked)
    case.pass_time(3)
    assert len(case.targets.asked) == asked
    # And again, as often as it happens.
    case.say(down=(A,))
    refused(case, A)
    assert listed()[0] == "unhealthy"
    assert case.result_of(case.controller.remove("app")) == [None]
    asked = len(case.targets.asked)
    case.pass_time(3)
    assert len(case.targets.asked) == asked


def test_a_proxy_that_stops_checks_nothing_again() -> None:
    case = Case(service("app", A), up=(A,))
    case.controller.close()
    asked = len(case.targets.asked)
    refused(case, A)
    case.pass_time(2)
    assert len(case.targets.asked) == asked
