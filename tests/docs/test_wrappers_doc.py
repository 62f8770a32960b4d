"""docs/wrappers.md, done from its beginning to its end: every file written, run and installed."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kproxy.plugins import find_wrappers
from tests.docs.pages import DOCS, ROOT, blocks, is_shown
from tests.unit.wrappers.support import Echo, Held, KproxySite, Says, echoed, get, post

PAGE = DOCS / "wrappers.md"
BLOCKS = blocks(PAGE)
FILES = {block.name: block.text for block in BLOCKS if block.name and block.language != "text"}
CONSOLE = [block for block in BLOCKS if block.language == "console"]
PACKAGE = ("setup.cfg", "pyproject.toml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's folder, with all the files of the page."""
    folder = tmp_path_factory.mktemp("reader")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def run(folder: Path, *command: str) -> str:
    """What a command says, be it an error or not."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def test_every_block_is_a_file_or_commands() -> None:
    assert [str(block) for block in BLOCKS if not block.name and block not in CONSOLE] == []
    assert {name for name in FILES if not name.endswith((".py", ".yml", *PACKAGE))} == set()


def test_the_tests_of_the_page_pass(folder: Path) -> None:
    names = sorted(name for name in FILES if name.startswith("test_"))
    options = ("-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder))
    output = run(folder, sys.executable, "-m", "pytest", *options, *names)
    assert re.search(r"^\d+ passed", output, flags=re.M), output
    assert "failed" not in output
    assert "error" not in output


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_the_commands_say_what_the_page_shows(folder: Path, block: Any) -> None:
    for command, shown in block.commands():
        words = command.split()
        assert words[0] == "kproxy"
        code = "import sys; from kproxy.cli.main import main; sys.exit(main(sys.argv[1:]))"
        output = run(folder, sys.executable, "-c", code, *words[1:])
        assert is_shown(output, shown), f"{block}: {command}\n{output}"


def test_every_wrapper_of_kproxy_is_listed_by_the_last_command(folder: Path) -> None:
    code = "from kproxy.cli.main import main; main(['wrappers'])"
    listed = run(folder, sys.executable, "-c", code)
    assert {*find_wrappers(), "robots", "only-from"} <= set(listed.split("\n"))


def test_files_and_sections_that_the_page_speaks_of_exist() -> None:
    text = PAGE.read_text("utf-8")
    for path in re.findall(r"`((?:kproxy|tests|examples)/[\w./-]+)`", text):
        if path not in FILES:
            assert (ROOT / path).exists(), path
    for module in re.findall(r"`(kproxy\.[\w.]+)`", text):
        importlib.import_module(module)


def test_the_distribution_is_made_of_files_that_the_page_has(folder: Path) -> None:
    (listed,) = [block.text.split() for block in BLOCKS if block.name == "files"]
    made = {*FILES, "only_from/__init__.py"}  # the page's only_from.py, as a package
    assert set(listed) <= made
    # The lines that matter are those of the examples, which are really installed.
    example = (ROOT / "examples" / "plugins" / "kproxy-rate-limit" / "setup.cfg").read_text()
    for line in FILES["setup.cfg"].splitlines():
        if line.startswith(("package_dir", "    =", "packages", "py_modules")):
            assert (
                line.replace("only_from", "kproxy_rate_limit").replace(
                    "plugins.kproxy_rate", "plugins.rate"
                )
                in example
            ), line


# On kproxy's own engine, which streams.


@pytest.fixture
def modules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that imports a module of the page."""
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and name + ".py" in FILES:
            del sys.modules[name]


def test_robots_works_on_kproxys_engine(modules: Any) -> None:
    site = KproxySite(modules("robots").Robots(Echo()), Clock())
    assert b"Disallow" in site.ask(get("/robots.txt")).body
    assert echoed(site.ask())["headers"]["x-seen-by"] == ["robots"]


def test_only_from_works_on_kproxys_engine(modules: Any) -> None:
    module = modules("only_from")
    outside = module.OnlyFrom(Says(b"in"), module.Options(("10.0.0.0/8",)))
    inside = module.OnlyFrom(Says(b"in"), module.Options(("192.0.2.0/24",)))
    assert KproxySite(outside, Clock()).ask().code == 403
    assert KproxySite(inside, Clock()).ask().body == b"in"


def test_noindex_changes_what_the_application_has_sent(modules: Any) -> None:
    leaf = Says(b"page", x_robots_tag=b"all")
    response = KproxySite(modules("noindex").NoIndex(leaf), Clock()).ask()
    assert response.header(b"x-robots-tag") == b"noindex"


def test_the_waiting_room_forgets_who_leaves(modules: Any) -> None:
    answer: Deferred[bool] = Deferred()
    inside = Echo()
    room = modules("waiting_room").WaitingRoom(inside, lambda request: answer)
    client = KproxySite(room, Clock()).connect()
    client.send(get())
    client.leave()
    answer.callback(True)
    assert inside.requests == []


def test_replace_streams_and_holds_no_more_than_it_must(modules: Any) -> None:
    module = modules("replace")
    leaf = Held()
    client = KproxySite(module.Replace(leaf, module.Options("Kamal", "kproxy")), Clock()).connect()
    client.send(get())
    leaf.request.setHeader(b"content-type", b"text/plain")
    leaf.request.write(b"Ask Kamal, not Ka")
    assert client.response().body == b"Ask kproxy, not "
    leaf.request.write(b"mal's aunt")
    assert client.response().body == b"Ask kproxy, not kproxy's aunt"
    leaf.request.finish()
    assert client.response().complete


def test_uploads_are_hashed_while_they_stream(modules: Any) -> None:
    told: list[tuple[int, str]] = []
    tree = modules("uploads").Uploads(Echo(), lambda *each: told.append(each))
    site = KproxySite(tree, Clock())
    assert echoed(site.ask(post(b"hello")))["body"] == "hello"
    site.ask()
    assert [size for size, _ in told] == [5]
