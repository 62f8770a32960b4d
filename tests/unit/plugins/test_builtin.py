"""The wrappers that come with kproxy, as an operator uses them by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kproxy
from kproxy.cli.main import main
from kproxy.config.model import Service
from kproxy.plugins import find_wrappers
from tests.unit.config.helpers import Files

BUILTIN = {
    name: installed
    for name, installed in find_wrappers().installed.items()
    if installed.module == "kproxy.plugins.builtin"
}


def with_wrapper(wrapper: str) -> str:
    return f"service: app\nservers: [a]\nx-kproxy:\n  wrappers:\n  - {wrapper}\n"


def use(files: Files, wrapper: str) -> Service:
    return files.service(with_wrapper(wrapper), wrappers=find_wrappers())


def options(files: Files, wrapper: str) -> Any:
    return use(files, wrapper).wrappers[0].options


def test_all_wrappers_of_the_tree_are_announced() -> None:
    assert sorted(BUILTIN) == [
        "access-log",
        "acme-challenge",
        "canonical-host",
        "error-pages",
        "forward-headers",
        "gate",
        "metrics",
        "path-prefix",
        "refuse-tls",
        "request-buffer",
        "request-id",
        "request-limit",
        "request-start",
        "response-buffer",
        "scope-cookies",
        "ssl-redirect",
        "writer-affinity",
    ]


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_every_option_is_one_that_the_wrapper_takes_and_says_what_it_is(name: str) -> None:
    section: Any = BUILTIN[name].plugin.options
    parameters = {each.name.replace("-", "_") for each in section.options}
    assert parameters <= set(getattr(section.into, "__annotations__", ()))
    assert all(option.help for option in section.options)


@pytest.mark.parametrize(
    ("name", "option", "default"),
    [
        ("request-buffer", "memory", 2**20),
        ("request-buffer", "max_body", 2**30),
        ("response-buffer", "max_body", 0),
        ("gate", "max_pause", 30.0),
        ("forward-headers", "forward", True),
        ("error-pages", "path", None),
    ],
)
def test_the_default_of_an_option_is_that_of_the_wrapper(
    name: str, option: str, default: object
) -> None:
    section: Any = BUILTIN[name].plugin.options
    (found,) = [each for each in section.options if each.name == option]
    assert section.default_of(found) == default


def test_defaults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wrappers", "request-buffer"]) == 0
    assert "  max_body  an integer, at least 0  1073741824  " in capsys.readouterr().out


def test_options_are_those_that_were_written(files: Files) -> None:
    gate = options(files, "gate: {state: stopped, message: Closed}")
    assert (gate.state, gate.message, gate.max_pause) == ("stopped", "Closed", 30.0)


def test_what_is_compared_with_a_request_is_kept_in_its_canonical_form(files: Files) -> None:
    assert options(files, "canonical-host: {host: WWW.Example.com.}").host == "www.example.com"
    assert options(files, "path-prefix: {path_prefixes: [api/]}").path_prefixes == ("/api",)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("canonical-host", "x-kproxy.wrappers.canonical-host: host is missing"),
        (
            "canonical-host: {host: a_b}",
            "x-kproxy.wrappers.canonical-host.host: should be a host name",
        ),
        (
            "forward-headers: {client_ip_header: 'X Y'}",
            "x-kproxy.wrappers.forward-headers.client_ip_header: should be the name of a header",
        ),
        (
            "request-limit: {max_body: 0}",
            "x-kproxy.wrappers.request-limit.max_body: should be an integer, at least 1, is 0",
        ),
        (
            "error-pages: {path: /no/such/folder}",
            "x-kproxy.wrappers.error-pages: path should be a folder that exists, is '/no/such/folder'",
        ),
        (
            "gate: {state: paus}",
            "x-kproxy.wrappers.gate.state: should be running, paused or stopped",
        ),
        ("request-id: {x: 1}", "x-kproxy.wrappers.request-id.x: is not a known option"),
    ],
)
def test_options_that_can_not_be_are_a_problem_of_the_file(
    files: Files, wrapper: str, message: str
) -> None:
    (problem,) = files.problems(with_wrapper(wrapper), wrappers=find_wrappers())
    assert message in problem


def test_finding_the_wrappers_imports_none_of_them() -> None:
    program = (
        "import sys\n"
        "from kproxy.plugins import find_wrappers\n"
        "find_wrappers()\n"
        "print([name for name in sys.modules if name.startswith('kproxy.wrappers')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(kproxy.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n"
