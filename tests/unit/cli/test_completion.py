"""What could come next in a command line."""

from __future__ import annotations

import pytest

from kproxy.cli import completion, main
from kproxy.cli.completion import FILES, candidates


def after(line: str, socket: str | None = None) -> list[str]:
    """What could follow a line, where a proxy has two services."""

    def services(path: str | None) -> list[str]:
        assert path == socket
        return ["shop", "shop:api"]

    return [candidate.text for candidate in candidates(main.parser(), line, services)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kproxy re", ["remove", "resume", "reload", "restart"]),
        ("kproxy --v", ["--version"]),
        ("kproxy rollout ", ["deploy", "set", "stop"]),
        ("kproxy nonsense ", []),
        ("kproxy pause ", ["shop", "shop:api"]),
        ("kproxy pause shop:", ["shop:api"]),
        ("kproxy pause shop ", []),
        ("kproxy rollout stop s", ["shop", "shop:api"]),
        ("kproxy deploy --force shop ", []),
        ("kproxy deploy --force ", ["shop", "shop:api"]),
        ("kproxy deploy --target ", []),
        ("kproxy deploy --target=a:1 ", ["shop", "shop:api"]),
        ("kproxy deploy --forc", ["--force"]),
        ("kproxy deploy --force --forc", []),
        ("kproxy deploy --force=", ["--force=true", "--force=false"]),
        ("kproxy deploy --force=f", ["--force=false"]),
        ("kproxy deploy --target a --targ", ["--target", "--target-timeout"]),
        ("kproxy deploy --deploy-timeout 3s --deploy-t", []),
        ("kproxy deploy --error-pages ", [FILES]),
        ("kproxy deploy --error-pages=", [FILES]),
        ("kproxy check ", [FILES]),
        ("kproxy check a.yml b", [FILES]),
        ("kproxy explain --header ", []),
        ("kproxy explain http://x --head", ["--header"]),
        ("kproxy explain --header A:b --head", ["--header"]),
        ("kproxy completion z", ["zsh"]),
        ("kproxy deploy 'not closed", []),
        ("kproxy", []),
    ],
)
def test_what_follows_is_what_the_parsers_take(line: str, expected: list[str]) -> None:
    assert after(line) == expected


def test_a_socket_that_was_named_is_asked() -> None:
    assert after("kproxy pause --socket /x.sock ", "/x.sock") == ["shop", "shop:api"]
    assert after("kproxy pause --socket=/x.sock s", "/x.sock") == ["shop", "shop:api"]


@pytest.mark.parametrize(
    ("shell", "shown"),
    [("bash", "a:b"), ("zsh", "a\\:b:what it is, 5%"), ("fish", "a:b\twhat it is, 5%")],
)
def test_each_shell_gets_candidates_in_its_own_form(shell: str, shown: str) -> None:
    assert completion._shown(completion.Candidate("a:b", "what it is, 5%%"), shell) == shown
    assert completion._shown(completion.Candidate(FILES), shell) == FILES


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_asks_this_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["completion", shell]) == 0
    assert f"completion {shell} --line=" in capsys.readouterr().out


def test_an_unknown_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
