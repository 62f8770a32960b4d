"""README: its example is right, and its commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kproxy.cli.main import main
from kproxy.tap import Options
from tests.docs.pages import ROOT, blocks

README = ROOT / "README.md"
TEXT = README.read_text("utf-8")


def indented_commands() -> list[list[str]]:
    """Commands stand in indented blocks."""
    return [shlex.split(line, comments=True) for line in re.findall(r"^ {4}(\S.*)$", TEXT, re.M)]


def test_the_example_is_what_the_text_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = (block for block in blocks(README) if block.language == "yaml")
    (tmp_path / "deploy.yml").write_text(example.text)
    monkeypatch.chdir(tmp_path)
    checks = [words[1:] for words in indented_commands() if words[:2] == ["kproxy", "check"]]
    assert checks == [["check", "deploy.yml"]]
    assert main(checks[0]) == 0
    web, api = (line.split() for line in capsys.readouterr().out.splitlines()[2:])
    assert web[-3:] == ["/", "127.0.0.1:3001", "none"]
    assert api[-3:] == ["/api", "127.0.0.1:3002", "none"]


def test_the_proxy_takes_the_options_that_are_shown() -> None:
    (words,) = (words for words in indented_commands() if words[0] == "twistd")
    options = Options()
    options.parseOptions(words[words.index("kproxy") + 1 :])
    assert options["http-port"] == 8080


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make (\w+)`|^ {4}make (\w+)", TEXT, re.M))
    for target in {name for pair in named for name in pair if name}:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_file_that_the_demo_runs_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(ROOT / "examples" / "deploy.yml")]) == 0
    assert capsys.readouterr().out.startswith("OK\n")
