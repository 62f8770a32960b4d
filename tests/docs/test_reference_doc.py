"""The reference names everything there is, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from types import ModuleType

import pytest

from kproxy.cli.main import main
from kproxy.config.schema import Anything
from kproxy.config.sections import EXTRAS, PROXY, TOP, X_KPROXY
from kproxy.tap import Options
from kproxy.wrappers import error_pages
from tests.docs.pages import DOCS, blocks, is_shown
from tests.e2e.support.proxy import environment

PAGE = DOCS / "reference.md"
TEXT = PAGE.read_text("utf-8")


def section(title: str) -> str:
    """The text below a heading, down to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#+ |\Z)", TEXT, re.M | re.S)
    assert found is not None, title
    return found[1]


def first_column(title: str) -> set[str]:
    """What stands in code in the first column of the tables below a heading."""
    rows = re.findall(r"^\| ([^|]*) \|", section(title), re.M)
    return {name for row in rows for name in re.findall(r"`([^`]*)`", row)}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["reference.md", "commands.md", "openapi.yaml"])
def test_what_the_code_makes_is_up_to_date(script: ModuleType, name: str) -> None:
    text = (DOCS / name).read_text("utf-8")
    assert DOCS / name in script.PAGES
    assert script.generated(text) == text, "run `python docs/generate.py`"


def test_the_script_says_whether_the_page_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"], env=environment(), check=False
    )
    assert done.returncode == 0


def test_a_table_that_is_old_is_written_anew(script: ModuleType) -> None:
    page = "a\n<!-- top -->\n| old |\n<!-- end -->\nb\n"
    new = script.generated(page)
    assert "| old |" not in new
    assert "| `service` | text | required |" in new
    assert new.startswith("a\n<!-- top -->\n| key |")
    assert new.endswith("|\n<!-- end -->\nb\n")


def test_what_the_script_says_of_options_is_said_of_options_that_exist(script: ModuleType) -> None:
    known = {name for name, _, _ in TOP.walk()}
    known |= {name for name, _, _ in PROXY.walk("proxy.")}
    known |= {name for name, _, _ in X_KPROXY.walk("x-kproxy.")}
    assert known >= set(script.DEFAULTS)
    assert known >= set(script.VALUES)


def test_every_option_of_the_file_is_in_a_table_and_has_a_meaning() -> None:
    sections = ((TOP, ""), (PROXY, "proxy."), (EXTRAS, "x-kproxy."), (X_KPROXY, "x-kproxy."))
    for options, prefix in sections:
        for name, _, option in options.walk(prefix):
            if isinstance(option.type, Anything) and not name.endswith((".wrappers", ".dns")):
                continue
            row = re.search(rf"^\| `{re.escape(name)}`.*\|$", TEXT, re.M)
            assert row is not None, name
            assert not row[0].endswith("|  |"), name


def proxy_options() -> set[str]:
    """The options of ``twistd kproxy``, without Twisted's own."""
    options = Options()
    return {f"--{name.rstrip('=')}" for name in options.longOpt} - {"--help", "--version"}


def test_every_option_of_twistd_kproxy_is_in_the_table() -> None:
    named = {name.split()[0] for name in first_column("twistd kproxy")}
    assert {name for name in named if name.startswith("--")} == proxy_options()


def test_every_option_has_an_environment_variable_that_is_in_the_table() -> None:
    expected = {f"KPROXY_{o[2:].upper().replace('-', '_')}" for o in proxy_options()}
    assert first_column("Environment variables") == expected


def test_the_environment_variables_stand_for_the_options() -> None:
    options = Options()
    environ = {
        "KPROXY_CONFIG": "a.yml:b.yml",
        "KPROXY_DESTINATION": "staging",
        "KPROXY_SERVER": "10.0.0.1",
        "KPROXY_HTTP_PORT": "8080",
        "KPROXY_HTTPS_PORT": "0",
        "KPROXY_METRICS_PORT": "9394",
        "KPROXY_BIND": "127.0.0.1,::1",
        "KPROXY_WORKERS": "auto",
        "KPROXY_STATE_DIR": "/srv/state",
        "KPROXY_SOCKET": "/run/kproxy.sock",
        "KPROXY_DEBUG": "yes",
    }
    assert set(environ) == first_column("Environment variables")
    options.read_environment(environ)
    assert [str(path) for path in options["config"]] == ["a.yml", "b.yml"]
    assert (options["destination"], options["server"]) == ("staging", "10.0.0.1")
    assert (options["http-port"], options["https-port"]) == (8080, 0)
    assert options["metrics-port"] == 9394
    assert options["bind"] == ["127.0.0.1", "::1"]
    assert (options["state-dir"], options["socket"]) == ("/srv/state", "/run/kproxy.sock")
    assert options["workers"] == "auto"
    assert options["debug"]


def test_commands_print_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    shown = [pair for b in blocks(PAGE) if b.language == "console" for pair in b.commands()]
    assert shown
    for command, output in shown:
        program, *arguments = command.split()
        assert program == "kproxy"
        assert main(arguments) == 0
        assert is_shown(capsys.readouterr().out, output), command


def test_every_answer_that_has_a_text_of_its_own_is_explained() -> None:
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.M)}
    assert explained >= set(error_pages._TEXTS)


def test_every_field_of_the_access_log_is_explained() -> None:
    (shown,) = (b.text for b in blocks(DOCS / "tutorial.md") if b.name == "access log")
    fields = set(json.loads(shown)) - {"req_user_agent"}  # test_tutorial_doc: these, no others
    assert first_column("Access log") == fields | {"req_…", "resp_…"}
