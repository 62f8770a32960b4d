"""What holds for every page of the documentation; and for the tools that look at them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kproxy.config import ConfigurationError, load
from kproxy.plugins import find_dns_responders, find_stores, find_wrappers
from tests.docs.pages import PAGES, ROOT, Block, anchors, blocks, is_shown, links

# Written with the code that they describe, and run by a test of their own.
ELSEWHERE = {"wrappers.md", "performance.md"}
HERE = [page for page in PAGES if page.name not in ELSEWHERE]
MINIMAL = {"service": "service: app\n", "servers": "servers: [10.0.0.1]\n"}


def fragments() -> list[Block]:
    return [block for page in HERE for block in blocks(page) if block.language == "yaml"]


@pytest.mark.parametrize("block", fragments(), ids=str)
def test_every_piece_of_a_deploy_yml_is_right(block: Block, tmp_path: Path) -> None:
    missing = [text for key, text in MINIMAL.items() if f"\n{key}:" not in f"\n{block.text}"]
    path = tmp_path / "deploy.yml"
    path.write_text("".join(missing) + block.text)
    for folder in ("pages", "errors", "public/errors"):
        (tmp_path / folder).mkdir(parents=True)
    try:
        load(
            [path],
            destination=None,
            server=None,
            environ={},
            wrappers=find_wrappers(),
            dns_responders=find_dns_responders(),
            stores=find_stores(),
        )
    except ConfigurationError as error:
        pytest.fail(f"{block}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists() or target.name in ELSEWHERE, link
        if fragment and target.exists():
            assert fragment in anchors(target), link


@pytest.mark.parametrize("page", HERE, ids=lambda page: page.name)
def test_pages_are_within_the_width_of_a_screen(page: Path) -> None:
    lines = enumerate(page.read_text("utf-8").splitlines(), 1)
    long = [number for number, line in lines if len(line) > 120 and not line.startswith("|")]
    assert long == []


@pytest.mark.parametrize("page", HERE, ids=lambda page: page.name)
def test_every_file_that_a_page_speaks_of_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    for path in re.findall(r"`((?:kproxy|docs|tests|examples|bench)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_there_are_pages_to_look_at() -> None:
    names = {page.name for page in PAGES}
    assert names >= {
        "README.md",
        "tls.md",
        "tutorial.md",
        "reference.md",
        "operations.md",
        "design.md",
    }
    assert (ROOT / "setup.cfg").exists()


def test_ports_are_replaced_all_at_once(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```text\n3001 8080\n```\n")
    (block,) = blocks(page, {"3001": "38080", "8080": "16001"})
    assert block.text == "38080 16001\n"


@pytest.mark.parametrize(
    ("actual", "shown", "same"),
    [
        ("a b\n", "a b\n", True),
        ("a    b\n", "a b\n", True),
        ("a b\n", "a c\n", False),
        ("a b\nc\n", "a b\n", False),
        ("x\ny\nz\n", "x\n…\n", True),
        ("x\ny\nz\n", "…\nz\n", True),
        ("at 12:01 up\n", "at … up\n", True),
        ("at 12:01 down\n", "at … up\n", False),
        ("", "", True),
        ("x", "x\n", True),
    ],
)
def test_an_output_is_what_is_shown(actual: str, shown: str, same: bool) -> None:
    assert is_shown(actual, shown) is same
