"""The page on HTTPS: its commands are run, against a CA where there has to be one."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kproxy.cli.main import parser
from kproxy.tap import Options
from tests.docs.pages import DOCS, Block, blocks, is_shown
from tests.e2e.support.proxy import KPROXY, Proxy, environment
from tests.e2e.support.stage import Stage
from tests.e2e.support.targets import says
from tests.e2e.support.waiting import PATIENCE, wait_until
from tests.support.pebble import Pebble
from tests.support.ports import free_port

PAGE = DOCS / "tls.md"
TEXT = PAGE.read_text("utf-8")
AUTOMATIC = TEXT.count("\n", 0, TEXT.index("\n## Automatic certificates"))
"""The line where the second half begins."""


class Reader:
    """Somebody who follows the page, with an application and ports of their own."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.http, self.https = free_port(), free_port()
        self.target = stage.target(says("Hello from the shop"))
        self.ports = {
            "3001": self.target.address.rpartition(":")[2],
            "8080": str(self.http),
            "8443": str(self.https),
        }
        self.proxy: Proxy | None = None
        commands = stage.folder / "bin"
        commands.mkdir()
        script = commands / "kproxy"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(KPROXY)} "$@"\n')
        script.chmod(0o755)
        self.env = environment(KPROXY_SOCKET=str(stage.folder / "kproxy.sock"), no_proxy="*")
        self.env["PATH"] = f"{commands}:{self.env.get('PATH', '')}"

    def blocks(self) -> list[Block]:
        return blocks(PAGE, self.ports)

    def follow(self, block: Block) -> None:
        if block.name:
            path = self.stage.folder / block.name
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
        elif block.language == "console":
            for command, shown in block.commands():
                said = self.run(command.replace("curl ", "curl -sS "))
                assert is_shown(said, shown), f"{block}: {command}\n{said}"
        elif block.text.startswith("twistd "):
            arguments = shlex.split(block.text)
            options = Options()
            options.parseOptions(arguments[arguments.index("kproxy") + 1 :])
            assert (options["http-port"], options["https-port"]) == (self.http, self.https)
            self.start(*(self.stage.folder / config for config in options["config"]))
        elif block.language == "sh":
            self.run(block.text)

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.stage.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            text=True,
            check=False,
        )
        return done.stdout

    def start(self, *configs: Path, **options: Any) -> Proxy:
        environ = {"KPROXY_HTTPS_PORT": str(self.https), **options}
        self.proxy = self.stage.proxy(*configs, port=self.http, **environ)
        if configs:
            self.proxy.said("is healthy")
        return self.proxy

    def curl(self, trusted: Path, host: str = "shop.example.com") -> str:
        resolve = f"--resolve {host}:{self.https}:127.0.0.1"
        return self.run(f"curl -sS --cacert {trusted} {resolve} https://{host}:{self.https}/")


@pytest.fixture
def reader(stage: Stage, require_tool: Callable[[str], str]) -> Reader:
    for tool in ("curl", "openssl"):
        require_tool(tool)
    return Reader(stage)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path) as stage:
        yield stage


def is_by_command(block: Block) -> bool:
    return block.language == "sh" and block.text.startswith("kproxy ")


def test_the_first_half_can_be_followed_from_its_beginning_to_its_end(reader: Reader) -> None:
    for block in reader.blocks():
        if block.line < AUTOMATIC and not is_by_command(block):
            reader.follow(block)
    assert reader.proxy is not None


def test_a_certificate_can_be_had_by_the_command_that_is_shown(reader: Reader) -> None:
    (made,) = (b for b in reader.blocks() if b.text.startswith("openssl req"))
    (shown,) = (b for b in reader.blocks() if b.line < AUTOMATIC and is_by_command(b))
    reader.follow(made)
    reader.start()
    assert "shop is served by" in reader.run(shown.text)
    assert reader.curl(reader.stage.folder / "chain.pem") == "Hello from the shop"


def test_every_command_that_is_shown_has_the_options_that_it_is_given() -> None:
    shown = [block.text for block in blocks(PAGE) if is_by_command(block)]
    assert len(shown) == 2
    for text in shown:
        parser().parse_args(shlex.split(text.replace("\\\n", ""))[1:])


def automatic(reader: Reader, ca: Pebble) -> Path:
    """The first file of the second half, for another CA and another application."""
    text = next(b.text for b in reader.blocks() if b.line > AUTOMATIC and b.language == "yaml")
    document = yaml.safe_load(text.replace("10.0.0.1", "127.0.0.1"))
    document["proxy"]["app_port"] = int(reader.ports["3001"])
    document["x-kproxy"]["acme"].update(directory=ca.directory, ca_file=str(ca.ca_file))
    path = reader.stage.folder / "deploy.yml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_automatic_certificates_can_be_had_and_moved(
    reader: Reader, start_pebble: Callable[..., Pebble]
) -> None:
    ca = start_pebble(http_port=reader.http, tls_port=reader.https)
    config, root = automatic(reader, ca), reader.stage.folder / "root.pem"
    root.write_text(ca.root())
    first = reader.start(config)
    assert reader.curl(root) == "Hello from the shop"
    assert first.stop() == 0
    ca.stop()

    moved = reader.stage.folder / "moved"
    moved.mkdir()
    shutil.copytree(first.state / "acme", moved / "acme")
    shutil.rmtree(first.state)
    second = reader.start(config, KPROXY_STATE_DIR=str(moved))
    assert reader.curl(root) == "Hello from the shop"
    assert "ordering" not in second.output


def test_the_store_that_is_shown_is_used_by_a_real_proxy(
    reader: Reader, start_pebble: Callable[..., Pebble]
) -> None:
    ca = start_pebble(http_port=reader.http, tls_port=reader.https)
    config, folder = automatic(reader, ca), reader.stage.folder
    for block in reader.blocks():
        if block.name.endswith("sql_store.py"):
            path = folder / "installed" / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    document = yaml.safe_load(config.read_text())
    document["x-kproxy"]["acme"]["store"] = {"sql": {"file": str(folder / "certificates.db")}}
    config.write_text(yaml.safe_dump(document))
    root, installed = folder / "root.pem", str(folder / "installed")
    root.write_text(ca.root())
    first = reader.start(config, PYTHONPATH=installed)
    assert reader.curl(root) == "Hello from the shop"
    assert first.stop() == 0
    ca.stop()
    shutil.rmtree(first.state)
    second = reader.start(config, PYTHONPATH=installed)
    assert reader.curl(root) == "Hello from the shop"
    assert "ordering" not in second.output


def test_what_went_wrong_is_shown_as_the_page_shows_it(
    reader: Reader, start_pebble: Callable[..., Pebble]
) -> None:
    # The CA looks where nobody listens.
    ca = start_pebble(http_port=free_port(), tls_port=free_port())
    reader.start(automatic(reader, ca))
    shown = next(b.text for b in reader.blocks() if b.language == "text" and b.line > AUTOMATIC)
    wait_until("a failure", lambda: "next try" in reader.run("kproxy list"))
    said = reader.run("kproxy list")
    assert is_shown(said, shown), said


def test_numbers_are_those_of_the_program() -> None:
    from kproxy.control.custom import LOOK, RETRY
    from kproxy.tls.acme import failures, ondemand, sharing
    from kproxy.tls.certificates import SMALLEST_RSA
    from kproxy.tls.checked import SOON
    from kproxy.tls.server import ISSUANCE_LIMIT

    text = " ".join(TEXT.split())
    assert (RETRY, LOOK) == (60, 86400)
    assert "looked for again every minute" in text
    assert "a warning once a day" in text
    assert f"in its last {SOON.days} days" in text
    assert f"less than {SMALLEST_RSA} bits" in text
    assert f"waits for it, up to {ISSUANCE_LIMIT:g} seconds" in text
    assert (failures.FIRST_WAIT, failures.LONGEST_WAIT) == (60, 6 * 3600)
    assert "waits for a minute, then for two, and so on up to six hours" in text
    assert sharing.SPREADING == 3
    assert "and waits for three seconds" in text
    assert ondemand.TIME_LIMIT == 2
    assert re.search(r"has to be 200, within two seconds", text)
