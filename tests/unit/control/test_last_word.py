"""Configuration file and command line: what was said last wins, for each service; restarts too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from kproxy.config.model import Configuration, Service, Target, WrapperUse
from kproxy.control.controller import Controller
from kproxy.control.progress import Event
from kproxy.control.saving import SAVE_AFTER
from kproxy.control.serving import UnknownService
from kproxy.control.state import State
from kproxy.snapshot import ServiceState
from tests.unit.control.support import A, B, C, Log, Plane, Targets, service


class Memory:
    """A store that remembers."""

    def __init__(self) -> None:
        self.state = State()
        self.saved = 0
        self.error: OSError | None = None

    def save(self, state: State) -> Deferred[None]:
        if self.error is not None:
            return fail(self.error)
        self.state = state
        self.saved += 1
        return succeed(None)


class Run:
    """One run of the proxy; all targets are healthy, but for those that are down."""

    def __init__(
        self,
        store: Memory,
        *file: Service,
        down: tuple[Target, ...] = (),
        healthy: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """@param healthy: the addresses that another program knows to be healthy, by service."""
        self.store = store
        self.clock = Clock()
        self.targets = Targets(self.clock)
        self.targets.answers = {A: 200, B: 200, C: 200, **dict.fromkeys(down, 500)}
        self.plane = Plane()
        self.controller = Controller(self.plane, self.clock, self.targets.ask, store=store)
        self.controller.boot(file, store.state, healthy=healthy)
        self.first = {s.service.name: s for s in self.plane.snapshots[-1].services}
        self.clock.pump([0, 0, 0])

    def do(self, done: Deferred[Any]) -> Any:
        """What an operation ends with; a failure is raised."""
        results: list[Any] = []
        done.addBoth(results.append)
        self.clock.pump([0, 0, 0])
        (result,) = results
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result

    def deploy(self, wanted: Service) -> None:
        self.do(self.controller.deploy(wanted))

    def reload(self, *file: Service) -> None:
        assert self.do(self.controller.reload(Configuration(services=file))) == []

    @property
    def states(self) -> dict[str, ServiceState]:
        return {state.service.name: state for state in self.plane.snapshots[-1].services}

    def targets_of(self, name: str) -> tuple[Target, ...]:
        return self.states[name].service.targets


FILE = service("app", A)
OTHER = service("other", C)


# One run.


def test_a_deployment_overrules_the_file_until_the_file_says_something_new() -> None:
    run = Run(Memory(), FILE)
    run.deploy(service("app", B))
    run.reload(FILE)
    assert run.targets_of("app") == (B,)
    run.reload(service("app", C))
    assert run.targets_of("app") == (C,)


def test_what_the_file_says_of_another_service_does_not_matter() -> None:
    run = Run(Memory(), FILE)
    run.deploy(service("app", B))
    run.reload(FILE, OTHER)
    assert run.targets_of("app") == (B,)
    assert run.targets_of("other") == (C,)


def test_a_reload_leaves_services_that_only_the_command_line_knows() -> None:
    run = Run(Memory(), FILE)
    run.deploy(OTHER)
    run.reload()
    assert set(run.states) == {"other"}


def test_a_service_that_the_file_drops_is_removed_although_it_was_deployed_since() -> None:
    run = Run(Memory(), FILE)
    run.deploy(service("app", B))
    run.reload()
    assert run.states == {}


def test_a_service_that_was_removed_comes_back_when_the_file_says_something_new_of_it() -> None:
    run = Run(Memory(), FILE)
    run.do(run.controller.remove("app"))
    run.reload(FILE)
    assert run.states == {}
    run.reload(service("app", B))
    assert run.targets_of("app") == (B,)


def test_a_service_that_was_removed_can_be_deployed() -> None:
    run = Run(Memory(), FILE)
    run.do(run.controller.remove("app"))
    run.deploy(service("app", B))
    run.reload(FILE)
    assert run.targets_of("app") == (B,)


def test_a_file_whose_deployment_failed_is_tried_again() -> None:
    run = Run(Memory(), FILE, down=(B,))
    wanted = service("app", B, deploy_timeout=5.0)
    with Log():
        reloading = run.controller.reload(Configuration(services=(wanted,)))
        run.clock.pump([1.0] * 6)
        assert len(run.do(reloading)) == 1
    assert run.targets_of("app") == (A,)
    run.targets.answers[B] = 200
    run.reload(wanted)
    assert run.targets_of("app") == (B,)


def test_the_file_has_the_last_word_over_a_deployment_that_was_still_under_way() -> None:
    run = Run(Memory(), FILE, down=(B,))
    deployment = run.controller.deploy(service("app", B))
    reloading = run.controller.reload(Configuration(services=(service("app", C),)))
    run.targets.answers[B] = 200
    run.clock.pump([1.0, 0, 0])
    assert run.do(deployment) is None
    assert run.do(reloading) == []
    assert run.targets_of("app") == (C,)


# Pause and stop.


def test_a_paused_service_is_told_to_the_data_plane_and_its_requests_are_drained() -> None:
    run = Run(Memory(), FILE)
    run.do(run.controller.pause("app", 7.0, 9.0))
    state = run.states["app"]
    assert (state.gate, state.max_pause) == ("paused", 9.0)
    assert run.plane.drains == [("app", (A,), 7.0)]
    run.do(run.controller.stop("app", 8.0, "back soon"))
    state = run.states["app"]
    assert (state.gate, state.message) == ("stopped", "back soon")
    assert run.plane.drains[1:] == [("app", (A,), 8.0)]
    run.do(run.controller.resume("app"))
    assert run.states["app"].gate == "running"


def test_a_pause_lasts_through_a_deployment() -> None:
    run = Run(Memory(), FILE)
    run.do(run.controller.pause("app", 7.0, 9.0))
    run.deploy(service("app", B))
    assert run.states["app"].gate == "paused"
    assert run.targets_of("app") == (B,)


def test_a_service_can_be_paused_while_it_is_deployed() -> None:
    run = Run(Memory(), FILE, down=(B,))
    deployment = run.controller.deploy(service("app", B))
    run.do(run.controller.pause("app", 7.0, 9.0))
    assert run.states["app"].gate == "paused"
    run.targets.answers[B] = 200
    run.clock.pump([1.0, 0])
    run.do(deployment)
    assert run.states["app"].gate == "paused"


def test_unknown_services_are_refused() -> None:
    run = Run(Memory())
    controller = run.controller
    for operation in (
        controller.remove("app"),
        controller.pause("app", 1.0, 1.0),
        controller.stop("app", 1.0, ""),
        controller.resume("app"),
    ):
        failures: list[Any] = []
        operation.addErrback(failures.append)
        assert failures[0].check(UnknownService)
        assert str(failures[0].value) == "service not found: app"


def test_a_service_that_was_removed_waits_for_its_requests() -> None:
    run = Run(Memory(), FILE)
    run.plane.drained_at_once = False
    removal = run.controller.remove("app")
    assert run.states == {}
    assert run.plane.drains == [("app", (A,), 30.0)]
    assert not removal.called
    run.plane.draining[0].callback(None)
    assert run.do(removal) is None


# Restarts.


def test_a_restart_serves_what_was_served_at_once_and_without_checks() -> None:
    store = Memory()
    run = Run(store, FILE)
    run.deploy(service("app", B))
    run.deploy(service("cli", C, hosts=("cli.example",)))
    again = Run(store, FILE, down=(A, B, C))
    assert {name: state.healthy for name, state in again.first.items()} == {
        "app": (B,),
        "cli": (C,),
    }
    again.clock.pump([1.0] * 100)
    assert again.states["app"].healthy == (B,)
    assert again.targets.asked == []


def test_several_restored_targets_are_checked_and_may_leave_the_rotation() -> None:
    store = Memory()
    Run(store).deploy(service("cli", A, B))
    again = Run(store, down=(B,))
    assert again.first["cli"].healthy == (A, B)
    assert again.states["cli"].healthy == (A,)


def test_a_service_of_the_file_is_remembered_once_it_was_healthy() -> None:
    store = Memory()
    Run(store, FILE, OTHER, down=(C,)).clock.advance(SAVE_AFTER)
    again = Run(store, FILE, OTHER, down=(A, C))
    assert again.first["app"].healthy == (A,)
    assert again.first["other"].healthy == ()


def test_services_that_turn_healthy_together_are_saved_together() -> None:
    store = Memory()
    many = [service(f"app{n}", A, hosts=(f"h{n}.example",)) for n in range(50)]
    run = Run(store, *many)
    assert run.first.keys() == {each.name for each in many}
    run.clock.advance(SAVE_AFTER)
    assert store.saved == 1
    assert len(store.state.records) == 50


def test_what_the_file_has_come_to_say_since_is_deployed_while_the_old_serves() -> None:
    store = Memory()
    Run(store, FILE).clock.advance(SAVE_AFTER)
    again = Run(store, service("app", B), down=(B,))
    assert again.first["app"].healthy == (A,)
    assert again.targets_of("app") == (A,)
    again.targets.answers[B] = 200
    again.clock.pump([1.0, 0])
    assert again.targets_of("app") == (B,)


def test_what_the_file_has_dropped_since_is_not_restored() -> None:
    store = Memory()
    Run(store, FILE).deploy(service("app", B))
    assert Run(store, OTHER).first.keys() == {"other"}


def test_a_service_that_was_removed_stays_away_after_a_restart() -> None:
    store = Memory()
    run = Run(store, FILE)
    run.do(run.controller.remove("app"))
    assert Run(store, FILE).states == {}
    assert Run(store, service("app", B)).targets_of("app") == (B,)


def test_a_pause_and_a_stop_survive_a_restart() -> None:
    store = Memory()
    run = Run(store, FILE, OTHER)
    run.do(run.controller.pause("app", 1.0, 9.0))
    run.do(run.controller.stop("other", 1.0, "gone"))
    states = Run(store, FILE, OTHER).first
    assert (states["app"].gate, states["app"].max_pause) == ("paused", 9.0)
    assert (states["other"].gate, states["other"].message) == ("stopped", "gone")


def test_a_pause_or_stop_of_a_service_that_was_never_healthy_survives_a_restart() -> None:
    memory = Memory()
    run = Run(memory, FILE, down=(A,))
    run.do(run.controller.stop("app", 1.0, "closed"))
    again = Run(memory, FILE, down=(A,))
    assert (again.first["app"].gate, again.first["app"].message) == ("stopped", "closed")
    # It is not taken for healthy, unlike one that was.
    assert again.states["app"].healthy == ()
    third = Run(memory, FILE)
    assert third.first["app"].gate == "stopped"
    assert third.states["app"].healthy == (A,)
    third.do(third.controller.resume("app"))
    assert Run(memory, FILE).first["app"].gate == "running"


def test_it_survives_a_change_of_the_file_but_not_the_service_itself() -> None:
    memory = Memory()
    run = Run(memory, FILE, down=(A,))
    run.do(run.controller.pause("app", 1.0, 9.0))
    changed = Run(memory, service("app", B), down=(B,))
    assert (changed.first["app"].gate, changed.first["app"].max_pause) == ("paused", 9.0)
    assert Run(memory, OTHER).states.keys() == {"other"}


def test_a_deployment_that_is_not_finished_is_not_remembered() -> None:
    store = Memory()
    run = Run(store, FILE, down=(B,))
    run.controller.deploy(service("app", B)).addErrback(lambda _: None)
    run.do(run.controller.resume("app"))
    assert Run(store, FILE).first["app"].healthy == (A,)


def test_a_new_service_of_the_file_does_not_take_the_host_of_a_restored_one() -> None:
    store = Memory()
    Run(store).deploy(service("cli", A, hosts=("x.example",)))
    with Log() as log:
        again = Run(store, service("app", B, hosts=("x.example",)))
    assert set(again.states) == {"cli"}
    assert log.texts == ["deployment failed: app: host is used by another service (cli)"]


def test_wrappers_of_a_restored_service_are_those_of_the_file() -> None:
    store = Memory()
    uses = (WrapperUse("limit", {"requests": 3}),)
    file = replace(FILE, wrappers=uses)
    Run(store, file).deploy(replace(file, targets=(B,)))
    again = Run(store, file)
    assert again.first["app"].service == replace(file, targets=(B,))


def test_a_restored_service_that_the_data_plane_refuses_does_not_stop_the_boot() -> None:
    store = Memory()
    run = Run(store)
    run.deploy(service("bad", A))
    run.deploy(service("good", B))

    class Picky(Plane):
        def apply(self, snapshot: Any) -> None:
            if any(state.service.name == "bad" for state in snapshot.services):
                raise ValueError("no such folder")
            super().apply(snapshot)

    plane, clock = Picky(), Clock()
    with Log() as log:
        Controller(plane, clock, Targets(clock).ask).boot((), store.state)
    assert set(plane.serving) == {"good"}
    assert log.texts == ["bad can't be restored: no such folder"]


def test_a_state_that_can_not_be_saved_is_a_warning_and_the_deployment_stands() -> None:
    store = Memory()
    run = Run(store, FILE)
    store.error = OSError("disk full")
    told: list[Event] = []
    with Log() as log:
        run.do(run.controller.deploy(service("app", B), told.append))
    assert run.targets_of("app") == (B,)
    message = "the state could not be saved: disk full"
    assert {"event": "warning", "message": message} in told
    assert log.texts == [message]


# The listing.


def test_services_are_described_with_their_state() -> None:
    run = Run(Memory(), service("app", A, B), down=(B,))
    run.deploy(service("cli", C, hosts=()))
    run.do(run.controller.stop("cli", 1.0, "gone"))
    app, cli = run.controller.describe()
    assert app["service"] == "app"
    assert app["in_configuration"]
    assert [(t["address"], t["health"], t["failure"]) for t in app["targets"]] == [
        ("a:1", "healthy", ""),
        ("b:1", "unhealthy", "it answered 500 to /up"),
    ]
    assert (cli["state"], cli["message"], cli["in_configuration"]) == ("stopped", "gone", False)


# Another program in the same process, which knows what is healthy.


def succeeded(before: Run, *file: Service, down: tuple[Target, ...] = ()) -> Run:
    """The program after another one, which has left the state and its knowledge of targets."""
    before.do(before.controller.save())
    healthy = json.loads(json.dumps(before.controller.healthy()))
    return Run(before.store, *file, down=down, healthy=healthy)


def test_a_target_that_was_not_healthy_stays_out_until_it_is() -> None:
    file = service("app", A, B)
    before = Run(Memory(), file)
    before.targets.answers[B] = 500
    before.clock.pump([1, 0])
    assert before.controller.healthy() == {"app": ["a:1"]}
    after = succeeded(before, file, down=(B,))
    assert after.first["app"].healthy == (A,)
    after.targets.answers[B] = 200
    after.clock.pump([1, 0, 0])
    assert after.states["app"].healthy == (A, B)


def test_of_a_service_without_any_healthy_target_none_is_taken_for_healthy() -> None:
    file = service("app", A, B)
    before = Run(Memory(), file)
    before.targets.answers.update({A: 500, B: 500})
    before.clock.pump([1, 0])
    assert before.controller.healthy() == {"app": []}
    after = succeeded(before, file)
    assert after.first["app"].healthy == ()
    assert after.states["app"].healthy == (A, B)


def test_the_only_target_is_not_checked_again_if_it_was_healthy() -> None:
    after = succeeded(Run(Memory(), FILE), FILE)
    assert after.first["app"].healthy == (A,)
    assert after.targets.asked == []


def test_a_service_that_was_not_whole_yet_is_served_at_once_by_what_was_up() -> None:
    file = service("app", A, B)
    before = Run(Memory(), file, down=(B,))
    assert before.states["app"].healthy == (A,)
    after = succeeded(before, file, down=(B,))
    assert after.first["app"].healthy == (A,)
    # Without that knowledge it has to be checked first.
    again = Run(before.store, file, down=(B,))
    assert again.first["app"].healthy == ()


def test_a_service_that_was_up_and_not_saved_yet_is_served_at_once() -> None:
    before = Run(Memory(), FILE)
    assert before.store.saved == 0
    after = succeeded(before, FILE, down=(A,))
    assert after.first["app"].healthy == (A,)


def test_a_service_that_is_new_in_the_file_is_checked_first() -> None:
    after = succeeded(Run(Memory(), FILE), FILE, OTHER)
    assert after.first["app"].healthy == (A,)
    assert after.first["other"].healthy == ()
    assert after.states["other"].healthy == (C,)


def test_targets_of_a_rollout_are_known_too() -> None:
    before = Run(Memory(), FILE)
    before.do(before.controller.rollouts.deploy("app", {"target": ["b:1"]}))
    assert before.controller.healthy() == {"app": ["a:1", "b:1"]}
    after = succeeded(before, FILE, down=(B,))
    assert after.controller.healthy() == {"app": ["a:1", "b:1"]}


# What could be served.


def rehearsed(store: Memory, *file: Service, refuses: Exception | None = None) -> Any:
    """What a program that serves nobody finds out; its data plane; its targets."""
    clock, plane = Clock(), Plane()
    targets = Targets(clock)
    plane.refuses = refuses
    controller = Controller(plane, clock, targets.ask, store=store)
    with Log():
        failures = controller.rehearse(file, store.state)
    clock.pump([1, 1])
    return failures, plane, targets


def test_a_rehearsal_tells_the_data_plane_and_asks_nobody() -> None:
    before = Run(Memory())
    before.deploy(OTHER)
    saved = before.store.saved
    failures, plane, targets = rehearsed(before.store, FILE)
    assert failures == []
    assert {s.service.name for s in plane.snapshots[-1].services} == {"app", "other"}
    assert targets.asked == []
    assert before.store.saved == saved


def test_a_rehearsal_tells_what_can_not_be_served_any_more() -> None:
    before = Run(Memory())
    before.deploy(FILE)
    with pytest.raises(ValueError, match="yesterday"):
        rehearsed(before.store, OTHER, refuses=ValueError("options of yesterday"))


def test_operations_are_under_way_until_they_are_done() -> None:
    run = Run(Memory(), FILE)
    assert not run.controller.busy()
    run.targets.answers[B] = 500
    waiting = run.controller.deploy(service("app", B))
    run.clock.pump([0, 0])
    assert run.controller.busy()
    run.targets.answers[B] = 200
    run.clock.advance(1)
    run.do(waiting)
    assert not run.controller.busy()
