"""``kproxy run``: what it makes of its options."""

from __future__ import annotations

import pytest

from kproxy.cli import main
from kproxy.cli.run import arguments


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        ("", []),
        ("--debug --http-port 8080", ["--http-port=8080", "--debug"]),
        ("--debug=false", []),
        ("--bind ::1 --bind=127.0.0.1", ["--bind=::1", "--bind=127.0.0.1"]),
        ("--state-dir s --socket k", ["--state-dir=s", "--socket=k"]),
    ],
)
def test_what_is_said_is_passed_on_and_nothing_else(said: str, passed: list[str]) -> None:
    assert arguments(main.parser().parse_args(["run", *said.split()])) == passed


@pytest.mark.parametrize("said", ["--http-port much", "--http-port 65536", "--http-port=-1", "x"])
def test_wrong_usage_has_status_2(said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["run", *said.split()]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("Error: ")
    assert hint == "kproxy run --help tells what there is."
