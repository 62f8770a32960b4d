"""``kproxy check``, ``kproxy wrappers`` and the frame around them."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kproxy
import kproxy.plugins
from kproxy.cli import check, main, table
from kproxy.cli import wrappers as wrappers_command
from kproxy.config.schema import Boolean, Integer, Option, Seconds, Section
from kproxy.plugins import Failed, Installed, WrapperPlugin, Wrappers
from tests.support.certificates import DAY, Authority

Captured = pytest.CaptureFixture[str]
GOOD = """
service: app
servers: [10.0.0.1, 10.0.0.2]
proxy: {host: example.com, app_port: 3000, path_prefix: /api}
"""


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "deploy.yml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Section(
        Option("requests", Integer(minimum=1), required=True, help="How many."),
        Option("per", Seconds(), default=1.0, help="In which time."),
        Option("quiet", Boolean(), default=False),
    )
    limit = WrapperPlugin("limit", "Refuses requests.", lambda r, o: r, options)
    plain = WrapperPlugin("plain", "Does little.", lambda r, o: r)
    found = Wrappers(
        {"limit": Installed(limit, "x.limit"), "plain": Installed(plain, "x.plain")},
        (Failed("x.broken", "ImportError: gone"),),
    )
    monkeypatch.setattr(kproxy.plugins, "find_wrappers", lambda: found)


def test_check_says_ok_and_shows_what_the_file_means(deploy: Path, capsys: Captured) -> None:
    assert main.main(["check", "deploy.yml"]) == 0
    out, err = capsys.readouterr()
    assert out == (
        "OK\n"
        "SERVICE  HOSTS        PATHS  TARGETS                       WRAPPERS\n"
        "app-web  example.com  /api   10.0.0.1:3000, 10.0.0.2:3000  none\n"
    )
    assert err == ""


def test_check_takes_a_server_and_a_destination(deploy: Path, capsys: Captured) -> None:
    deploy.with_name("deploy.staging.yml").write_text("proxy: {host: s.example.com}\n")
    arguments = ["check", "deploy.yml", "--server", "10.0.0.2", "--destination=staging"]
    assert main.main(arguments) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split() == ["app-web-staging", "s.example.com", "/api", "10.0.0.2:3000", "none"]


CUSTOM = GOOD.replace("path_prefix: /api", "ssl: {certificate_pem: CERT, private_key_pem: KEY}")


def write_secrets(deploy: Path, chain: str, key: str) -> None:
    deploy.write_text(CUSTOM)
    secrets = deploy.with_name(".kamal") / "secrets"
    secrets.parent.mkdir()
    secrets.write_text(f"CERT='{chain}'\nKEY='{key}'\n")


def test_check_reads_certificates_and_warns_of_what_will_go_wrong(
    deploy: Path, capsys: Captured
) -> None:
    ca = Authority()
    soon = ca.now + 10 * DAY + timedelta(hours=1)
    pair = ca.issue("other.example", until=soon)
    write_secrets(deploy, pair.chain, pair.key)
    assert main.main(["check", "deploy.yml"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("OK\n")
    assert err.splitlines() == [
        f"warning: app-web: the secret CERT expires in 10 days, on {soon:%Y-%m-%d}",
        "warning: app-web: the secret CERT does not cover example.com; it is for other.example",
    ]


def test_check_fails_for_a_certificate_that_can_not_be_served(
    deploy: Path, capsys: Captured
) -> None:
    ca = Authority()
    write_secrets(deploy, ca.issue("example.com").chain, ca.issue("example.com").key)
    assert main.main(["check", "deploy.yml"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "app-web: the secret KEY does not belong to the secret CERT, which is for example.com\n"
    )


def test_check_prints_problems_one_a_line_and_fails(deploy: Path, capsys: Captured) -> None:
    deploy.write_text(GOOD + "proxi: 1\nworkers: 2\n")
    assert main.main(["check", "deploy.yml", "none.yml"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        'deploy.yml:5:1: proxi: is not a known option; did you mean "proxy"?',
        'deploy.yml:6:1: workers: is not a known option; did you mean "servers"?',
        "none.yml:1:1: can't be read: No such file or directory",
    ]


def test_check_reads_the_environment(
    deploy: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPROXY_TEST_HOST", "env.example.com")
    deploy.write_text(GOOD.replace("example.com", '<%= ENV["KPROXY_TEST_HOST"] %>'))
    assert main.main(["check", "deploy.yml"]) == 0
    assert "env.example.com" in capsys.readouterr().out


@pytest.mark.usefixtures("installed")
def test_check_shows_wrappers_and_warns_of_broken_plugins(deploy: Path, capsys: Captured) -> None:
    deploy.write_text(GOOD + "x-kproxy: {wrappers: [plain, limit: {requests: 3}]}\n")
    assert main.main(["check", "deploy.yml"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].endswith("plain, limit")
    assert err == "warning: the plug-in module x.broken can't be used: ImportError: gone\n"


@pytest.mark.usefixtures("installed")
def test_wrappers_are_listed_with_their_options(capsys: Captured) -> None:
    assert main.main(["wrappers"]) == 0
    out, err = capsys.readouterr()
    assert out == (
        "limit\n"
        "  Refuses requests.\n"
        "  from x.limit\n"
        "  OPTION    VALUE                   DEFAULT\n"
        "  requests  an integer, at least 1  required  How many.\n"
        "  per       a number of seconds     1         In which time.\n"
        "  quiet     true or false           false\n"
        "\n"
        "plain\n"
        "  Does little.\n"
        "  from x.plain\n"
        "  no options\n"
    )
    assert "x.broken" in err


@pytest.mark.usefixtures("installed")
def test_one_wrapper_can_be_shown(capsys: Captured) -> None:
    assert main.main(["wrappers", "plain"]) == 0
    assert capsys.readouterr().out.startswith("plain\n")


@pytest.mark.usefixtures("installed")
def test_an_unknown_wrapper_gets_the_nearest_name(capsys: Captured) -> None:
    assert main.main(["wrappers", "limmit"]) == 1
    assert 'Error: there is no wrapper "limmit"; did you mean "limit"?' in capsys.readouterr().err


def test_a_default_that_can_not_be_imported_does_not_stop_the_listing(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    section: Section[Any] = Section(Option("size", Integer()), into="no.such.Options")
    plugin = WrapperPlugin("far", "Is far away.", "no.such.Wrapper", section)
    found = Wrappers({"far": Installed(plugin, "x.far")})
    monkeypatch.setattr(kproxy.plugins, "find_wrappers", lambda: found)
    assert main.main(["wrappers"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "  size    an integer  ?"


def test_no_wrappers_are_said_to_be_none(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kproxy.plugins, "find_wrappers", lambda: Wrappers({}))
    assert main.main(["wrappers"]) == 0
    assert capsys.readouterr().out == "No wrappers are installed.\n"


def test_the_version_is_told(capsys: Captured) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"kproxy {kproxy.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["check"], ["chekc"], ["check", "--no"]])
def test_wrong_usage_has_status_2(capsys: Captured, arguments: list[str]) -> None:
    assert main.main(arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("Error: ")
    assert said[1].endswith(" --help tells what there is.")


def test_a_fault_of_our_own_is_one_line(
    deploy: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kproxy.plugins, "find_wrappers", lambda: 1 / 0)
    assert main.main(["check", "deploy.yml"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("kproxy: a fault of kproxy's own: ZeroDivisionError")
    assert err.count("\n") == 1


def test_an_interrupt_ends_quietly(
    capsys: Captured, deploy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kproxy.plugins, "find_wrappers", interrupted)
    assert main.main(["check", "deploy.yml"]) == main.INTERRUPTED
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_goes_away_ends_it_quietly(deploy: Path) -> None:
    program = "import sys; from kproxy.cli.main import main; sys.exit(main())"
    root = Path(kproxy.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", program, "check", str(deploy)],
        env={"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == main.READER_GONE


def test_reading_a_configuration_does_not_import_twisted() -> None:
    program = "import sys, kproxy.config; print('twisted' in sys.modules)"
    root = Path(kproxy.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "False\n"


def test_a_table_is_as_wide_as_its_cells() -> None:
    assert table.table(("A", "B"), [("xyz", ""), ("", "q")]) == "A    B\nxyz\n     q"


def test_every_group_registers_commands() -> None:
    assert {check, wrappers_command} <= set(main.GROUPS)
