"""What a worker process does, told by the other end of its channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, LogPublisher

from kproxy.config.model import Service, Target
from kproxy.dataplane import TargetReport
from kproxy.metrics.catalog import Measured
from kproxy.snapshot import ServiceState, Snapshot
from kproxy.workers.channel import Channel
from kproxy.workers.delta import difference, dumps
from kproxy.workers.events import ChannelEvents, event_message
from kproxy.workers.lines import ChannelLines
from kproxy.workers.worker import Worker
from tests.unit.control.support import Plane
from tests.unit.workers.support import Pipe

A = Target("a", 80)
SERVICE = Service("app", (A,), ("app.example",), drain_timeout=12.0)


class Front:
    """Writes down what it is told, and stops when it may.

    @ivar told: ``start``, or the timeout and the grace of a stop.
    """

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.stopped: Deferred[None] = Deferred()

    def start(self) -> None:
        self.told.append("start")

    def stop(self, timeout: float, grace: float = 0.0) -> Deferred[None]:
        self.told.append((timeout, grace))
        return self.stopped


class Plain(Plane):
    """A data plane with what only a worker knows of it."""

    certificate_wanted: Callable[[str], Deferred[None]]

    def measure(self) -> Measured:
        return {"kproxy_client_connections": [((), [7])]}


class Lines:
    """Where lines go when the control process is gone."""

    def __init__(self) -> None:
        self.text = ""
        self.closed = False

    def write(self, line: str) -> None:
        self.text += line

    def close(self) -> None:
        self.closed = True


class Case:
    """A worker and the control process's end of its channel."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.heard: list[Any] = []
        self.measured: list[Any] = []
        self.control, channel = Channel(), Channel()
        self.control.handlers = {
            "refused": lambda m, load: self.heard.append((m["service"], m["host"], m["port"])),
            "certificate": lambda m, load: self.heard.append(m["name"]),
            "lines": lambda m, load: self.heard.append(load.decode()),
            "measured": lambda m, load: self.measured.append(m["measured"]),
        }
        self.pipe = Pipe(self.control, channel)
        self.plane, self.front, self.file = Plain(), Front(), Lines()
        self.ended = False
        plane: Any = self.plane
        front: Any = self.front
        file: Any = self.file
        self.lines = ChannelLines(self.clock, channel, lambda: file)
        self.worker = Worker(channel, plane, front, self.lines, self._end)

    def _end(self) -> None:
        self.ended = True

    def flow(self) -> None:
        while self.pipe.flow():
            pass

    def ask(self, kind: str, load: bytes = b"", **fields: Any) -> list[Any]:
        results: list[Any] = []
        self.control.ask(kind, load, **fields).addBoth(results.append)
        self.flow()
        return results

    def apply(self, old: Snapshot, new: Snapshot) -> list[Any]:
        return self.ask("apply", dumps(difference(old, new)))


def test_a_snapshot_is_served_before_it_is_acknowledged() -> None:
    case = Case()
    one = Snapshot((ServiceState(SERVICE),))
    two = Snapshot((ServiceState(SERVICE, (A,)),))
    assert case.apply(Snapshot(), one) == [None]
    assert case.apply(one, two) == [None]
    assert case.plane.snapshots == [one, two]


def test_a_snapshot_that_can_not_be_served_is_answered_with_the_reason() -> None:
    case = Case()
    case.plane.refuses = ValueError("there is no wrapper x")
    (failure,) = case.apply(Snapshot(), Snapshot())
    assert failure.getErrorMessage() == "there is no wrapper x"


def test_a_drain_is_answered_when_it_is_done() -> None:
    case = Case()
    case.plane.drained_at_once = False
    answer = case.ask("drain", service="app", targets=[["a", 80]], timeout=3.0)
    assert case.plane.drains == [("app", (A,), 3.0)]
    assert answer == []
    case.plane.draining[0].callback(None)
    case.flow()
    assert answer == [None]


def test_of_thousands_of_targets_those_are_reported_that_have_something_to_do() -> None:
    case = Case()
    case.plane.reports = {
        "idle": [TargetReport("i:80", 0)],
        "app": [TargetReport("a:80", 2), TargetReport("b:80", 0), TargetReport("c:80", 0, True)],
    }
    assert case.ask("report") == [{"app": [["a:80", 2, False], ["c:80", 0, True]]}]


def test_what_is_measured_is_told_with_what_the_process_uses() -> None:
    (measured,) = Case().ask("measure")
    assert measured["kproxy_client_connections"] == [[[], [7]]]
    assert [labels for labels, _ in measured["kproxy_process_cpu_seconds_total"]] == [["worker"]]


def test_the_control_process_hears_of_refusals_and_wanted_certificates() -> None:
    case = Case()
    case.plane.target_refused("app", A)
    wanted: list[Any] = []
    case.plane.certificate_wanted("app.example").addBoth(wanted.append)
    case.flow()
    assert case.heard == [("app", "a", 80), "app.example"]
    assert wanted == [None]


def test_lines_are_sent_together_after_a_moment() -> None:
    case = Case()
    case.lines.write("one\n")
    case.lines.write("zwölf\n")
    case.flow()
    assert case.heard == []
    case.clock.advance(0.1)
    case.flow()
    assert case.heard == ["one\nzwölf\n"]


def test_a_worker_that_leaves_ends_when_its_requests_have_and_its_lines_are_sent() -> None:
    case = Case()
    case.control.tell("leave", timeout=5.0, grace=2.0)
    case.flow()
    assert case.front.told == [(5.0, 2.0)]
    case.lines.write("last\n")
    assert not case.ended
    case.front.stopped.callback(None)
    case.flow()
    assert case.heard == ["last\n"]
    assert [each["kproxy_client_connections"] for each in case.measured] == [[[[], [7]]]]
    assert case.ended


def test_a_worker_that_leaves_hears_on_what_is_served_but_does_not_begin_to_accept() -> None:
    case = Case()
    case.control.tell("leave", timeout=5.0, grace=0.0)
    new = Snapshot((ServiceState(SERVICE),))
    assert case.apply(Snapshot(), new) == [None]
    assert case.plane.snapshots == [new]
    case.ask("open")
    assert "start" not in case.front.told
    case.front.stopped.callback(None)
    assert case.apply(new, Snapshot()) == [None]
    assert case.plane.snapshots == [new]


def test_without_a_control_process_a_worker_finishes_and_logs_by_itself() -> None:
    case = Case()
    case.apply(Snapshot(), Snapshot((ServiceState(SERVICE),)))
    case.lines.write("before\n")
    case.pipe.cut()
    assert case.front.told == [(12.0, 0.0)]
    case.lines.write("after\n")
    case.clock.advance(0.1)
    assert case.file.text == "before\nafter\n"
    case.front.stopped.callback(None)
    assert case.file.closed
    assert case.ended


def test_what_is_logged_is_sent_with_its_level_and_traceback() -> None:
    events: list[Any] = []
    logger = Logger("kproxy.x", observer=LogPublisher(events.append))
    logger.warn("{count} are open", count=3)
    try:
        raise KeyError("key")
    except KeyError:
        logger.failure("it {what}", what="broke")
    first, second = map(event_message, events)
    assert first == {
        "level": LogLevel.warn.name,
        "logger": "kproxy.x",
        "text": "3 are open",
        "traceback": None,
    }
    assert second["text"] == "it broke"
    assert "KeyError" in second["traceback"]


def test_an_observer_sends_events_to_the_control_process() -> None:
    control, channel = Channel(), Channel()
    heard: list[Any] = []
    control.handlers = {"event": lambda message, load: heard.append(message["text"])}
    pipe = Pipe(control, channel)
    Logger("kproxy.x", observer=ChannelEvents(channel, None)).info("hello")
    pipe.flow()
    assert heard == ["hello"]
