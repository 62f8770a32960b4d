"""The page on the command says what the command says."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest

from kproxy.cli import run
from kproxy.cli.main import parser
from kproxy.control.flags import FLAGS
from kproxy.tap import Options
from tests.docs.pages import DOCS, blocks, is_shown
from tests.e2e.support.proxy import KPROXY
from tests.e2e.support.proxy import run as run_command
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says

PAGE = DOCS / "commands.md"
TEXT = PAGE.read_text("utf-8")
INTRODUCTION = TEXT.partition("\n## ")[0]


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    assert found is not None, title
    return found[1]


def commands(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                inner = list(commands(command))
                yield from inner or [command]


def test_every_command_and_its_options_are_on_the_page() -> None:
    found = list(commands(parser()))
    assert {command.prog for command in found} >= {"kproxy run", "kproxy rollout set"}
    for command in found:
        text = section(command.prog) + INTRODUCTION
        for action in command._actions:
            for option in action.option_strings:
                assert re.search(rf"`{option}[` ]", text) or option in ("-h", "--help"), option


def test_every_flag_of_a_deployment_has_a_row() -> None:
    text = section("kproxy deploy")
    for flag in FLAGS:
        assert f"| `--{flag.name}`" in text


def test_run_takes_what_the_proxy_takes_but_for_files() -> None:
    taken = {name.rstrip("=") for name in Options().longOpt} - {"help", "version"}
    assert {name for name, _, _ in run.FLAGS} == taken - {"config", "destination", "server"}


@pytest.fixture(scope="module")
def shop(module_stage: Stage) -> tuple[str, str]:
    """The socket of a proxy with the service that the page shows; its target's address."""
    target = module_stage.target(says("shop"))
    proxy = module_stage.proxy()
    deployed = proxy.command(
        "deploy", "shop", "--target", target.address, "--host", "shop.example.com"
    )
    assert deployed.returncode == 0, deployed.stderr
    return str(proxy.socket), target.address


def test_explain_prints_what_is_shown(shop: tuple[str, str]) -> None:
    socket, address = shop
    shown = [pair for b in blocks(PAGE) if b.language == "console" for pair in b.commands()]
    assert len(shown) == 2
    for command, output in shown:
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]
        assert words[0] == "kproxy"
        done = run_command([*KPROXY, *words[1:]], KPROXY_SOCKET=socket)
        assert done.returncode == 0, done.stderr
        assert is_shown(done.stdout, output.replace("127.0.0.1:3001", address)), done.stdout
