"""Deployments from the command line, in front of real targets and under load."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.support.proxy import KPROXY, Load, Proxy, environment
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import Target, says
from tests.e2e.support.waiting import PATIENCE, wait_until
from tests.e2e.support.wire import Request, Wire, request_text, response_text
from tests.support.ports import free_port

QUICK = ("--health-check-interval", "100ms")


def clients(proxy: Proxy, answers: Counter[str]) -> Load:
    """Clients that ask over connections that they keep, some with bodies, and note who answered."""

    def ask(stop: Callable[[], bool]) -> None:
        number = 0
        with proxy.connect() as wire:
            while not stop():
                number += 1
                body = b"x" * (number % 3 * 5000)
                wire.send(request_text("POST" if body else "GET", "/load", body=body))
                response = wire.read_response()
                assert response.status == 200, response
                assert not response.has("connection")
                answers[response.text] += 1

    return Load(ask, clients=6)


def deploy(proxy: Proxy, target: Target | str, *options: str, service: str = "app") -> None:
    """Deploy, which has to succeed."""
    address = target if isinstance(target, str) else target.address
    done = proxy.command("deploy", service, "--target", address, *QUICK, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def listed(proxy: Proxy) -> dict[str, dict[str, Any]]:
    done = proxy.command("list", "--json")
    assert done.returncode == 0, done.stderr
    return {service["service"]: service for service in json.loads(done.stdout)["services"]}


def in_background(proxy: Proxy, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*KPROXY, *arguments],
        env=environment(KPROXY_SOCKET=str(proxy.socket)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a command; its status and what it said."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out + err


def holding(name: str) -> tuple[Callable[[Wire, Request], None], threading.Event, threading.Event]:
    """A script whose answers to /slow wait; with what says that one has come, and what frees it."""
    arrived, go_on = threading.Event(), threading.Event()

    def script(wire: Wire, request: Request) -> None:
        wire.read_body(request)
        if request.target == "/slow":
            arrived.set()
            assert go_on.wait(30)
        wire.send(response_text(name))

    return script, arrived, go_on


# Deploy.


def test_deployments_under_load_fail_no_request_and_leave_the_old_target_alone(
    stage: Stage,
) -> None:
    targets = [stage.target(says(str(number))) for number in range(6)]
    proxy = stage.proxy()
    deploy(proxy, targets[0])
    answers: Counter[str] = Counter()
    with clients(proxy, answers) as load:
        for number in range(1, 6):
            old, new = targets[number - 1], targets[number]
            seen = answers[str(number - 1)]
            wait_until("the old one serves", lambda s=seen, n=number: answers[str(n - 1)] > s + 20)
            deploy(proxy, new)
            # Whoever deployed may stop the old target now; it gets nothing any more.
            count = len(old.requests)
            before = answers[str(number)]
            wait_until("the new one serves", lambda b=before, n=number: answers[str(n)] > b + 20)
            assert len(old.requests) == count
            old.close()
    assert not load.failures
    assert set(answers) == set("012345")


def test_a_target_that_does_not_get_healthy_changes_nothing(stage: Stage) -> None:
    old, ill = stage.target(says("old")), stage.target(says("ill"))
    ill.healthy = False
    proxy = stage.proxy()
    deploy(proxy, old)
    nobody = f"127.0.0.1:{free_port()}"
    for address, reason in ((ill.address, "it answered 503 to /up"), (nobody, "no connection")):
        failed = proxy.command(
            "deploy", "app", "--target", address, "--deploy-timeout", "500ms", *QUICK
        )
        assert failed.returncode == 1
        error = failed.stderr.splitlines()[-1]
        assert error.startswith(f"Error: app: not healthy within 0.5 s: {address}: {reason}")
        assert f"health check 1 of {address}: {reason}" in failed.stderr
        assert proxy.get().text == "old"
    assert ill.requests == []
    assert [t["address"] for t in listed(proxy)["app"]["targets"]] == [old.address]


def test_a_forced_deployment_does_not_wait(stage: Stage) -> None:
    ill = stage.target(says("ill"))
    ill.healthy = False
    proxy = stage.proxy()
    deploy(proxy, ill, "--force")
    assert proxy.get().text == "ill"


def test_deploy_returns_when_the_old_target_has_finished(stage: Stage) -> None:
    script, arrived, go_on = holding("old")
    old, new = stage.target(script), stage.target(says("new"))
    proxy = stage.proxy()
    deploy(proxy, old)
    with proxy.connect() as wire:
        wire.send(request_text(path="/slow"))
        assert arrived.wait(20)
        deploying = in_background(proxy, "deploy", "app", "--target", new.address, *QUICK)
        wait_until("the new one serves", lambda: proxy.get().text == "new")
        assert deploying.poll() is None
        assert [each["address"] for each in listed(proxy)["app"]["draining"]] == [old.address]
        go_on.set()
        assert wire.read_response().text == "old"
    status, said = ended(deploying)
    assert status == 0
    assert f"app is served by {new.address}" in said
    assert re.search("Draining: [12] requests? left", said)


def test_a_request_that_outlasts_the_drain_timeout_is_cut(stage: Stage) -> None:
    script, arrived, go_on = holding("old")
    old, new = stage.target(script), stage.target(says("new"))
    proxy = stage.proxy()
    deploy(proxy, old)
    with proxy.connect() as wire:
        wire.send(request_text(path="/slow"))
        assert arrived.wait(20)
        deploy(proxy, new, "--drain-timeout=200ms")
        assert wire.read_response().status == 504
    go_on.set()


def test_ctrl_c_cancels_a_deployment_that_waits(stage: Stage) -> None:
    old, new = stage.target(says("old")), stage.target(says("new"))
    new.healthy = False
    proxy = stage.proxy()
    deploy(proxy, old)
    deploying = in_background(proxy, "deploy", "app", "--target", new.address, *QUICK)
    wait_until("it is asked", lambda: new.health_checks)
    deploying.send_signal(signal.SIGINT)
    assert ended(deploying)[0] == 130
    proxy.said("it was cancelled")
    new.healthy = True
    assert not listed(proxy)["app"]["deploying"]
    assert proxy.get().text == "old"


def test_a_host_of_another_service_is_refused(stage: Stage) -> None:
    target = stage.target(says("one"))
    proxy = stage.proxy()
    deploy(proxy, target, "--host", "app.example,www.example", service="one")
    refused = proxy.command(
        "deploy", "two", "--target", target.address, "--host=x.example", "--host", "WWW.example"
    )
    assert refused.returncode == 1
    assert refused.stderr == "Error: host is used by another service (one)\n"
    deploy(proxy, target, "--host", "www.example", "--path-prefix", "/api", service="two")
    assert set(listed(proxy)) == {"one", "two"}


def test_a_service_of_the_file_keeps_what_no_flag_names(stage: Stage) -> None:
    old, new = stage.target(), stage.target()
    proxy = stage.app(old, forward_headers=False)
    deploy(proxy, new, service="shop-app")
    proxy.get(x_forwarded_for="1.2.3.4")
    assert new.requests[0].get("x-forwarded-for") == "127.0.0.1"
    # The file says nothing new, and so does not undo it.
    assert proxy.command("reload").returncode == 0
    proxy.get()
    assert len(new.requests) == 2


def test_reload_says_what_is_wrong_with_the_file(stage: Stage) -> None:
    target = stage.target(says("a"))
    proxy = stage.app(target)
    (stage.folder / "deploy.yml").write_text("service: [")
    failed = proxy.command("reload")
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: ")
    assert "deploy.yml:2:1: is not YAML" in failed.stderr
    assert proxy.get().text == "a"


# Pause, stop, resume, remove.


def test_a_pause_holds_requests_and_resume_lets_them_pass(stage: Stage) -> None:
    target = stage.target(says("a"))
    proxy = stage.proxy()
    deploy(proxy, target)
    assert proxy.command("pause", "app").returncode == 0
    assert listed(proxy)["app"]["state"] == "paused"
    with proxy.connect() as wire:
        wire.send(request_text(path="/held"))
        assert proxy.get("/up").status == 200
        assert target.requests == []
        assert proxy.command("resume", "app").returncode == 0
        assert wire.read_response().text == "a"
    assert listed(proxy)["app"]["state"] == "running"


def test_a_pause_waits_for_requests_under_way(stage: Stage) -> None:
    script, arrived, go_on = holding("a")
    proxy = stage.proxy()
    deploy(proxy, stage.target(script))
    with proxy.connect() as wire:
        wire.send(request_text(path="/slow"))
        assert arrived.wait(20)
        pausing = in_background(proxy, "pause", "app")
        wait_until("it is paused", lambda: listed(proxy)["app"]["state"] == "paused")
        assert pausing.poll() is None
        go_on.set()
        assert wire.read_response().text == "a"
    assert ended(pausing)[0] == 0


def test_a_pause_under_load_fails_no_request(stage: Stage) -> None:
    first, second = stage.target(says("1")), stage.target(says("2"))
    proxy = stage.proxy()
    deploy(proxy, first)
    answers: Counter[str] = Counter()
    with clients(proxy, answers) as load:
        wait_until("it serves", lambda: answers["1"] > 20)
        assert proxy.command("pause", "app").returncode == 0
        count = len(first.requests)
        deploy(proxy, second)
        assert len(first.requests) == count
        assert second.requests == []
        assert proxy.command("resume", "app").returncode == 0
        wait_until("the new one serves", lambda: answers["2"] > 20)
    assert not load.failures
    assert len(first.requests) == count


def sent_but_for_the_end(proxy: Proxy) -> Wire:
    """A connection with a request whose last byte is still to come."""
    wire = proxy.connect()
    wire.send(request_text("POST", "/held", body=b"whole")[:-1])
    # A whole request over another connection: by now the first is being collected.
    assert proxy.get().status == 200
    return wire


def test_a_request_that_is_being_collected_when_a_pause_comes_is_held(stage: Stage) -> None:
    target = stage.target(says("a"))
    proxy = stage.proxy()
    deploy(proxy, target, "--buffer-requests")
    with sent_but_for_the_end(proxy) as wire:
        assert proxy.command("pause", "app").returncode == 0
        wire.send(b"e")
        assert proxy.get("/up").status == 200
        assert [request.target for request in target.requests] == ["/"]
        assert proxy.command("resume", "app").returncode == 0
        assert wire.read_response().text == "a"
    assert [request.target for request in target.requests] == ["/", "/held"]


def test_a_request_that_is_being_collected_when_a_stop_comes_is_turned_away(stage: Stage) -> None:
    target = stage.target(says("a"))
    proxy = stage.proxy()
    deploy(proxy, target, "--buffer-requests")
    with sent_but_for_the_end(proxy) as wire:
        assert proxy.command("stop", "app", "--message", "closed").returncode == 0
        wire.send(b"e")
        response = wire.read_response()
    assert (response.status, "closed" in response.text) == (503, True)
    assert [request.target for request in target.requests] == ["/"]


def test_a_request_that_is_being_collected_when_the_switch_comes_goes_to_the_new_target(
    stage: Stage,
) -> None:
    old, new = stage.target(says("old")), stage.target(says("new"))
    proxy = stage.proxy()
    deploy(proxy, old, "--buffer-requests")
    with sent_but_for_the_end(proxy) as wire:
        deploy(proxy, new, "--buffer-requests")
        old.close()
        wire.send(b"e")
        assert wire.read_response().text == "new"


def test_a_pause_that_lasts_too_long_is_a_504(stage: Stage) -> None:
    proxy = stage.proxy()
    deploy(proxy, stage.target())
    assert proxy.command("pause", "app", "--max-pause", "100ms").returncode == 0
    assert proxy.get("/").status == 504


def test_a_stopped_service_answers_with_its_message(stage: Stage) -> None:
    target = stage.target(says("a"))
    proxy = stage.proxy()
    deploy(proxy, target)
    assert proxy.command("stop", "app", "--message", "Back <soon>").returncode == 0
    response = proxy.get()
    assert response.status == 503
    assert "Back &lt;soon&gt;" in response.text
    assert proxy.get("/up").status == 200
    assert target.requests == []
    assert proxy.command("resume", "app").returncode == 0
    assert proxy.get().text == "a"


def test_a_removed_service_is_gone(stage: Stage) -> None:
    proxy = stage.proxy()
    deploy(proxy, stage.target(says("a")))
    assert proxy.command("remove", "app").returncode == 0
    assert proxy.get().status == 404
    again = proxy.command("remove", "app")
    assert (again.returncode, again.stderr) == (1, "Error: service not found: app\n")


# Restarts.


def restarted(stage: Stage, proxy: Proxy, number: int = signal.SIGTERM) -> Proxy:
    proxy.stop(number)
    return stage.proxy(port=proxy.port)


def test_a_restart_serves_what_was_deployed_from_the_first_request_on(stage: Stage) -> None:
    target = stage.target(says("a"))
    proxy = stage.proxy()
    deploy(proxy, target, "--host", "app.example")
    deploy(proxy, target, "--host", "b.example", service="b")
    proxy.command("stop", "b", "--message", "closed")
    checks = len(target.health_checks)
    proxy = restarted(stage, proxy)
    assert proxy.get().text == "a"
    assert "closed" in proxy.get(host="b.example").text
    assert len(target.health_checks) == checks


def test_a_kill_in_the_middle_of_a_deployment_leaves_the_last_finished_state(
    stage: Stage,
) -> None:
    old, new = stage.target(says("old")), stage.target(says("new"))
    new.healthy = False
    proxy = stage.proxy()
    deploy(proxy, old)
    deploying = in_background(proxy, "deploy", "app", "--target", new.address, *QUICK)
    wait_until("it is asked", lambda: new.health_checks)
    proxy = restarted(stage, proxy, signal.SIGKILL)
    status, said = ended(deploying)
    assert status == 1
    assert "Error: the proxy went away before it was done" in said
    assert proxy.get().text == "old"
    new.healthy = True
    deploy(proxy, new)
    assert restarted(stage, proxy, signal.SIGKILL).get().text == "new"


@pytest.mark.parametrize("moment", ["told", "saved", "drained"])
def test_a_kill_behind_the_switch_leaves_what_was_saved_last(stage: Stage, moment: str) -> None:
    script, arrived, go_on = holding("old")
    old, new = stage.target(script), stage.target(says("new"))
    proxy = stage.proxy()
    deploy(proxy, old)
    with proxy.connect() as wire:
        wire.send(request_text(path="/slow"))
        assert arrived.wait(20)
        deploying = in_background(proxy, "deploy", "app", "--target", new.address, *QUICK)
        if moment == "told":
            assert deploying.stderr is not None
            wait_until("it is told", lambda: "is served by" in deploying.stderr.readline())
        else:
            state = proxy.state / "state.json"
            wait_until("it is saved", lambda: f'"port": {new.port}' in state.read_text())
        if moment == "drained":
            go_on.set()
            assert ended(deploying)[0] == 0
        proxy = restarted(stage, proxy, signal.SIGKILL)
        go_on.set()
    if moment != "drained":
        assert ended(deploying)[0] == 1
    # Until the command has returned, either is right; but one of them it is.
    right = {"old", "new"} if moment == "told" else {"new"}
    answers = {proxy.get().text for _ in range(4)}
    assert len(answers) == 1
    assert answers <= right


def test_a_kill_in_the_middle_of_a_pause_leaves_it_paused(stage: Stage) -> None:
    script, arrived, go_on = holding("a")
    proxy = stage.proxy()
    deploy(proxy, stage.target(script))
    with proxy.connect() as wire:
        wire.send(request_text(path="/slow"))
        assert arrived.wait(20)
        pausing = in_background(proxy, "pause", "app", "--max-pause", "1s")
        state = proxy.state / "state.json"
        wait_until("it is saved", lambda: '"paused"' in state.read_text())
        proxy = restarted(stage, proxy, signal.SIGKILL)
        go_on.set()
    assert ended(pausing)[0] == 1
    assert listed(proxy)["app"]["state"] == "paused"
    assert proxy.get().status == 504


def test_a_service_that_was_stopped_before_it_was_ever_healthy_stays_stopped(
    stage: Stage,
) -> None:
    target = stage.target(says("a"))
    target.healthy = False
    config = stage.deploy({"app": {"hosts": [target.address]}})
    proxy = stage.proxy(config)
    assert proxy.command("stop", "shop-app", "--message", "soon").returncode == 0
    proxy.stop(signal.SIGKILL)
    proxy = stage.proxy(config, port=proxy.port)
    assert "soon" in proxy.get().text
    target.healthy = True
    assert proxy.command("resume", "shop-app").returncode == 0
    wait_until("it serves", lambda: proxy.get().status == 200)


def test_what_a_later_version_wrote_into_the_state_is_ignored_with_a_warning(stage: Stage) -> None:
    proxy = stage.proxy()
    deploy(proxy, stage.target(says("a")))
    proxy.stop()
    file = proxy.state / "state.json"
    state = json.loads(file.read_text())
    state["services"][0]["service"]["shiny"] = True
    file.write_text(json.dumps(state))
    proxy = stage.proxy()
    proxy.said("service.shiny, which is not known, and is ignored")
    assert proxy.get().text == "a"


def test_a_damaged_state_is_set_aside_and_does_not_stop_the_boot(stage: Stage) -> None:
    proxy = stage.proxy()
    deploy(proxy, stage.target(says("a")))
    proxy.stop()
    file = proxy.state / "state.json"
    file.write_text(file.read_text()[:50])
    proxy = stage.proxy()
    proxy.said("can't be read, and is now state.json.damaged-1")
    assert proxy.get().status == 404
    deploy(proxy, stage.target(says("b")))
    assert proxy.get().text == "b"
    assert sorted(os.listdir(proxy.state)) == ["lock", "state.json", "state.json.damaged-1"]


def test_a_proxy_that_can_not_keep_its_state_works_and_says_so(stage: Stage) -> None:
    (stage.folder / "file").write_text("")
    proxy = stage.proxy(KPROXY_STATE_DIR=str(stage.folder / "file" / "state"))
    proxy.said("deployments will be forgotten with this process")
    deploy(proxy, stage.target(says("a")))
    assert proxy.get().text == "a"


# The socket.


def test_only_its_owner_may_use_the_socket(stage: Stage) -> None:
    proxy = stage.proxy()
    wait_until("the socket is there", proxy.socket.exists)
    assert stat.S_IMODE(proxy.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(proxy.state.stat().st_mode) == 0o700
    proxy.stop()
    assert not proxy.socket.exists()


def test_a_socket_that_is_in_use_is_refused_with_its_owner(stage: Stage) -> None:
    proxy = stage.proxy()
    assert listed(proxy) == {}
    other = stage.start(port=free_port())
    assert other.join() == 1
    assert f"another kproxy with the process id {proxy.process.pid} has the socket" in other.output
    assert listed(proxy) == {}


def test_a_socket_that_was_left_behind_is_replaced(stage: Stage) -> None:
    proxy = stage.proxy()
    wait_until("the socket is there", proxy.socket.exists)
    proxy.stop(signal.SIGKILL)
    assert proxy.socket.exists()
    assert listed(restarted(stage, proxy)) == {}


def test_a_command_without_a_proxy_says_where_it_looked(stage: Stage) -> None:
    proxy = stage.proxy()
    proxy.stop()
    failed = proxy.command("list")
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"Error: no kproxy listens on {proxy.socket}")


def test_the_interface_speaks_plain_http(stage: Stage) -> None:
    target = stage.target(says("a"))
    proxy = stage.proxy()
    body = json.dumps({"target": [target.address], "host": ["app.example"]}).encode()
    assert listed(proxy) == {}

    def ask(method: str, path: str, body: bytes = b"") -> Any:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(proxy.socket))
        with Wire(sock) as wire:
            wire.send(request_text(method, path, "kproxy", None, body))
            return wire.read_response(method)

    deployed = ask("POST", "/services/app/deploy", body)
    assert deployed.status == 200
    events = [json.loads(line) for line in deployed.text.splitlines()]
    assert [event["event"] for event in events] == ["check", "switched", "done"]
    assert json.loads(ask("GET", "/services").text)["services"][0]["service"] == "app"
    assert ask("GET", "/services/app").status == 200
    for method, path, sent, status in (
        ("GET", "/services/none", b"", 404),
        ("GET", "/what", b"", 404),
        ("POST", "/services/app/what", b"", 404),
        ("POST", "/services/none/resume", b"", 404),
        ("POST", "/services/app/deploy", b"[]", 400),
        ("POST", "/services/app/deploy", b"{", 400),
        ("POST", "/services/app/deploy", b"{}", 400),
        ("POST", "/services/app/pause", b'{"max_pause": "long"}', 400),
        ("POST", "/services/app/pause", b'{"what": 1}', 400),
        ("POST", "/services/other/deploy", body, 409),
        ("DELETE", "/services/none", b"", 404),
    ):
        refused = ask(method, path, sent)
        assert refused.status == status, (path, sent)
        assert json.loads(refused.text)["error"]
    assert json.loads(ask("DELETE", "/services/app").text) == {"event": "done"}
    assert proxy.get().status == 404
