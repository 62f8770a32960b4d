"""How plug-ins are found, and what happens to those that are broken."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from twisted.web.resource import Resource
from zope.interface.verify import verifyObject

import kproxy
from kproxy.config import ConfigurationError, load
from kproxy.config.node import Node, Position, Raw, Report
from kproxy.config.schema import Integer, Option, Section
from kproxy.interfaces import IWrapperPlugin
from kproxy.plugins import WrapperPlugin, find_wrappers

WRAPPER = """
    from kproxy.plugins import WrapperPlugin
    {name} = WrapperPlugin(name="{name}", description="A {name}.", factory="{factory}")
    again = {name}
"""


class Package:
    """A package of plug-ins in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = ModuleType("announced")
        self.module.__path__ = [str(folder)]

    def add(self, name: str, text: str = WRAPPER, factory: str = "no.such.Thing") -> None:
        text = textwrap.dedent(text).replace("{name}", name).replace("{factory}", factory)
        (self.folder / f"{name}.py").write_text(text)


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Package]:
    package = Package(tmp_path)
    sys.modules["announced"] = package.module
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "announced"]:
        del sys.modules[name]


def test_a_wrapper_plugin_keeps_its_contract() -> None:
    plugin = WrapperPlugin(name="a", description="", factory=lambda resource, options: resource)
    assert verifyObject(IWrapperPlugin, plugin)


def test_what_is_announced_is_found_once(package: Package) -> None:
    package.add("one")
    package.add("two")
    found = find_wrappers(package.module)
    assert sorted(found) == ["one", "two"]
    assert found.installed["one"].module == "announced.one"
    assert found["one"].description == "A one."
    assert found.failed == ()


def test_listing_imports_no_wrapper_and_writes_no_file(package: Package) -> None:
    package.add("one", factory="announced.heavy.Heavy")
    package.folder.joinpath("dropin.cache").mkdir()
    assert list(find_wrappers(package.module)) == ["one"]
    assert "announced.heavy" not in sys.modules


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("1 +", "line 1 is not Python (invalid syntax)"),
        ("raise SystemExit", "SystemExit"),
        (
            "from kproxy.plugins import WrapperPlugin\nx = WrapperPlugin('A b', '', '')",
            (
                "ValueError: the name of a wrapper should be lower-case letters, digits and "
                "dashes, is 'A b'"
            ),
        ),
    ],
)
def test_a_broken_module_is_a_sentence_and_does_not_stop_others(
    package: Package, capfd: pytest.CaptureFixture[str], text: str, error: str
) -> None:
    package.add("good")
    package.add("broken", text)
    found = find_wrappers(package.module)
    assert list(found) == ["good"]
    assert [(failed.module, failed.error) for failed in found.failed] == [
        ("announced.broken", error)
    ]
    assert str(found.failed[0]) == (f"the plug-in module announced.broken can't be used: {error}")
    assert capfd.readouterr() == ("", "")


def test_two_plugins_of_one_name_are_an_error_that_names_both(
    package: Package, tmp_path: Path
) -> None:
    package.add("one")
    package.add("other", WRAPPER.replace('name="{name}"', 'name="one"'))
    found = find_wrappers(package.module)
    assert dict(found.installed) == {}
    message = "announced.one and announced.other both announce a wrapper one; uninstall one of them"
    assert {failed.error for failed in found.failed} == {message}
    file = tmp_path / "deploy.yml"
    file.write_text("service: a\nservers: [b]\nx-kproxy: {wrappers: [one]}\n")
    with pytest.raises(ConfigurationError, match=message):
        load([file], destination=None, server=None, environ={}, wrappers=found)


def options(tag: str = "map") -> Node:
    return Node(Raw(Position("deploy.yml"), tag), ("x",))


def test_options_are_validated_by_their_section() -> None:
    section = Section(Option("size", Integer(), default=3))
    plugin = WrapperPlugin("a", "", lambda resource, options: resource, section)
    assert plugin.validate(options(), Report()) == {"size": 3}
    report = Report()
    assert plugin.validate(options("seq"), report) is None
    assert [problem.message for problem in report.problems] == ["should be a map, is a list"]


def test_a_factory_gets_the_resource_and_the_options() -> None:
    inner = Resource()
    plugin = WrapperPlugin("a", "", lambda resource, options: (resource, options))
    assert plugin.wrap(inner, 3) == (inner, 3)  # type: ignore[comparison-overlap]


def test_a_factory_may_be_named_and_is_imported_when_it_is_used() -> None:
    plugin = WrapperPlugin("a", "", "twisted.web.util.Redirect")
    assert plugin.resolve().__name__ == "Redirect"


def test_a_factory_that_can_not_be_imported_is_a_problem_of_the_file() -> None:
    report = Report()
    WrapperPlugin("a", "", "no.such.Thing").validate(options(), report)
    assert [problem.message for problem in report.problems] == [
        "the wrapper a can't be imported: ModuleNotFoundError: No module named 'no'"
    ]


def test_options_that_can_not_be_imported_are_a_problem_of_the_file() -> None:
    report = Report()
    section: Section[Any] = Section(Option("size", Integer()), into="no.such.Options")
    plugin = WrapperPlugin("a", "", lambda resource, options: resource, section)
    assert plugin.validate(options(), report) is None
    assert [problem.message for problem in report.problems] == [
        "the wrapper a can't be imported: ModuleNotFoundError: No module named 'no'"
    ]


def test_a_development_install_is_found_with_its_origin_and_twisted_finds_it_too(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "kproxy" / "plugins"
    folder.mkdir(parents=True)
    (folder / "theirs.py").write_text(
        "from kproxy.plugins import WrapperPlugin\nit = WrapperPlugin('theirs', 'Theirs.', 'a.b')\n"
    )
    metadata = tmp_path / "Theirs-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: Theirs\nVersion: 1.2\n")
    (metadata / "RECORD").write_text("kproxy/plugins/theirs.py,,\n")
    program = (
        "import sys, kproxy.plugins\n"
        "from kproxy.interfaces import IWrapperPlugin\n"
        "from kproxy.plugins import find_wrappers\n"
        "from twisted.plugin import getPlugins\n"
        "it = find_wrappers().installed['theirs']\n"
        "print(it.module, it.distribution())\n"
        "kproxy.plugins.__path__[:] = sys.argv[1:]\n"  # twisted.plugin writes a cache there
        "print(it.plugin in list(getPlugins(IWrapperPlugin, kproxy.plugins)))"
    )
    root = Path(kproxy.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env={"PYTHONPATH": f"{root}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "kproxy.plugins.theirs Theirs 1.2\nTrue\n"
