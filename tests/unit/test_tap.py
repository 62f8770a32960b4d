"""The command line of ``twistd kproxy``: what is wrong with it is told in a sentence."""

from __future__ import annotations

import pytest

from kproxy.tap import Options


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ("--http-port=much", '--http-port should be a port number, is "much"'),
        ("--https-port=65536", '--https-port should be a port number, is "65536"'),
        ("--metrics-port=-1", '--metrics-port should be a port number, is "-1"'),
        ("--nonsense", "option --nonsense not recognized"),
        ("deploy.yml", 'there is one argument too many: "deploy.yml"'),
    ],
)
def test_a_mistake_ends_the_start_with_a_sentence(argument: str, error: str) -> None:
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions([argument])
    first, hint = str(ended.value.code).splitlines()
    assert first == f"Error: {error}"
    assert hint == "twistd kproxy --help tells what there is."


def test_a_mistake_in_the_environment_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPROXY_HTTPS_PORT", "much")
    with pytest.raises(SystemExit, match=r"^Error: KPROXY_HTTPS_PORT should be a port number, is "):
        Options().parseOptions([])


def test_what_the_command_line_says_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KPROXY_HTTP_PORT", "81")
    monkeypatch.setenv("KPROXY_HTTPS_PORT", "444")
    options = Options()
    options.parseOptions(["--http-port=0"])
    assert (options["http-port"], options["https-port"], options["metrics-port"]) == (0, 444, None)
