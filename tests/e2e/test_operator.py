"""What an operator does on an evening: supervisord, two versions of a gunicorn application, ``while
curl`` in one terminal, and ``kproxy`` in another."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.support.apps import APPS
from tests.e2e.support.automatic import StartPebble, World
from tests.e2e.support.proxy import Lines, environment
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says
from tests.e2e.support.waiting import PATIENCE, wait_until
from tests.e2e.test_supervisord import Supervisor
from tests.support.ports import free_port

VISIT = "curl -sf -H 'Host: {host}' -w ' %{{http_code}}\\n' {url}"


class Shop:
    """A running supervisord with both versions of the application."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "orders.db"
        shown = "python3 %(here)s/apps/web.py"
        gunicorn = f"env HOME=%(here)s gunicorn --threads=4 --chdir={APPS}"
        gunicorn += f" --env=DATABASE={self.database} --env=PYTHONDONTWRITEBYTECODE=1"
        changes = {
            # Both are up from the start, and stay down when they are killed.
            "autostart=false": "autorestart=false",
            f"{shown} 3001": f"{gunicorn} --env=VERSION=blue --bind=127.0.0.1:3001 orders:app",
            f"{shown} 3002": f"{gunicorn} --env=VERSION=green --bind=127.0.0.1:3002 orders:app",
        }
        self.supervisor = Supervisor(folder, changes)
        ports = self.supervisor.ports
        self.blue, self.green = (f"127.0.0.1:{ports[port]}" for port in ("3001", "3002"))
        self.url = f"http://127.0.0.1:{ports['8080']}/"

    def kproxy(self, *command: str, status: int = 0) -> list[str]:
        """The lines that a command says."""
        return self.supervisor.kproxy(*command, status=status).splitlines()

    def deploy(self, name: str, *targets: str, status: int = 0, **flags: str) -> list[str]:
        given = {"host": f"{name}.example", "target": ",".join(targets), **flags}
        arguments = [f"--{flag.replace('_', '-')}={value}" for flag, value in given.items()]
        return self.kproxy("deploy", name, *arguments, status=status)

    def visits(self, name: str) -> Loop:
        """A visitor who comes again and again; each line is a version and a status."""
        return Loop(VISIT.format(host=f"{name}.example", url=self.url))

    def orders(self, name: str, buyer: str) -> Loop:
        """A visitor who orders again and again; each line is an order and a status."""
        return Loop(
            f"curl -s -o /dev/null -H 'Host: {name}.example' -d {buyer}-$n {self.url} "
            f"-w '{buyer}-'$n' %{{http_code}}\\n'"
        )

    def wait_until_up(self) -> None:
        """Both versions answer, and kproxy takes commands."""
        self.supervisor.wait_until_up()
        for address in (self.blue, self.green):
            ask = f"curl -s {address}/up || true"
            wait_until("it is up", partial(subprocess.check_output, ask, shell=True))

    def kill(self, version: str) -> None:
        """All of its processes, from one moment to the next."""
        os.killpg(int(self.supervisor.control("pid", version)), signal.SIGKILL)


class Loop:
    """A command, and again, and again, in a shell of its own."""

    def __init__(self, command: str) -> None:
        script = f"n=0; while read -t 0 stop; [ $? -ne 0 ]; do n=$((n+1)); {command}; done"
        self.process = subprocess.Popen(
            ["bash", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        self._output = Lines(self.process.stdout)

    @property
    def lines(self) -> list[str]:
        return [line.strip() for line in list(self._output.lines)]

    def goes_on(self, line: str) -> None:
        """Wait until it has said a line some more times."""
        count = self.lines.count(line) + 5
        wait_until(f"{line!r} in {self.lines[-3:]}", lambda: self.lines.count(line) >= count)

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self._output.join()


@pytest.fixture(scope="module")
def shop(require_tool: Callable[[str], str]) -> Iterator[Shop]:
    require_tool("curl")
    # Not pytest's folder: the path of a Unix socket may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="kproxy-") as folder:
        shop = Shop(Path(folder))
        try:
            shop.wait_until_up()
            yield shop
        finally:
            shop.supervisor.close()


def test_what_goes_wrong_with_a_deployment_is_said_and_no_visitor_notices(shop: Shop) -> None:
    assert shop.deploy("shop", shop.blue) == [
        f"health check 1 of {shop.blue}: healthy",
        f"shop is served by {shop.blue}",
    ]
    nobody = f"127.0.0.1:{free_port()}"
    with shop.visits("shop") as visits:
        visits.goes_on("blue 200")
        for target, path, why in (
            (shop.green, "/health", "it answered 404 to /health"),
            (nobody, "/up", "no connection: Connection refused"),
        ):
            flags = {"deploy_timeout": "500ms", "health_check_path": path}
            assert shop.deploy("shop", target, status=1, **flags) == [
                f"health check 1 of {target}: {why}",
                f"Error: shop: not healthy within 0.5 s: {target}: {why}",
            ]
        taken = "Error: host is used by another service (shop)"
        assert shop.deploy("blog", shop.green, host="shop.example", status=1) == [taken]
        visits.goes_on("blue 200")
        shop.deploy("shop", shop.green)
        visits.goes_on("green 200")
    switch = visits.lines.index("green 200")
    assert set(visits.lines[:switch]) == {"blue 200"}
    assert set(visits.lines[switch:]) == {"green 200"}


def test_an_application_that_is_killed_is_missed_only_where_it_is_the_only_one(shop: Shop) -> None:
    shop.deploy("pair", shop.blue, shop.green)
    shop.deploy("alone", shop.blue)
    with shop.visits("pair") as visits:
        visits.goes_on("blue 200")
    shop.kill("blue")
    with shop.visits("pair") as visits, shop.visits("alone") as alone:
        alone.goes_on("502")

        def listed() -> list[str]:
            return [line for line in shop.kproxy("list") if f"{shop.blue} unhealthy" in line]

        wait_until("kproxy notices", lambda: {"pair", "alone"} <= {n.split()[0] for n in listed()})
        # When it is back, nobody has to tell kproxy.
        shop.supervisor.control("start", "blue")
        alone.goes_on("blue 200")
        visits.goes_on("blue 200")
    assert set(visits.lines) == {"blue 200", "green 200"}
    assert set(alone.lines) == {"502", "blue 200"}


def test_a_migration_behind_a_pause_loses_no_order(shop: Shop) -> None:
    shop.deploy("orders", shop.blue)
    migrating = shop.database.with_suffix(".migrating")
    buyers = [shop.orders("orders", name) for name in ("ann", "bob", "eve")]
    with buyers[0], buyers[1], buyers[2]:
        wait_until("they buy", lambda: all(len(buyer.lines) > 5 for buyer in buyers))
        assert shop.kproxy("pause", "orders", "--max-pause=1m") == []
        migrating.touch()
        before = shop.database.read_bytes()
        # The version that knows the new database takes over while nobody is served.
        shop.deploy("orders", shop.green)
        assert "paused" in "\n".join(shop.kproxy("list"))
        assert shop.database.read_bytes() == before
        migrating.unlink()
        shop.kproxy("resume", "orders")
        bought = [len(buyer.lines) for buyer in buyers]
        wait_until(
            "they buy again",
            lambda: all(len(b.lines) > n + 5 for b, n in zip(buyers, bought, strict=True)),
        )
    said = [line.split() for buyer in buyers for line in buyer.lines]
    assert {status for _, status in said} == {"200"}
    assert sorted(shop.database.read_text().split()) == sorted(order for order, _ in said)


def test_a_tenth_of_the_visitors_stays_the_same_when_the_proxy_is_started_again(
    shop: Shop,
) -> None:
    shop.deploy("tenth", shop.blue)
    assert shop.kproxy("rollout", "deploy", "tenth", f"--target={shop.green}") == [
        f"health check 1 of {shop.green}: healthy",
        f"The rollout of tenth is served by {shop.green}",
    ]
    shop.kproxy("rollout", "set", "tenth", "--percent=10")
    parts = [
        f"-b kamal-rollout={n}@example -H Host:tenth.example {shop.url}" for n in range(1, 101)
    ]
    command = ["bash", "-c", "curl -sf -w '\\n' " + " --next -sf -w '\\n' ".join(parts)]

    def visitors() -> list[str]:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
        return done.stdout.split()

    before = visitors()
    assert 1 <= before.count("green") <= 25
    assert before.count("blue") == 100 - before.count("green")
    shop.supervisor.control("restart", "kproxy")
    shop.supervisor.wait_until_up()
    assert visitors() == before
    shop.kproxy("rollout", "stop", "tenth")
    assert set(visitors()) == {"blue"}


def test_tls_by_command_has_a_certificate_for_the_first_visitor(
    stage: Stage, start_pebble: StartPebble
) -> None:
    world = World(stage, start_pebble)
    proxy = world.start(world.deploy(ssl=False))
    target = stage.target(says("by command"))
    arguments = ("deploy", "shop", "--target", target.address, "--host=shop.example", "--tls")
    done = proxy.command(*arguments)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert world.get("shop.example")[:2] == (200, b"by command")
    listed = proxy.command("list").stdout
    assert "days" in next(line for line in listed.splitlines() if line.startswith("shop "))
