"""How an operator meets kproxy: its options, its files and what is wrong with them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.e2e.support.proxy import KPROXY, TWISTD, Proxy, run
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says
from tests.support.ports import free_port

BAD = """\
service: shop
servers:
  - 127.0.0.1:3000
proxy:
  host: shop.example
  hostt: shop.example
  response_timeout: soon
  buffering:
    memory: lots
    max_request_bdy: 5
x-kproxy:
  wrappers:
    - no-such-wrapper
    - path-prefix: {colour: red}
"""


def write(folder: Path, text: str, name: str = "deploy.yml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def fails(proxy: Proxy) -> str:
    """Wait for its end with status 1; what it said."""
    assert proxy.join() == 1
    assert not proxy.listens()
    assert "Traceback" not in proxy.output
    return proxy.output


def test_all_errors_of_a_file_are_told_at_once_and_nothing_listens(stage: Stage) -> None:
    config = write(stage.folder, BAD)
    lines = fails(stage.start(config, port=free_port())).splitlines()
    assert all(line.startswith(f"{config}:") for line in lines), lines
    places = [line.removeprefix(f"{config}:").split(": ")[:2] for line in lines]
    assert places == [
        ["6:3", "proxy.hostt"],
        ["7:21", "proxy.response_timeout"],
        ["9:13", "proxy.buffering.memory"],
        ["10:5", "proxy.buffering.max_request_bdy"],
        ["13:7", "x-kproxy.wrappers"],
        ["14:20", "x-kproxy.wrappers.path-prefix"],
        ["14:21", "x-kproxy.wrappers.path-prefix.colour"],
    ]
    assert 'is "lots"' in lines[2]
    assert "max_request_body" in lines[3], "the nearest known key"
    assert "no-such-wrapper" in lines[4]


def test_check_tells_the_same_errors(stage: Stage) -> None:
    config = write(stage.folder, BAD)
    proxy = stage.start(config, port=free_port())
    done = run([*KPROXY, "check", config])
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip() == fails(proxy).strip()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("service: [", "is not YAML"),
        (
            "service: shop\nservers: [a]\nproxy: {host: '<%= ENV.fetch(\"NOT_THERE\") %>'}",
            "NOT_THERE",
        ),
        ("service: shop\nservers: [a]\nproxy: {host: '<% exec %>'}", "deploy.yml:3"),
        ("service: shop\nservers: [a]\nerror_pages_path: missing", "missing"),
        (
            "service: shop\nservers: {web: [a], job: {hosts: [b], proxy: {ssl_redirect: false}}}",
            "shop-job",
        ),
        ("\x00", "deploy.yml"),
    ],
    ids=["empty", "not-yaml", "variable", "ruby", "pages", "same-hosts", "nul"],
)
def test_a_file_that_makes_no_sense_ends_kproxy_with_a_message(
    stage: Stage, text: str, complaint: str
) -> None:
    config = write(stage.folder, text)
    said = fails(stage.start(config, port=free_port()))
    assert complaint in said
    assert "deploy.yml" in said


def test_a_missing_file_is_told(stage: Stage) -> None:
    said = fails(stage.start(stage.folder / "nowhere.yml", port=free_port()))
    assert "nowhere.yml" in said


def test_a_port_in_use_is_told_clearly(stage: Stage) -> None:
    config = stage.deploy({"app": {"hosts": ["127.0.0.1:3000"]}})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        proxy = stage.start(config, port=port)
        assert proxy.join() == 1
        assert proxy.output.strip() == (
            f"Error: can't listen on 127.0.0.1 port {port}: Address already in use"
        )


def test_check_says_ok_and_what_it_understood(stage: Stage) -> None:
    roles = {
        "web": {"hosts": ["10.0.0.1", "[::1]:3001"], "proxy": {"host": "a.example,b.example"}},
        "api": {"hosts": ["10.0.0.2"], "proxy": {"host": None, "path_prefix": "/api"}},
    }
    wrappers = [{"path-prefix": {"path_prefixes": ["/x"]}}, "request-id"]
    config = stage.deploy(
        roles, x_kproxy={"roles": {"api": {"wrappers": wrappers}}}, proxy={"app_port": 3000}
    )
    done = run([*KPROXY, "check", config])
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(maxsplit=1) for line in done.stdout.splitlines()[:1]] == [["OK"]]
    rows = [line.split("  ") for line in done.stdout.splitlines()[1:]]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [
        ["SERVICE", "HOSTS", "PATHS", "TARGETS", "WRAPPERS"],
        ["shop-web", "a.example, b.example", "/", "10.0.0.1:3000, [::1]:3001", "none"],
        ["shop-api", "any", "/api", "10.0.0.2:3000", "path-prefix, request-id"],
    ]


def test_wrappers_lists_what_is_installed_with_origin_and_options(stage: Stage) -> None:
    done = run([*KPROXY, "wrappers"], cwd=stage.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "request-buffer" in done.stdout
    one = run([*KPROXY, "wrappers", "request-buffer"], cwd=stage.folder)
    assert one.returncode == 0
    assert "from kproxy.plugins.builtin" in one.stdout
    assert "memory" in one.stdout
    wrong = run([*KPROXY, "wrappers", "request-bufer"], cwd=stage.folder)
    assert wrong.returncode == 1
    assert "request-buffer" in wrong.stderr


def test_help_explains_every_option(stage: Stage) -> None:
    done = run([*TWISTD, "kproxy", "--help"], cwd=stage.folder)
    assert done.returncode == 0
    for option in ("config", "destination", "server", "http-port", "bind", "debug"):
        assert f"--{option}" in done.stdout
    assert "kproxy" in run([*TWISTD, "--help"], cwd=stage.folder).stdout


def test_the_environment_says_what_the_command_line_does_not(stage: Stage) -> None:
    target = stage.target()
    config = stage.deploy({"app": {"hosts": [target.address]}})
    for _ in range(5):
        port = free_port()
        proxy = stage.start(
            bind=None,
            port=0,
            KPROXY_CONFIG=str(config),
            KPROXY_HTTP_PORT=str(port),
            KPROXY_BIND="127.0.0.1,::1",
        )
        proxy.port = port
        if not proxy._lost_its_port():
            break
    proxy.wait_until_healthy("app.example")
    with socket.create_connection(("::1", port), 10):
        pass


def test_the_command_line_wins_over_the_environment_and_the_file(stage: Stage) -> None:
    target = stage.target()
    other = free_port()
    run_section = {"http_port": other, "bind_ips": ["::1"]}
    config = stage.deploy({"app": {"hosts": [target.address], "proxy": {"run": run_section}}})
    proxy = stage.proxy(config, healthy=("app.example",), KPROXY_HTTP_PORT=str(other))
    assert proxy.port != other
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, other), 10)


def test_the_file_says_where_to_listen_when_nobody_else_does(stage: Stage) -> None:
    target = stage.target()
    for _ in range(5):
        port = free_port()
        run_section = {"http_port": port, "bind_ips": ["127.0.0.1"]}
        config = stage.deploy({"app": {"hosts": [target.address], "proxy": {"run": run_section}}})
        proxy = stage.start(config, bind=None, port=0)
        proxy.port = port
        if not proxy._lost_its_port():
            break
    proxy.wait_until_healthy("app.example")


@pytest.mark.parametrize("wrong", [["--http-port", "many"], ["--http-port", "70000"], ["--what"]])
def test_a_wrong_option_is_told_without_a_traceback(stage: Stage, wrong: list[str]) -> None:
    config = stage.deploy({"app": {"hosts": ["127.0.0.1:3000"]}})
    proxy = stage.start(config, options=wrong, port=free_port())
    assert proxy.join() == 1
    assert wrong[0] in proxy.output or "http-port" in proxy.output


def test_without_any_configuration_nothing_is_found(stage: Stage) -> None:
    proxy = stage.proxy()
    assert proxy.get().status == 404


def test_two_files_are_two_applications_of_one_proxy(stage: Stage) -> None:
    configs = []
    for name in ("one", "two"):
        target = stage.target(says(name))
        text = (
            f"service: {name}\nservers: ['{target.address}']\n"
            f"proxy:\n  host: {name}.example\n  healthcheck: {{interval: 0.1}}\n"
        )
        configs.append(write(stage.folder, text, f"{name}.yml"))
    proxy = stage.proxy(*configs, healthy=("one.example", "two.example"))
    for name in ("one", "two"):
        assert proxy.get(host=f"{name}.example").text == name
        assert proxy.logged(host=f"{name}.example")["service"] == f"{name}-web"


def test_two_files_that_claim_the_same_host_are_an_error(stage: Stage) -> None:
    configs = [
        write(
            stage.folder,
            f"service: {name}\nservers: ['127.0.0.1:3000']\nproxy: {{host: same.example}}\n",
            f"{name}.yml",
        )
        for name in ("one", "two")
    ]
    (line,) = fails(stage.start(*configs, port=free_port())).strip().splitlines()
    assert "same.example" in line
    assert "two.yml" in line


def test_destination_server_and_erb_decide_what_is_served(stage: Stage) -> None:
    here, elsewhere = stage.target(says("here")), stage.target(says("elsewhere"))
    config = write(
        stage.folder,
        f"service: shop\nservers: ['{here.address}', '{elsewhere.address}']\n"
        "proxy: {host: plain.example, healthcheck: {interval: 0.1}}\n",
    )
    write(
        stage.folder,
        "proxy:\n  host: <%= ENV.fetch('SHOP_HOST') %>\n",
        "deploy.staging.yml",
    )
    options = ["--destination", "staging", "--server", here.address]
    proxy = stage.proxy(
        config, options=options, healthy=("staging.example",), SHOP_HOST="staging.example"
    )
    assert {proxy.get(host="staging.example").text for _ in range(4)} == {"here"}
    assert proxy.logged(host="staging.example")["service"] == "shop-web-staging"
    assert proxy.get(host="plain.example").status == 404


def test_kproxy_starts_where_it_may_not_write(stage: Stage) -> None:
    """A service manager may start it in any folder, with a home that is not there."""
    target = stage.target()
    config = stage.deploy({"app": {"hosts": [target.address]}})
    proxy = stage.proxy(config, healthy=("app.example",), HOME=str(stage.folder / "missing"))
    assert proxy.stop() == 0
    assert sorted(os.listdir(stage.folder)) == ["deploy.yml", "state", "tmp"]
