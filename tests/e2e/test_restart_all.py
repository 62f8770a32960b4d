"""Another program in the place of the one that runs: ``kproxy restart --all``."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.support.https import client, https_proxy
from tests.e2e.support.proxy import Load, Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says
from tests.e2e.support.traffic import Traffic, app
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Request, Wire, chunk, request_text, response_text
from tests.e2e.test_metrics import Metrics
from tests.e2e.test_signals import Daemon, zombie
from tests.e2e.test_workers import ask_without_a_pause, pids_of, serving, start, workers
from tests.support.ports import free_port

GOES_ON = "the old program goes on"


def listed(proxy: Proxy) -> dict[str, Any]:
    """What the proxy says of itself and its services."""
    done = proxy.command("list", "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def generation(proxy: Proxy) -> int:
    number: int = listed(proxy)["generation"]
    return number


def replace(proxy: Proxy) -> None:
    """Let another program take over; the workers of the old one have ended by the end."""
    before = listed(proxy)
    done = proxy.command("restart", "--all")
    assert done.returncode == 0, done.stderr + proxy.output
    assert generation(proxy) == before["generation"] + 1
    assert not proxy.ended()
    old = {each["pid"] for each in before["workers"]}
    wait_until("the old workers have ended", lambda: not old & pids_of(proxy))


def refused(proxy: Proxy) -> str:
    """Try the same, in vain; why."""
    before = listed(proxy)
    done = proxy.command("restart", "--all")
    assert done.returncode == 1
    assert GOES_ON in done.stderr
    assert done.stdout == ""
    after = listed(proxy)
    assert after["generation"] == before["generation"]
    assert [each["pid"] for each in after["workers"]] == [each["pid"] for each in before["workers"]]
    assert proxy.get().status == 200
    return done.stderr


# Nothing is lost.


class Download:
    """A target's body that takes as long as somebody wants."""

    def __init__(self) -> None:
        self.finish = threading.Event()
        self.pieces = 0

    def __call__(self, wire: Wire, request: Request) -> None:
        if request.target != "/long":
            wire.send(response_text("short"))
            return
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not self.finish.wait(0.02):
            wire.send(chunk(b"%07d\n" % self.pieces))
            self.pieces += 1
        wire.send(chunk(b""))


def test_under_load_nothing_is_lost_twice_in_a_row(stage: Stage) -> None:
    download = Download()
    config = stage.deploy(
        {"app": {"hosts": [stage.target(download).address]}},
        drain_timeout=60,
    )
    proxy = stage.proxy(config, options=("--workers", "2"), healthy=("app.example",))
    serving(proxy)
    assert generation(proxy) == 1
    with proxy.connect() as wire, Load(ask_without_a_pause(proxy), clients=6) as load:
        wire.send(request_text(path="/long"))
        wait_until("it has begun", lambda: download.pieces)
        for number in (2, 3):
            old = pids_of(proxy)
            done = proxy.command("restart", "--all")
            assert done.returncode == 0, done.stderr
            assert generation(proxy) == number
            states = {each["pid"]: each["state"] for each in workers(proxy)}
            assert not {pid for pid, state in states.items() if state == "serving"} & old
        download.finish.set()
        lines = wire.read_response().text.splitlines()
    assert load.failures == []
    assert lines == [f"{number:07d}" for number in range(download.pieces)]
    assert not proxy.ended()
    serving(proxy)
    assert proxy.stop() == 0
    # The lines of all that was asked, by all those processes.
    assert {entry["status"] for entry in proxy.log_lines()} == {200}
    assert [entry["path"] for entry in proxy.log_lines()].count("/long") == 1


def test_every_request_is_answered_once_and_logged_once(stage: Stage) -> None:
    target = stage.target(app("one"))
    proxy = start(stage, target)
    numbers: list[int] = []
    lock = threading.Lock()

    def ask(stop: Any) -> None:
        while not stop():
            with proxy.connect() as wire:
                while not stop():
                    with lock:
                        numbers.append(number := len(numbers))
                    wire.send(request_text(path=f"/{number}", headers={"X-Id": str(number)}))
                    response = wire.read_response()
                    assert response.text.split()[1] == str(number)
                    if response.has("connection"):
                        break

    with Load(ask, clients=4) as load:
        replace(proxy)
    assert load.failures == []
    assert sorted(int(request.get("x-id") or "") for request in target.requests) == numbers
    assert proxy.stop() == 0
    assert sorted(int(entry["path"][1:]) for entry in proxy.log_lines()) == numbers


def test_a_deployment_after_it_fails_no_request(stage: Stage) -> None:
    one, two = stage.target(app("one")), stage.target(app("two"))
    proxy = start(stage, one)
    with proxy.connect() as wire:
        # A worker of the old program that is there still has to hear of it.
        wire.send(request_text(path="/long", headers={"X-Id": "7"}))
        done = proxy.command("restart", "--all")
        assert done.returncode == 0, done.stderr
        with Traffic(proxy) as traffic:
            done = proxy.command("deploy", "shop-app", "--target", two.address)
            assert done.returncode == 0, done.stderr
            count = len(one.requests)
            traffic.goes_to("two")
            assert len(one.requests) == count
        assert len(wire.read_response().text.splitlines()) == 20
    replace(proxy)
    # It was remembered.
    assert proxy.get().text.startswith("two ")


def test_nothing_piles_up(stage: Stage) -> None:
    proxy = start(stage, stage.target(says("one")), https=True)

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{proxy.process.pid}/fd"))

    replace(proxy)
    serving(proxy)
    first = descriptors()
    replace(proxy)
    pids = serving(proxy)
    # One that the command has just left may be there for a moment.
    wait_until("there are no more of them", lambda: descriptors() <= first)
    # Of the processes that have ended, those of rehearsals included, nothing is left.
    assert set(proxy.pids()) == {proxy.process.pid, *pids}
    assert [held_signals(pid) for pid in proxy.pids()] == [0, 0, 0]


def held_signals(pid: int) -> int:
    """The mask of those that a process does not hear of."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("SigBlk:")]
    return int(line.split()[1], 16)


def counters(metrics: Metrics) -> dict[Any, float]:
    """Every number of a proxy's metrics that may only grow."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
        if family.type in ("counter", "histogram")
    }


def test_counters_of_metrics_never_go_down(stage: Stage) -> None:
    port = free_port("127.0.0.1")
    one, two = stage.target(says("one")), stage.target(says("two"))
    config = stage.deploy({"app": {"hosts": [one.address]}})
    options = ("--workers", "2", "--metrics-port", str(port))
    proxy = stage.proxy(config, healthy=("app.example",), options=options)
    serving(proxy)
    metrics = Metrics(port)
    assert proxy.command("deploy", "shop-app", "--target", two.address).returncode == 0
    seen = [counters(metrics)]

    def watch(stop: Any) -> None:
        while not stop():
            try:
                seen.append(counters(metrics))
            except ConnectionError:
                continue  # it has asked in the very moment
            gone_down = {k: v for k, v in seen[-2].items() if seen[-1].get(k, 0) < v}
            assert gone_down == {}

    asked = 0
    with Load(watch, clients=1) as load:
        for _ in range(2):
            for _ in range(10):
                assert proxy.get().status == 200
                asked += 1
            replace(proxy)
    assert load.failures == []
    seen.append(counters(metrics))
    requests = [k for k in seen[-1] if k[0] == "kamal_proxy_http_requests_total"]
    first, last = (sum(each.get(k, 0) for k in requests) for each in (seen[0], seen[-1]))
    assert last == first + asked


def test_a_worker_that_is_killed_meanwhile_is_replaced(stage: Stage) -> None:
    proxy = start(stage, stage.target(says("one")))
    old = serving(proxy)
    with proxy.command_in_background("restart", "--all") as restart:
        os.kill(old[0], signal.SIGKILL)
        said = restart.communicate(timeout=60)[1]
        assert restart.returncode == 0, said
    assert generation(proxy) == 2
    assert not set(old) & set(serving(proxy))
    assert proxy.get().status == 200


def test_signals_meanwhile_are_heeded_in_the_end(stage: Stage) -> None:
    file = stage.folder / "access.log"
    config = stage.deploy(
        {"app": {"hosts": [stage.target(says("one")).address]}}, x_kproxy={"access_log": str(file)}
    )
    proxy = stage.proxy(config, options=("--workers", "2"), healthy=("app.example",))
    serving(proxy)
    with proxy.command_in_background("restart", "--all") as restart:
        while restart.poll() is None:
            for number in (signal.SIGHUP, signal.SIGUSR1):
                proxy.send_signal(number)
            time.sleep(0.005)  # a process that does nothing else could not do anything else
        assert restart.returncode == 0, restart.communicate()
    assert generation(proxy) == 2
    assert proxy.get().status == 200
    assert proxy.stop() == 0


def children(proxy: Proxy) -> int:
    """How many processes it has started, by whichever thread."""
    lists = Path(f"/proc/{proxy.process.pid}/task").glob("*/children")
    return sum(len(each.read_text().split()) for each in lists)


def test_a_proxy_that_is_told_to_end_meanwhile_ends(stage: Stage) -> None:
    download = Download()
    proxy = start(stage, stage.target(download))
    with proxy.connect() as wire:
        wire.send(request_text(path="/long"))
        wait_until("it has begun", lambda: download.pieces)
        with proxy.command_in_background("restart", "--all") as restart:
            wait_until("the new program is tried", lambda: children(proxy) > 2)
            proxy.send_signal(signal.SIGTERM)
            said = restart.communicate(timeout=60)[1]
            assert restart.returncode == 1
            assert "the workers are being stopped" in said
        download.finish.set()
        assert wire.read_response().status == 200
    assert proxy.join() == 0


# What runs afterwards.


PLUGIN = """
from kproxy.plugins import WrapperPlugin
from kproxy.wrappers.base import Filter, Wrapper


class Stamping(Filter):
    def begin(self):
        self.request.responseHeaders.setRawHeaders(b"x-stamp", [b"{stamp}"])
        super().begin()


class Stamp(Wrapper):
    def render(self, request):
        request.add_filter(Stamping)
        return self.wrapped.render(request)


stamp = WrapperPlugin("{name}", "Stamps.", Stamp)
"""


def write_plugin(stage: Stage, text: str) -> Path:
    """A plug-in that is found with the folder ``site`` on the path; that folder."""
    folder = stage.folder / "site"
    (folder / "kproxy" / "plugins").mkdir(parents=True, exist_ok=True)
    (folder / "kproxy" / "plugins" / "stamps.py").write_text(text)
    return folder


def test_the_ports_of_the_configuration_file_are_those_of_now(stage: Stage) -> None:
    target = stage.target(says("one"))
    before, after = free_port(), free_port()

    def configure(port: int) -> Path:
        role = {"hosts": [target.address], "proxy": {"run": {"http_port": port}}}
        return stage.deploy({"app": role})

    proxy = stage.start(configure(before), port=0, options=("--workers", "2"))
    proxy.port = before
    proxy.wait_until_healthy("app.example")
    configure(after)
    replace(proxy)
    assert not proxy.listens()
    proxy.port = after
    assert proxy.get().status == 200


def test_the_number_of_workers_is_that_of_now(stage: Stage) -> None:
    target = stage.target(says("one"))

    def configure(count: int) -> Path:
        return stage.deploy({"app": {"hosts": [target.address]}}, x_kproxy={"workers": count})

    proxy = stage.proxy(configure(1), healthy=("app.example",), KPROXY_WORKERS="")
    serving(proxy, 1)
    configure(3)
    replace(proxy)
    serving(proxy, 3)
    configure(1)
    replace(proxy)
    serving(proxy, 1)
    configure(0)
    assert "there are to be no workers" in refused(proxy)


def test_code_and_plug_ins_are_those_of_now(stage: Stage) -> None:
    target = stage.target(says("one"))
    site = write_plugin(stage, PLUGIN.format(stamp="old", name="first"))

    def configure(wrapper: str) -> Path:
        return stage.deploy(
            {"app": {"hosts": [target.address]}}, x_kproxy={"wrappers": [{wrapper: {}}]}
        )

    proxy = stage.proxy(
        configure("first"),
        healthy=("app.example",),
        options=("--workers", "2"),
        PYTHONPATH=str(site),
    )
    assert proxy.get().get("x-stamp") == "old"
    # Another version of kproxy, as far as it can be had here.
    (site / "sitecustomize.py").write_text("import kproxy\nkproxy.__version__ = '99.0'\n")
    write_plugin(stage, PLUGIN.format(stamp="newer", name="second"))
    configure("second")
    replace(proxy)
    assert listed(proxy)["version"] == "99.0"
    assert proxy.get().get("x-stamp") == "newer"


def test_what_commands_have_done_is_as_it_was(stage: Stage) -> None:
    proxy = stage.proxy(options=("--workers", "2"))
    serving(proxy)
    target = stage.target(says("one"))
    for done in (
        proxy.command("deploy", "app", "--target", target.address, "--host", "app.example"),
        proxy.command("deploy", "api", "--target", target.address, "--host", "api.example"),
        proxy.command("stop", "api", "--message", "Back soon"),
    ):
        assert done.returncode == 0, done.stderr
    services = listed(proxy)["services"]
    replace(proxy)
    assert listed(proxy)["services"] == services
    assert proxy.get().status == 200
    assert "Back soon" in proxy.get(host="api.example").text
    assert proxy.socket.stat().st_mode & 0o777 == 0o600
    assert proxy.stop() == 0
    assert not proxy.socket.exists()


# What does not come up.


def test_a_broken_configuration_file_leaves_everything_as_it_was(stage: Stage) -> None:
    target = stage.target(says("one"))
    proxy = start(stage, target)
    (stage.folder / "deploy.yml").write_text("service: shop\nprxy: {}\n")
    said = refused(proxy)
    assert "deploy.yml:2:1: prxy: " in said
    assert "Traceback" not in said
    # It is for the next time, too.
    stage.deploy({"app": {"hosts": [target.address]}})
    replace(proxy)


def test_a_port_that_somebody_has_leaves_everything_as_it_was(stage: Stage) -> None:
    target, taken = stage.target(says("one")), stage.target()

    def configure(port: int) -> Path:
        role = {"hosts": [target.address], "proxy": {"run": {"http_port": port}}}
        return stage.deploy({"app": role})

    port = free_port()
    proxy = stage.start(configure(port), port=0, options=("--workers", "2"))
    proxy.port = port
    proxy.wait_until_healthy("app.example")
    configure(taken.port)
    assert f"can't listen on 127.0.0.1 port {taken.port}" in refused(proxy)


PICKY = """
from kproxy.plugins import WrapperPlugin


def wrap(resource, options):
    raise ValueError("such options are of yesterday")


stamp = WrapperPlugin("first", "Takes no options.", wrap)
"""


def test_a_plug_in_that_refuses_its_options_now_leaves_everything_as_it_was(stage: Stage) -> None:
    target = stage.target(says("one"))
    site = write_plugin(stage, PLUGIN.format(stamp="one", name="first"))
    config = stage.deploy(
        {"app": {"hosts": [target.address]}}, x_kproxy={"wrappers": [{"first": {}}]}
    )
    proxy = stage.proxy(
        config, healthy=("app.example",), options=("--workers", "2"), PYTHONPATH=str(site)
    )
    serving(proxy)
    write_plugin(stage, PICKY)
    assert "such options are of yesterday" in refused(proxy)


def test_a_plug_in_that_breaks_is_reported_and_does_no_harm_to_others(stage: Stage) -> None:
    target = stage.target(says("one"))
    site = write_plugin(stage, PLUGIN.format(stamp="one", name="first"))
    config = stage.deploy({"app": {"hosts": [target.address]}})
    proxy = stage.proxy(
        config, healthy=("app.example",), options=("--workers", "2"), PYTHONPATH=str(site)
    )
    write_plugin(stage, "import nowhere_to_be_found\n")
    replace(proxy)
    proxy.said("nowhere_to_be_found")
    assert proxy.get().status == 200


WORKERS_ONLY = """
import os
if "KPROXY_WORKER" in os.environ:
    import kproxy
    kproxy.__path__ = []
"""


@pytest.mark.parametrize(
    ("module", "text", "why"),
    [
        ("yaml.py", "raise ImportError('half of it is installed')\n", "half of it is installed"),
        ("sitecustomize.py", "raise SystemExit('it is too old')\n", "it is too old"),
        ("sitecustomize.py", WORKERS_ONLY, "it ended before it was up"),
    ],
    ids=["import", "start", "workers"],
)
def test_a_package_that_breaks_leaves_everything_as_it_was(
    stage: Stage, module: str, text: str, why: str
) -> None:
    site = stage.folder / "site"
    site.mkdir()
    proxy = start(stage, stage.target(says("one")), PYTHONPATH=str(site))
    (site / module).write_text(text)
    assert why in refused(proxy)


def test_without_workers_the_program_can_not_be_replaced(stage: Stage) -> None:
    proxy = stage.proxy(options=("--workers", "0"))
    done = proxy.command("restart", "--all")
    assert done.returncode == 1
    assert "no workers" in done.stderr


# Other operations.


def test_a_deployment_that_is_under_way_is_waited_for(stage: Stage) -> None:
    one, two = stage.target(says("one")), stage.target(says("two"))
    proxy = start(stage, one)
    two.healthy = False
    with proxy.command_in_background("deploy", "shop-app", "--target", two.address) as deploy:
        wait_until("it is under way", lambda: two.health_checks)
        with proxy.command_in_background("restart", "--all") as restart:
            checks = len(two.health_checks)
            wait_until("it goes on", lambda: len(two.health_checks) > checks + 5)
            assert restart.poll() is None
            assert generation(proxy) == 1
            two.healthy = True
            assert deploy.wait(60) == 0
            said = restart.communicate(timeout=60)[1]
            assert restart.returncode == 0, said
    assert generation(proxy) == 2
    assert proxy.get().text == "two"


def test_one_that_is_interrupted_while_it_waits_changes_nothing(stage: Stage) -> None:
    one, two = stage.target(says("one")), stage.target(says("two"))
    proxy = start(stage, one)
    two.healthy = False
    with proxy.command_in_background("deploy", "shop-app", "--target", two.address) as deploy:
        wait_until("it is under way", lambda: two.health_checks)
        with proxy.command_in_background("restart", "--all") as restart:
            assert restart.stderr is not None
            restart.stderr.readline()
            restart.send_signal(signal.SIGINT)
            restart.communicate(timeout=60)
        two.healthy = True
        assert deploy.wait(60) == 0
    assert generation(proxy) == 1
    replace(proxy)


def test_of_two_at_a_time_one_is_refused(stage: Stage) -> None:
    proxy = start(stage, stage.target(says("one")))
    with (
        proxy.command_in_background("restart", "--all") as one,
        proxy.command_in_background("restart", "--all") as two,
    ):
        said = [each.communicate(timeout=60)[1] for each in (one, two)]
        assert sorted([one.returncode, two.returncode]) in ([0, 1], [0, 0]), said
    assert generation(proxy) in (2, 3)
    serving(proxy)
    assert proxy.get().status == 200


@pytest.mark.parametrize("when", ["meanwhile", "afterwards"])
def test_a_request_that_is_held_is_answered_when_its_service_is_resumed(
    stage: Stage, when: str
) -> None:
    target = stage.target(says("one"))
    proxy = start(stage, target)
    assert proxy.command("pause", "shop-app").returncode == 0
    count = len(target.requests)
    with proxy.connect() as wire, proxy.command_in_background("restart", "--all") as restart:
        wire.send(request_text())
        if when == "afterwards":
            assert restart.wait(60) == 0, restart.communicate()
            assert listed(proxy)["services"][0]["state"] == "paused"
            assert wire.silent()
        assert len(target.requests) == count
        done = proxy.command("resume", "shop-app")
        assert done.returncode == 0, done.stderr
        assert wire.read_response().text == "one"
        assert restart.wait(60) == 0, restart.communicate()
    assert listed(proxy)["services"][0]["state"] == "running"
    assert proxy.get().text == "one"


# TLS.


def test_https_goes_on(stage: Stage) -> None:
    target = stage.target(app("one"))
    proxy = https_proxy(
        stage,
        {"app": {"hosts": [target.address], "proxy": {"ssl": True}}},
        options=("--workers", "2"),
    )
    serving(proxy)

    def certificate() -> Any:
        with proxy.connect_tls(client()) as wire:
            assert isinstance(wire.sock, ssl.SSLSocket)
            wire.send(request_text())
            assert wire.read_response().text.startswith("one ")
            return wire.sock.getpeercert(binary_form=True)

    def ask(stop: Any) -> None:
        while not stop():
            with proxy.connect_tls(client()) as wire:
                while not stop():
                    wire.send(request_text())
                    response = wire.read_response()
                    assert response.status == 200
                    if response.has("connection"):
                        break

    before = certificate()
    with Load(ask, clients=3) as load, proxy.connect_tls(client()) as wire:
        wire.send(request_text(path="/long", headers={"X-Id": "7"}))
        replace(proxy)
        assert len(wire.read_response().text.splitlines()) == 20
    assert load.failures == []
    assert certificate() == before


def test_tls_sessions_are_resumed_by_the_workers_of_the_new_program(stage: Stage) -> None:
    target = stage.target(says("one"))
    proxy = https_proxy(
        stage,
        {"app": {"hosts": [target.address], "proxy": {"ssl": True}}},
        options=("--workers", "2"),
    )
    serving(proxy)
    context, session = client(), None
    for resumed in (False, True):
        with proxy.connect_tls(context, session=session) as wire:
            assert isinstance(wire.sock, ssl.SSLSocket)
            wire.send(request_text())
            assert wire.read_response().status == 200
            assert wire.sock.session_reused == resumed
            session = wire.sock.session
        if not resumed:
            replace(proxy)


# In the background.


def test_a_daemon_keeps_its_process_and_its_pidfile(stage: Stage) -> None:
    target = stage.target(says("one"))
    config = stage.deploy({"app": {"hosts": [target.address]}}, drain_timeout=5)
    daemon = Daemon(stage.folder, target, config, KPROXY_WORKERS="2")
    proxy, pid = daemon.proxy, daemon.pid
    assert pid is not None
    try:
        wait_until("it serves", lambda: proxy.listens() and proxy.get("/up").status == 200)
        old = serving(proxy)
        for number in (2, 3):
            done = proxy.command("restart", "--all")
            assert done.returncode == 0, done.stderr + daemon.logfile.read_text()
            assert generation(proxy) == number
            assert daemon.pid == pid
            assert daemon.runs()
        assert not set(old) & set(serving(proxy))
        assert proxy.get("/one").status == 200
        paths = [json.loads(line)["path"] for line in daemon.access_log.read_text().splitlines()]
        wait_until("it is logged", lambda: "/one" in daemon.access_log.read_text())
        assert "/up" in paths
        (stage.folder / "deploy.yml").write_text("what: 1\n")
        done = proxy.command("restart", "--all")
        assert done.returncode == 1
        assert "deploy.yml:1:1: what: " in done.stderr
        # The log is written on, rotations included; nobody else has written into it.
        log = daemon.logfile.read_text()
        assert [log.count(each) for each in ("starting up.", "reactor class: ")] == [3, 3]
        assert [line for line in log.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT", line)] == []
        daemon.logfile.rename(stage.folder / "kproxy.log.1")
        os.kill(pid, signal.SIGUSR1)
        wait_until("a new log", daemon.logfile.exists)
        os.kill(pid, signal.SIGTERM)
        wait_until("it has ended", lambda: not Path(f"/proc/{pid}").exists() or zombie(pid))
        assert not daemon.pidfile.exists()
        assert not proxy.listens()
        for file in (daemon.logfile, stage.folder / "kproxy.log.1"):
            assert "Traceback" not in file.read_text()
    finally:
        daemon.close()
