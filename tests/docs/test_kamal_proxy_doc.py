"""The page for those who come from kamal-proxy: its commands exist, and its examples are right."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable

import pytest

from kproxy.cli.main import parser
from kproxy.control.flags import FLAGS
from kproxy.tap import Options
from tests.docs.pages import DOCS, blocks
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says

PAGE = DOCS / "kamal-proxy.md"
TEXT = PAGE.read_text("utf-8")

KAMAL_PROXYS = """
    target read-target host path-prefix strip-path-prefix tls tls-on-demand-url tls-staging
    tls-certificate-path tls-private-key-path tls-acme-cache-path tls-redirect canonical-host
    deploy-timeout drain-timeout force health-check-interval health-check-timeout
    health-check-path health-check-port health-check-host writer-affinity-timeout
    read-target-websockets target-timeout buffer-requests buffer-responses buffer-memory
    max-request-body max-response-body error-pages log-request-header log-response-header
    exclude-metrics-path forward-headers client-ip-header scope-cookie-paths
"""
"""The flags of its `deploy`."""


def side_by_side() -> list[tuple[str, str]]:
    return re.findall(r"^\| `(kamal-proxy [^`]*)` \| `(kproxy [^`]*)` \|$", TEXT, re.M)


def shell_lines() -> list[list[str]]:
    lines = [
        line.strip()
        for found in re.findall(r"^ *```sh\n(.*?)^ *```$", TEXT, re.M | re.S)
        for line in found.splitlines()
    ]
    return [shlex.split(line) for line in lines]


def test_every_flag_of_its_deploy_is_there() -> None:
    assert {flag.name for flag in FLAGS} >= set(KAMAL_PROXYS.split())


@pytest.mark.parametrize(("theirs", "ours"), side_by_side())
def test_commands_differ_in_nothing_but_the_name(theirs: str, ours: str) -> None:
    assert theirs.replace("kamal-proxy ", "kproxy ") == ours
    parser().parse_args(shlex.split(ours)[1:])


def test_every_command_of_its_is_in_the_table() -> None:
    names = {ours.split()[1] for _, ours in side_by_side()}
    assert names == {
        "run", "deploy", "list", "pause", "stop", "resume", "rollout", "remove"
    }  # fmt: skip


def test_commands_in_the_text_are_taken() -> None:
    lines = shell_lines()
    assert len(lines) == 7
    for program, *words in lines:
        if program == "kproxy":
            parser().parse_args(words)
        elif program == "twistd":
            Options().parseOptions(words[words.index("kproxy") + 1 :])


def test_list_may_be_called_ls() -> None:
    assert parser().parse_args(["ls"]).run is parser().parse_args(["list"]).run


def test_the_file_means_what_is_said(stage: Stage) -> None:
    (block,) = [block for block in blocks(PAGE) if block.name == "deploy.yml"]
    path = stage.folder / "deploy.yml"
    path.write_text(block.text)
    proxy = stage.proxy()
    checked = proxy.command("check", str(path), "--server", "192.168.0.1")
    assert checked.returncode == 0, checked.stderr
    assert "shop-web  shop.example.com  /      192.168.0.1:3000" in checked.stdout


def test_the_look_before_the_switch_works(stage: Stage, require_tool: Callable[[str], str]) -> None:
    require_tool("curl")
    target = stage.target(says("shop"))
    proxy = stage.proxy()
    proxy.command("deploy", "shop", "--target", target.address, "--host", "shop.example.com")
    (curl,) = [line for line in shell_lines() if line[0] == "curl"]
    command = [word.replace("127.0.0.1:8080", f"127.0.0.1:{proxy.port}") for word in curl]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "200"
    (explain,) = [line for line in shell_lines() if line[:2] == ["kproxy", "explain"]]
    assert "target   " + target.address in proxy.command(*explain[1:]).stdout
