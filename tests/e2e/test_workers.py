"""Worker processes: they share the work, are replaced, and nobody notices (kproxy --workers)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support.proxy import Load, Proxy
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target
from tests.e2e.support.traffic import Traffic, app
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Wire, request_text, response_text
from tests.e2e.test_signals import Held

ASK = "GET / HTTP/1.1\r\nHost: app.example\r\n\r\n"


def workers(proxy: Proxy) -> list[dict[str, Any]]:
    """What the proxy says of its workers."""
    done = proxy.command("list", "--json")
    assert done.returncode == 0, done.stderr
    listed: list[dict[str, Any]] = json.loads(done.stdout)["workers"]
    return listed


def serving(proxy: Proxy, count: int = 2) -> list[int]:
    """Wait until so many workers serve, and no other is left; their process ids."""

    def all_serve() -> list[int]:
        listed = workers(proxy)
        states = [each["state"] for each in listed]
        return [each["pid"] for each in listed] if states == ["serving"] * count else []

    return wait_until(f"{count} workers serve", all_serve)


def start(stage: Stage, *targets: Target, count: str = "2", **options: Any) -> Proxy:
    """A proxy with workers, all of which serve."""
    hosts = [target.address for target in targets]
    config = stage.deploy({"app": {"hosts": hosts}}, drain_timeout=10)
    options.setdefault("healthy", ("app.example",))
    proxy = stage.proxy(config, options=("--workers", count), **options)
    serving(proxy, int(count))
    return proxy


def ask(wire: Wire) -> int:
    wire.send(ASK)
    return wire.read_response().status


def spread(proxy: Proxy) -> Counter[int]:
    """How many connections each process has on the port of the proxy."""
    listed = subprocess.run(
        ["ss", "-Htnp", "state", "established", f"sport = :{proxy.port}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return Counter(int(pid) for pid in re.findall(r"pid=(\d+)", listed.stdout))


@pytest.fixture
def proxy(stage: Stage) -> Proxy:
    return start(stage, stage.target(app("one")))


def test_two_workers_share_64_clients_evenly(proxy: Proxy) -> None:
    pids = serving(proxy)
    wires = [proxy.connect() for _ in range(64)]
    assert [ask(wire) for wire in wires] == [200] * 64
    counts = spread(proxy)
    assert set(counts) == set(pids)
    assert all(26 <= count <= 38 for count in counts.values()), counts
    for wire in wires:
        wire.close()


def test_a_worker_that_is_killed_loses_its_own_connections_and_is_replaced(proxy: Proxy) -> None:
    killed, other = serving(proxy)
    wires = [proxy.connect() for _ in range(16)]
    assert [ask(wire) for wire in wires] == [200] * 16
    had = spread(proxy)
    os.kill(killed, signal.SIGKILL)
    proxy.said(f"worker {killed} has ended by SIGKILL: its connections are lost")

    def alive(wire: Wire) -> bool:
        try:
            return ask(wire) == 200
        except (OSError, EOFError, AssertionError):
            return False

    assert sum(alive(wire) for wire in wires) == had[other]
    pids = serving(proxy)
    assert other in pids
    assert killed not in pids
    assert proxy.get().status == 200


def test_deployments_and_pauses_under_load_are_those_of_all_workers(stage: Stage) -> None:
    targets = [stage.target(app(str(number))) for number in range(3)]
    proxy = start(stage, targets[0])
    with Traffic(proxy) as traffic:
        for number in (1, 2):
            old, new = targets[number - 1], targets[number]
            traffic.goes_to(str(number - 1))
            done = proxy.command("deploy", "shop-app", "--target", new.address)
            assert done.returncode == 0, done.stderr
            count = len(old.requests)
            old.close()
            traffic.goes_to(str(number))
            assert len(old.requests) == count
        assert proxy.command("pause", "shop-app").returncode == 0
        count = len(targets[2].requests)
        assert proxy.command("list").returncode == 0
        assert len(targets[2].requests) == count
        assert proxy.command("resume", "shop-app").returncode == 0
        traffic.goes_to("2")


def test_every_line_of_the_access_log_is_whole(stage: Stage) -> None:
    target = stage.target(lambda wire, request: wire.send(response_text("x")))
    proxy = start(stage, target)
    # Longer than what a pipe takes in one piece from several writers.
    agents = [f"agent-{number}-" + "x" * 6000 for number in range(8)]

    def client(number: int) -> None:
        with proxy.connect() as wire:
            for _ in range(20):
                wire.send(request_text("GET", "/", "app.example", {"User-Agent": agents[number]}))
                assert wire.read_response().status == 200

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert proxy.stop() == 0
    lines = [line for line in proxy.stdout.lines if "agent-" in line]
    assert Counter(json.loads(line)["user_agent"] for line in lines) == dict.fromkeys(agents, 20)


def test_term_lets_the_requests_of_all_workers_finish(stage: Stage) -> None:
    held = Held()
    proxy = start(stage, stage.target(held))
    pids = serving(proxy)
    wires = [proxy.connect() for _ in range(8)]
    for wire in wires:
        wire.send(request_text("GET", "/slow", "app.example"))
    assert all(held.arrived.acquire(timeout=20) for _ in wires)
    assert set(spread(proxy)) == set(pids)
    proxy.send_signal(signal.SIGTERM)
    wait_until("it does not listen", lambda: not proxy.listens())
    held.go_on.set()
    assert [wire.read_response().text for wire in wires] == ["finished"] * 8
    assert proxy.join() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert len(proxy.log_lines()) == 8


def test_a_reload_is_served_by_all_workers(stage: Stage) -> None:
    one, two = stage.target(app("one")), stage.target(app("two"))
    proxy = start(stage, one)
    with Traffic(proxy) as traffic:
        traffic.goes_to("one")
        stage.deploy({"app": {"hosts": [two.address]}})
        assert proxy.command("reload").returncode == 0
        count = len(one.requests)
        traffic.goes_to("two")
        assert len(one.requests) == count


def ask_without_a_pause(proxy: Proxy) -> Any:
    """A client that keeps its connection as long as the proxy does."""

    def client(stop: Any) -> None:
        while not stop():
            with proxy.connect() as wire:
                while not stop():
                    wire.send(ASK)
                    response = wire.read_response()
                    assert response.status == 200, response
                    if response.has("connection"):
                        break

    return client


@pytest.mark.parametrize("how", ["command", "signal"])
def test_a_restart_under_load_fails_no_request(stage: Stage, how: str) -> None:
    proxy = start(stage, stage.target(app("one")))
    with Load(ask_without_a_pause(proxy), clients=8) as load:
        for _ in range(2):
            old = serving(proxy)
            if how == "command":
                done = proxy.command("restart")
                assert done.returncode == 0, done.stderr
            else:
                proxy.send_signal(signal.SIGUSR2)
            wait_until("the old workers have ended", lambda old=old: not set(old) & pids_of(proxy))
            assert not set(old) & set(serving(proxy))
    assert load.failures == []


def pids_of(proxy: Proxy) -> set[int]:
    return {each["pid"] for each in workers(proxy)}


def test_a_restart_lets_a_long_download_finish(stage: Stage) -> None:
    proxy = start(stage, stage.target(app("one")))
    with proxy.connect() as wire:
        wire.send(request_text("GET", "/long", "app.example", {"X-Id": "7"}))
        old = pids_of(proxy)
        assert proxy.command("restart").returncode == 0
        assert len(wire.read_response().text.splitlines()) == 20
    wait_until("the old workers have ended", lambda: not old & pids_of(proxy))


def test_a_restart_with_code_that_does_not_start_leaves_the_old_workers(stage: Stage) -> None:
    plugins = stage.folder / "site" / "kproxy" / "plugins"
    plugins.mkdir(parents=True)
    good = (
        "import os\n"
        "from kproxy.plugins import WrapperPlugin\n"
        "def wrap(resource, options):\n"
        "    return resource\n"
        'nothing = WrapperPlugin("nothing", "Does nothing.", wrap)\n'
    )
    module = plugins / "nothing.py"
    module.write_text(good)
    target = stage.target(app("one"))
    config = stage.deploy(
        {"app": {"hosts": [target.address]}}, x_kproxy={"wrappers": [{"nothing": {}}]}
    )
    proxy = stage.proxy(
        config,
        healthy=("app.example",),
        options=("--workers", "2"),
        PYTHONPATH=str(stage.folder / "site"),
    )
    old = serving(proxy)
    module.write_text("import nowhere_to_be_found\n")
    done = proxy.command("restart")
    assert done.returncode == 1
    assert "there is no wrapper 'nothing'" in done.stderr
    assert serving(proxy) == old
    assert proxy.get().status == 200
    module.write_text(good)
    assert proxy.command("restart").returncode == 0
    wait_until("the old workers have ended", lambda: not set(old) & pids_of(proxy))
    assert proxy.get().status == 200


def test_workers_end_when_their_control_process_is_gone(stage: Stage) -> None:
    held = Held()
    proxy = start(stage, stage.target(held))
    pids = serving(proxy)
    with proxy.connect() as wire:
        wire.send(request_text("GET", "/slow", "app.example"))
        assert held.arrived.acquire(timeout=20)
        proxy.process.kill()
        proxy.process.wait()
        wait_until("nobody listens", lambda: not proxy.listens())
        held.go_on.set()
        assert wire.read_response().text == "finished"
    wait_until("they end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    proxy.stdout.join()
    assert proxy.logged(path="/slow", status=200)


def test_workers_that_end_again_and_again_are_an_error(stage: Stage) -> None:
    proxy = start(stage, stage.target(app("one")), count="1")
    for _ in range(5):
        (pid,) = serving(proxy, 1)
        os.kill(pid, signal.SIGKILL)
        proxy.said(f"worker {pid} has ended by SIGKILL")
    proxy.said("workers do not stay up")
    # What it says while there is nobody to serve; and then it goes on.
    serving(proxy, 1)
    assert proxy.get().status == 200


def test_a_worker_that_does_not_answer_is_replaced(stage: Stage) -> None:
    proxy = start(stage, stage.target(app("one")))
    stuck, other = serving(proxy)
    os.kill(stuck, signal.SIGSTOP)
    began = time.monotonic()
    done = proxy.command("stop", "shop-app")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 60
    proxy.said(f"worker {stuck} has ended by SIGKILL")
    pids = serving(proxy)
    assert stuck not in pids
    assert other in pids
    assert proxy.get().status == 503


def test_without_workers_there_is_nothing_to_restart(stage: Stage) -> None:
    proxy = stage.proxy(options=("--workers", "0"))
    done = proxy.command("restart")
    assert done.returncode == 1
    assert "no workers" in done.stderr
